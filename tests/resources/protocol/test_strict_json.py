from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply
from resources.protocol.strict_json import decode_as, decode_json, is_integer


@pytest.mark.fault(69)
def test_integers_stay_exact() -> None:
    assert decode_json(b'{"a":18446744073709551615,"b":9007199254740993}', "x") == {
        "a": 2**64 - 1,
        "b": 2**53 + 1,
    }


@pytest.mark.fault(93)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b'{"a":1,"a":2}',
        b'{"b":{"a":1,"a":1}}',
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"9" * 5000 + b"]",
        b"{} {}",
    ],
    ids=lambda raw: repr(raw[:16]),
)
def test_bombs_and_oddities_are_refused(raw: bytes) -> None:
    with pytest.raises(BadReply, match=r"^the reply "):
        decode_json(raw, "the reply")


@given(st.binary(max_size=100))
def test_only_our_errors_escape(raw: bytes) -> None:
    with contextlib.suppress(BadReply):
        decode_json(raw, "it")


def test_true_is_no_integer() -> None:
    assert is_integer(1)
    assert not is_integer(True)
    assert not is_integer(1.0)


def test_half_a_character_where_another_type_belongs_is_refused() -> None:
    with pytest.raises(BadReply, match="half a character"):
        decode_as(dict[str, int], b'{"a": "\\ud800"}', "record")
