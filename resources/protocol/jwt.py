"""JSON Web Tokens for meta nodes: HMAC-SHA512, a user name and an expiry.

Wire: base64url without padding, three parts separated by dots:
    {"alg":"HS512","typ":"JWT"} . {"exp":seconds since 1970,"username":"…"} . signature

Source: influxdb-cluster pkg/jwtutil/jwt.go and services/meta/handler.go, authenticate.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable

from resources.errors import BadReply, CredentialsRefused
from resources.protocol.strict_json import Json, decode_json, is_integer, is_object

LIFETIME_S = 300
MAX_TOKEN_CHARS = 8192

_HEADER = {"alg": "HS512", "typ": "JWT"}


def signed_token(user: str, secret: str, now_s: float, *, lifetime_s: int = LIFETIME_S) -> str:
    """Make a token that is valid from `now_s` on for `lifetime_s`.

    A meta node checks a token without a user against its internal-shared-secret, and one
    with a user against its shared-secret.
    """
    claims = {"exp": int(now_s) + lifetime_s, "username": user}
    unsigned = f"{_encoded(_json(_HEADER))}.{_encoded(_json(claims))}"
    return f"{unsigned}.{_signature(unsigned, secret)}"


def verified_user(token: str, secret_of: Callable[[str], str], now_s: float) -> str:
    """Verify a token and return its user, as a server does.

    Args:
        token: the text after `Bearer`.
        secret_of: the secret for the tokens of a user; the user may be empty.
        now_s: seconds since 1970.

    Raises:
        CredentialsRefused: the token is malformed or expired, or has another signature or method.
    """
    unsigned, _, signature = token.rpartition(".")
    header, dot, claims = unsigned.partition(".")
    if len(token) > MAX_TOKEN_CHARS or not dot or "." in claims:
        raise CredentialsRefused("token is malformed")
    user = _decoded(claims).get("username")
    if not isinstance(user, str):
        raise CredentialsRefused("username in token must be a string")
    expected = _signature(unsigned, secret_of(user))
    genuine = hmac.compare_digest(expected.encode(), signature.encode())
    end_s: object = _decoded(claims).get("exp")
    if not genuine or _decoded(header).get("alg") != "HS512":
        raise CredentialsRefused("signature is invalid")
    if not is_integer(end_s) or end_s <= now_s:
        raise CredentialsRefused("signature is invalid")
    return user


def _json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _signature(unsigned: str, secret: str) -> str:
    return _encoded(hmac.digest(secret.encode(), unsigned.encode(), hashlib.sha512))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(part: str) -> Json:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars="-_", validate=True)
        value = decode_json(raw, "token")
    except (BadReply, binascii.Error, ValueError):
        raise CredentialsRefused("token is malformed") from None
    if not is_object(value):
        raise CredentialsRefused("token is malformed")
    return value
