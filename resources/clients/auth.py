"""Authentication with meta nodes: none, by password, or by a signed token."""

from __future__ import annotations

import base64
from enum import StrEnum

from msgspec import Struct

from resources.clients.redaction import redacted
from resources.errors import UsageError
from resources.protocol.jwt import signed_token
from resources.values import repr_without


class AuthType(StrEnum):
    """The values of `influxd-ctl -auth-type`."""

    NONE = "none"
    BASIC = "basic"
    JWT = "jwt"


class Auth(Struct, frozen=True):
    """Credentials for the meta nodes' HTTP API; `repr` shows no secret."""

    type: AuthType = AuthType.NONE
    user: str = ""
    password: str = ""
    secret: str = ""

    __repr__ = repr_without("password", "secret")

    @classmethod
    def none(cls) -> Auth:
        return cls()

    @classmethod
    def basic(cls, user: str, password: str) -> Auth:
        """Authenticate by a user and password of the cluster.

        Raises:
            UsageError: the user is empty or has a colon.
        """
        if not user or ":" in user:
            raise UsageError("basic authentication takes a user, and no colon in its name")
        return cls(AuthType.BASIC, user, password=password)

    @classmethod
    def jwt(cls, secret: str, user: str = "") -> Auth:
        """Authenticate by internal-shared-secret, or with a user by shared-secret.

        Raises:
            UsageError: the secret is empty.
        """
        if not secret:
            raise UsageError("authentication by token takes a shared secret")
        return cls(AuthType.JWT, user, secret=secret)

    @property
    def hint(self) -> str:
        """The next step after a meta node has refused these credentials."""
        match self.type:
            case AuthType.NONE:
                return "the meta nodes want credentials: give a user, or their shared secret"
            case AuthType.BASIC:
                return "check user and password; any user of the cluster will do"
            case AuthType.JWT:
                secret = "shared-secret" if self.user else "internal-shared-secret"
                return f"the secret must be the meta nodes' {secret}, and the clocks must agree"

    def header(self, now_s: float) -> str | None:
        """The Authorization header at this time; a token expires after five minutes."""
        match self.type:
            case AuthType.NONE:
                return None
            case AuthType.BASIC:
                pair = f"{self.user}:{self.password}".encode()
                return f"Basic {base64.b64encode(pair).decode()}"
            case AuthType.JWT:
                return f"Bearer {signed_token(self.user, self.secret, now_s)}"

    def redacted(self, text: str) -> str:
        """`text` without our secrets, which a server may repeat."""
        return redacted(text, self.user, self.password, self.secret)
