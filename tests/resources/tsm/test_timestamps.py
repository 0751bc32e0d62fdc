"""Timestamps of a block: any come back, in the encoding that a server would choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.tsm.simple8b import MAX_VALUE
from resources.tsm.time_counts import PACKED, RAW, RLE
from resources.tsm.timestamps import decode_timestamps, encode_timestamps

INT64 = st.integers(-(2**63), 2**63 - 1)
S = 10**9


def encoded(*times: int) -> bytes:
    return encode_timestamps(np.array(times, dtype=np.int64))


def kind(data: bytes) -> tuple[int, int]:
    """Encoding and exponent."""
    return data[0] >> 4, data[0] & 0x0F


@settings(max_examples=40)
@given(st.lists(INT64, min_size=1, max_size=60))
def test_any_times_come_back_in_any_order(times: list[int]) -> None:
    assert decode_timestamps(encoded(*times)).tolist() == times


@settings(max_examples=40)
@given(INT64, st.integers(0, 2**64 - 1), st.integers(1, 1000))
def test_evenly_spaced_times_come_back_though_they_wrap_around(
    first: int, step: int, n: int
) -> None:
    times = [(first + i * step + 2**63) % 2**64 - 2**63 for i in range(n)]
    assert decode_timestamps(encoded(*times)).tolist() == times


def test_evenly_spaced_times_are_written_once() -> None:
    data = encoded(0, 10 * S, 20 * S, 30 * S)
    assert kind(data) == (RLE, 10)
    assert data[9:] == bytes([1, 4])


def test_what_divides_all_differences_is_taken_out() -> None:
    assert kind(encoded(0, S, 3 * S)) == (PACKED, 9)
    assert kind(encoded(0, S, 3 * S, 3 * S + 1)) == (PACKED, 0)
    assert kind(encoded(0, 10**15, 3 * 10**15)) == (PACKED, 12)  # no server takes out more
    assert kind(encoded(5)) == (PACKED, 12)


def test_differences_of_more_than_60_bits_are_stored_raw() -> None:
    assert kind(encoded(0, MAX_VALUE, 0)) == (RAW, 0)
    assert kind(encoded(0, MAX_VALUE, MAX_VALUE + 1)) == (PACKED, 0)
    assert kind(encoded(0, MAX_VALUE + 1, MAX_VALUE + 2)) == (RAW, 0)
    assert kind(encoded(3, 2, 1)) == (RLE, 0)  # equal modulo 2^64


@pytest.mark.parametrize("exponent", [13, 15])
def test_a_reader_takes_exponents_that_no_server_writes(exponent: int) -> None:
    data = bytes([RLE << 4 | exponent]) + bytes(8) + bytes([2, 3])
    assert decode_timestamps(data).tolist() == [0, 2 * 10**exponent, 4 * 10**exponent]
