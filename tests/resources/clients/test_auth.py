"""How to say who we are to a meta node, and that secrets stay out of every text."""

from __future__ import annotations

import base64

import pytest

from resources.clients.auth import Auth, AuthType
from resources.errors import UsageError

CANARY = "c4n4ry-secret"
NOW = 1_795_341_060.0


def test_without_credentials_there_is_no_header() -> None:
    assert Auth.none().header(NOW) is None


def test_user_and_password_are_joined_by_the_first_colon() -> None:
    header = Auth.basic("ann", f"a:b:{CANARY}").header(NOW)
    assert header is not None
    assert base64.b64decode(header.removeprefix("Basic ")) == f"ann:a:b:{CANARY}".encode()


@pytest.mark.parametrize("user", ["", "a:b", ":"])
def test_a_user_that_the_header_cannot_carry_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="no colon"):
        Auth.basic(user, CANARY)


def test_a_token_is_signed_anew_for_each_request_and_hides_its_secret() -> None:
    auth = Auth.jwt(CANARY, "ann")
    first, later = auth.header(NOW), auth.header(NOW + 60)
    assert first is not None
    assert first.startswith("Bearer ")
    assert first != later
    assert CANARY not in first


def test_a_token_needs_a_secret() -> None:
    with pytest.raises(UsageError, match="shared secret"):
        Auth.jwt("")


@pytest.mark.parametrize("auth", [Auth.basic("ann", CANARY), Auth.jwt(CANARY)])
def test_secrets_are_in_no_repr_and_are_taken_out_of_what_a_server_repeats(auth: Auth) -> None:
    assert CANARY not in repr(auth)
    assert CANARY not in str(auth)
    assert CANARY not in auth.redacted(f"you sent {CANARY}")


@pytest.mark.parametrize(
    ("auth", "hint"),
    [
        (Auth.none(), "want credentials"),
        (Auth.basic("ann", "p"), "check user and password"),
        (Auth.jwt("s"), "the meta nodes' internal-shared-secret"),
        (Auth.jwt("s", "ann"), "the meta nodes' shared-secret"),
    ],
)
def test_each_kind_has_a_next_step_of_its_own(auth: Auth, hint: str) -> None:
    assert hint in auth.hint


def test_the_kinds_are_those_of_the_original_flag() -> None:
    assert [str(kind) for kind in AuthType] == ["none", "basic", "jwt"]
