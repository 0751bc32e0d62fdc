"""Numbers of seven bits a byte: all that fit 64 bits come back, and nothing beyond is read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockUndecodable
from resources.tsm.varint import MAX_BYTES, encode_uvarint, uvarint

UINT64 = st.integers(0, 2**64 - 1)


@settings(max_examples=40)
@given(UINT64, st.binary(max_size=3), st.binary(max_size=3))
def test_every_number_of_64_bits_comes_back_from_anywhere(
    value: int, before: bytes, after: bytes
) -> None:
    data = before + encode_uvarint(value) + after
    end = len(data) - len(after)
    assert uvarint(data, len(before), len(data)) == (value, end)
    assert uvarint(data, len(before), end) == (value, end)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**64 - 1, "ff" * 9 + "01")],
)
def test_the_bytes_are_gos(value: int, written: str) -> None:
    assert encode_uvarint(value).hex() == written


@settings(max_examples=40)
@given(UINT64)
def test_a_number_that_is_cut_is_refused_with_its_place(value: int) -> None:
    data = encode_uvarint(value)
    for end in range(len(data)):
        with pytest.raises(BlockUndecodable, match=f"number cut at byte {end}"):
            uvarint(data, 0, end)


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 9 + b"\x02", b"\xff" * MAX_BYTES, b"\x80" * 11 + b"\x01", b"\xff" * 9 + b"\x7f"],
)
def test_a_number_beyond_64_bits_is_refused(data: bytes) -> None:
    with pytest.raises(BlockUndecodable, match="beyond 64 bits at byte 0"):
        uvarint(data, 0, len(data))


def test_leading_zeros_are_taken_as_gos_reader_takes_them() -> None:
    assert uvarint(b"\x80\x00", 0, 2) == (0, 2)
