"""How to say who we are to a meta node: not at all, by password, or by a signed token."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from enum import StrEnum

from resources.clients.redaction import redacted
from resources.errors import UsageError
from resources.protocol.jwt import signed_token


class AuthType(StrEnum):
    """As `influxd-ctl -auth-type` takes them."""

    NONE = "none"
    BASIC = "basic"
    JWT = "jwt"


@dataclass(frozen=True, slots=True)
class Auth:
    """Credentials for the meta nodes' HTTP API; the secret ones are in no `repr`."""

    type: AuthType = AuthType.NONE
    user: str = ""
    password: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    @classmethod
    def none(cls) -> Auth:
        return cls()

    @classmethod
    def basic(cls, user: str, password: str) -> Auth:
        """User and password of the cluster.

        Raises:
            UsageError: there is no user.
        """
        if not user or ":" in user:
            raise UsageError("basic authentication takes a user, and no colon in its name")
        return cls(AuthType.BASIC, user, password=password)

    @classmethod
    def jwt(cls, secret: str, user: str = "") -> Auth:
        """A secret of the meta nodes: internal-shared-secret, or shared-secret with a user.

        Raises:
            UsageError: there is no secret.
        """
        if not secret:
            raise UsageError("authentication by token takes a shared secret")
        return cls(AuthType.JWT, user, secret=secret)

    @property
    def hint(self) -> str:
        """What to check when the credentials were refused."""
        match self.type:
            case AuthType.NONE:
                return "the meta nodes want credentials: give a user, or their shared secret"
            case AuthType.BASIC:
                return "check user and password; any user of the cluster will do"
            case AuthType.JWT:
                secret = "shared-secret" if self.user else "internal-shared-secret"
                return f"the secret must be the meta nodes' {secret}, and the clocks agree"

    def header(self, now_s: float) -> str | None:
        """The Authorization header for a request that is sent now; a token lives five minutes."""
        match self.type:
            case AuthType.NONE:
                return None
            case AuthType.BASIC:
                pair = f"{self.user}:{self.password}".encode()
                return f"Basic {base64.b64encode(pair).decode()}"
            case AuthType.JWT:
                return f"Bearer {signed_token(self.user, self.secret, now_s)}"

    def redacted(self, text: str) -> str:
        """`text` without our secrets, should a server repeat them."""
        return redacted(text, self.user, self.password, self.secret)
