"""Authentication at a meta node: Basic, Token, query values, or a JSON Web Token.

Source: influxdb-cluster services/meta/handler.go, authenticate and parseCredentials.
"""

from __future__ import annotations

import base64
import binascii
import time

from msgspec import Struct

from resources.embedded.meta.passwords import fits
from resources.embedded.web import Request
from resources.errors import CredentialsRefused
from resources.model import Metastore, UserInfo
from resources.protocol.jwt import verified_user
from resources.values import repr_without


class MetaAuth(Struct, frozen=True):
    """The settings of `auth-enabled`; without `enabled` every request is allowed."""

    enabled: bool = False
    shared_secret: str = ""
    """The secret for tokens of users."""
    internal_shared_secret: str = ""
    """The secret for tokens without a user, which nodes and influxd-ctl send."""

    __repr__ = repr_without("shared_secret", "internal_shared_secret")

    def objection(self, request: Request, store: Metastore) -> tuple[int, str] | None:
        """Status and reason to refuse a request, or None; every user has all rights."""
        if not self.enabled:
            return None
        if not any(user.admin for user in store.users):
            return 400, "must create admin user first"
        token = _bearer(request)
        if token is None:
            return user_objection(request, store)
        try:
            name = verified_user(token, self._secret_of, time.time())
        except CredentialsRefused as error:
            return 401, error.what
        if name and _user(store, name) is None:
            return 401, "user not found"
        return None

    def _secret_of(self, user: str) -> str:
        if not user:
            return self.internal_shared_secret
        if not self.shared_secret:
            raise CredentialsRefused("bearer auth disabled")
        return self.shared_secret


def user_objection(request: Request, store: Metastore) -> tuple[int, str] | None:
    """Status and reason to refuse a request by name and password, or None."""
    given = credentials(request)
    if given is None:
        return 401, "unable to parse authentication credentials"
    name, password = given
    if not name:
        return 401, "username required"
    user = _user(store, name)
    if user is None or not fits(password, user.hash):
        return 401, "authorization failed"
    return None


def credentials(request: Request) -> tuple[str, str] | None:
    """Name and password from the URL, or from the header as Token or Basic."""
    values = request.values()
    if values.get("u") and values.get("p"):
        return values["u"], values["p"]
    kind, _, reply = request.headers.get("Authorization", "").partition(" ")
    if kind == "Token":
        text = reply
    elif kind.lower() == "basic":
        try:
            text = base64.b64decode(reply, validate=True).decode()
        except (binascii.Error, ValueError):
            return None
    else:
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def _bearer(request: Request) -> str | None:
    values = request.values()
    if values.get("u") and values.get("p"):
        return None
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else None


def _user(store: Metastore, name: str) -> UserInfo | None:
    return next((user for user in store.users if user.name == name), None)
