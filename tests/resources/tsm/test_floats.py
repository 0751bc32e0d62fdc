"""Floats: every value but NaN comes back bit by bit, and no bytes become too many values."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockUndecodable, TSMError
from resources.tsm.floats import CHUNK_BYTES, decode_floats, encode_floats

BITS = st.integers(0, 2**64 - 1).filter(
    lambda bits: not np.isnan(struct.unpack(">d", bits.to_bytes(8))[0])
)
WRITTEN_BY_INFLUXD = bytes.fromhex("103ff8000000000000c26ffff01d001e002ffc00000000000040")


def floats(*bits: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(bits, dtype=np.uint64).view(np.float64)


@settings(max_examples=40)
@given(st.lists(BITS | st.sampled_from([0, 1 << 63, 0x3FF0000000000000]), min_size=1, max_size=80))
def test_all_values_but_nan_come_back_bit_by_bit(bits: list[int]) -> None:
    decoded = decode_floats(encode_floats(floats(*bits)), len(bits))
    assert decoded.view(np.uint64).tolist() == bits


def test_the_bytes_are_the_servers() -> None:
    values = np.array([1.5, 2.5, -3.0])
    assert encode_floats(values) == WRITTEN_BY_INFLUXD
    assert decode_floats(WRITTEN_BY_INFLUXD, 3).tolist() == [1.5, 2.5, -3.0]


@settings(max_examples=40)
@given(st.integers(1, 5000))
def test_a_value_that_repeats_takes_one_bit(n: int) -> None:
    data = encode_floats(np.full(n, 2.25))
    assert len(data) <= 9 + (n - 1 + 77 + 7) // 8
    assert decode_floats(data, n).tolist() == [2.25] * n


def test_values_may_lie_across_the_chunks_in_which_they_are_read() -> None:
    values = np.random.default_rng(3).normal(size=CHUNK_BYTES // 4)
    data = encode_floats(values)
    assert len(data) > CHUNK_BYTES
    assert (decode_floats(data, len(values)) == values).all()


def test_nan_is_the_end_mark_and_cannot_be_written() -> None:
    with pytest.raises(TSMError, match="value 1 is NaN"):
        encode_floats(np.array([1.0, np.nan]))


@pytest.mark.parametrize("n", [2, 4])
def test_another_number_of_values_is_refused(n: int) -> None:
    with pytest.raises(BlockUndecodable):
        decode_floats(WRITTEN_BY_INFLUXD, n)


@pytest.mark.parametrize("end", range(len(WRITTEN_BY_INFLUXD) - 1))
def test_a_block_that_is_cut_anywhere_is_refused(end: int) -> None:
    with pytest.raises(BlockUndecodable):
        decode_floats(WRITTEN_BY_INFLUXD[:end], 3)


@settings(max_examples=40)
@given(st.binary(max_size=60), st.integers(0, 50))
def test_hostile_bits_give_as_many_values_as_asked_for_or_our_error(bits: bytes, n: int) -> None:
    with contextlib.suppress(BlockUndecodable):
        assert len(decode_floats(b"\x10" + bits, n)) == n
