from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import CredentialsRefused
from resources.protocol.jwt import signed_token, verified_user

TOKEN = (
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9"
    ".eyJleHAiOjE3MDAwMDAzMDAsInVzZXJuYW1lIjoiYWRtaW4ifQ"
    ".KGQjbbUY0z60OugxCVFrSV4kLedFEYhwcwykoVtavOC2SWgTq7HkvLAXmJl9j0QFF7jAyYIinavG6OaLdY9kog"
)
"""Of `admin`, signed with "sharedsecret" at 1700000000; a cluster took its like."""

NOW_S = 1_700_000_000.9


def secret_of(user: str) -> str:
    return "sharedsecret" if user else "internalsecret"


def test_a_token_is_the_one_that_influxd_ctl_makes() -> None:
    assert signed_token("admin", "sharedsecret", NOW_S) == TOKEN


@pytest.mark.fault(79)
def test_a_token_names_its_user_until_it_expires() -> None:
    assert verified_user(TOKEN, secret_of, NOW_S) == "admin"
    assert verified_user(TOKEN, secret_of, 1_700_000_299.9) == "admin"
    with pytest.raises(CredentialsRefused, match="signature is invalid"):
        verified_user(TOKEN, secret_of, 1_700_000_300)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text("aé$", min_size=1))
def test_both_directions_agree(user: str, secret: str) -> None:
    token = signed_token(user, secret, NOW_S)
    assert verified_user(token, lambda _: secret, NOW_S) == user
    with pytest.raises(CredentialsRefused):
        verified_user(token, lambda _: secret + "x", NOW_S)


@pytest.mark.parametrize("cut", range(len(TOKEN)))
def test_a_token_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(CredentialsRefused):
        verified_user(TOKEN[:cut], secret_of, NOW_S)


def signed(header: object, claims: object, *, secret: str = "sharedsecret") -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    unsigned = f"{part(header)}.{part(claims)}"
    mac = hmac.digest(secret.encode(), unsigned.encode(), hashlib.sha512)
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


HS512 = {"alg": "HS512", "typ": "JWT"}


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        (signed(HS512, {"exp": 2**40, "username": ""}), "signature is invalid"),
        (signed(HS512, {"username": "admin"}), "signature is invalid"),
        (signed(HS512, {"exp": True, "username": "admin"}), "signature is invalid"),
        (signed({"alg": "none"}, {"exp": 2**40, "username": "admin"}), "signature is invalid"),
        (signed(HS512, {"exp": 2**40}), "username in token must be a string"),
        (signed(HS512, {"exp": 2**40, "username": 7}), "username in token must be a string"),
        (signed(HS512, []), "malformed"),
        (signed([], {"exp": 2**40, "username": "admin"}), "malformed"),
        ("", "malformed"),
        ("a.b", "malformed"),
        ("a.b.c.d", "malformed"),
        ("a.é.c", "malformed"),
        ("x" * 10_000 + ".b.c", "malformed"),
    ],
)
def test_what_no_meta_node_takes_is_refused(token: str, complaint: str) -> None:
    with pytest.raises(CredentialsRefused, match=complaint):
        verified_user(token, secret_of, NOW_S)


@given(st.text(max_size=60))
def test_arbitrary_text_is_refused_politely(text: str) -> None:
    with pytest.raises(CredentialsRefused):
        verified_user(text, secret_of, NOW_S)
