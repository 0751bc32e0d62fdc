"""Keys of a TSM file: a series and a field, and how they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import TSMError
from resources.tsm.layout import shown, split_key


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (b"cpu,host=a#!~#value", (b"cpu,host=a", b"value")),
        (b"cpu#!~#", (b"cpu", b"")),
        (b"cpu#!~#a#!~#b", (b"cpu", b"a#!~#b")),  # the first separator counts
    ],
)
def test_a_key_is_split_at_the_first_separator(key: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_key(key) == parts


@pytest.mark.parametrize("key", [b"", b"cpu", b"#!~#value", b"cpu#!~value"])
def test_a_key_without_a_series_or_a_separator_is_refused(key: bytes) -> None:
    with pytest.raises(TSMError, match="is not a series key"):
        split_key(key)


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_a_key_is_shown_on_one_line_of_bounded_length(key: bytes) -> None:
    text = shown(key)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 900


def test_a_long_key_says_how_long_it_is() -> None:
    assert shown(b"x" * 201).endswith("'... of 201 bytes")
    assert shown(b"x" * 200) == f"'{'x' * 200}'"
