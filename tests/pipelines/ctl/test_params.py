"""Values of flags are read as Go's `flag` package reads them."""

from __future__ import annotations

import click
import pytest

from pipelines.ctl.params import Integer

ANY = Integer(min=0, max=2**64 - 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("00", 0),
        ("7", 7),
        ("010", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("0x_f", 15),
        ("0_7", 7),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_numbers_have_the_bases_of_go(text: str, value: int) -> None:
    assert ANY.convert(text, None, None) == value


@pytest.mark.parametrize(
    "text",
    ["", " 7", "7 ", "-1", "+1", "08", "1__0", "_1", "1_", "0x", "1e3", "\uff17", "7.0", "9" * 101],
)
def test_nothing_else_is_a_number(text: str) -> None:
    with pytest.raises(click.BadParameter):
        ANY.convert(text, None, None)


def test_a_number_beyond_the_range_is_refused() -> None:
    with pytest.raises(click.BadParameter):
        ANY.convert("18446744073709551616", None, None)
