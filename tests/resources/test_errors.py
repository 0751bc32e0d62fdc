"""Errors: what happened, the next step, an exit status, and names that cannot forge a line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resources.errors as module
from resources.errors import (
    ExitCode,
    LockLost,
    PeerUnreachable,
    ShardkeeperError,
    readable_size,
    shown,
)

KINDS = [
    kind
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ShardkeeperError)
]


def test_notes_are_part_of_what_is_said_and_the_hint_is_not() -> None:
    error = PeerUnreachable("h:8088 is closed", hint="open it")
    error.add_note("while shard 7 was read")
    error.add_note("twice")
    assert str(error) == "h:8088 is closed (while shard 7 was read) (twice)"
    assert error.what == "h:8088 is closed"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_made_of_a_sentence_and_a_hint(kind: type[ShardkeeperError]) -> None:
    assert kind("what").hint == ""
    assert kind("what").exit_code in set(ExitCode) - {ExitCode.DONE}


def test_a_lock_that_was_lost_has_the_status_of_a_lock() -> None:
    assert LockLost("x").exit_code == ExitCode.LOCKED


def test_what_may_heal_may_be_tried_again_and_nothing_else() -> None:
    assert PeerUnreachable("x").retryable
    assert not ShardkeeperError("x").retryable


@settings(max_examples=50)
@given(st.text(max_size=300), st.integers(1, 200))
def test_a_name_from_outside_is_one_line_of_ascii_of_bounded_length(text: str, limit: int) -> None:
    found = shown(text, limit)
    assert found.removesuffix("…").isascii()
    assert found.removesuffix("…").isprintable()
    assert len(found) <= 10 * limit + 3


@pytest.mark.parametrize(
    ("text", "found"),
    [("home", "'home'"), ("a'b", '"a\'b"'), ("a\nb", r"'a\nb'"), ("x" * 121, f"'{'x' * 120}'…")],
)
def test_a_name_is_quoted_and_cut(text: str, found: str) -> None:
    assert shown(text) == found


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2 * 10**9, "2.0 GB"),
        (3 * 10**12, "3.0 TB"),
        (5 * 10**18, "5000.0 PB"),
    ],
)
def test_a_size_has_the_largest_unit_below_it(size_bytes: int, text: str) -> None:
    assert readable_size(size_bytes) == text
