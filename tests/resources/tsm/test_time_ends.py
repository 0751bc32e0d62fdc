"""Both times of an index entry are those of its block, however the block's times are written."""

from __future__ import annotations

from itertools import accumulate
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockUndecodable, IndexOutOfOrder, TSMError
from resources.tsm import simple8b
from resources.tsm.layout import ENTRY
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.time_counts import COUNTS, PACKED, RAW, RLE, count_timestamps, time_span
from resources.tsm.timestamps import decode_timestamps, encode_timestamps
from tests.resources.tsm.checking import EVEN, checked
from tests.resources.tsm.points import stored
from tests.resources.tsm.writing import T0, block, raw_integers, tsm_file

KEYS = (b"a#!~#v", b"b#!~#v", b"c#!~#v")


def uneven(first: int, steps: list[int]) -> bytes:
    return encode_timestamps(np.array(list(accumulate(steps, initial=first)), dtype=np.int64))


# By name: the encoding that the server chooses for them, and the times.
SPACINGS = {
    "alone": (PACKED, uneven(T0, [])),
    "a pair": (RLE, uneven(T0, [1])),
    "even": (RLE, uneven(T0, [10**9] * 999)),
    "even, in odd steps": (RLE, uneven(T0, [1_000_003] * 7)),
    "uneven": (PACKED, uneven(T0, [n * n % 10_000_019 + 1 for n in range(999)])),
    "whole seconds": (PACKED, uneven(T0, [10**9 * n for n in (1, 5, 2, 60, 1)])),
    "mostly ones": (PACKED, uneven(T0, [1] * 500 + [3] + [1] * 480)),
    "of all sizes": (PACKED, uneven(T0, [1 << n for n in range(58)])),
    "far apart": (RAW, uneven(-(2**62), [1 << 61, 1 << 60, 5])),
}


def a_file(times: bytes, low: int, high: int, *, where: int) -> bytes:
    """Three blocks of three keys; the one in question is at `where`."""
    n = count_timestamps(times)
    blocks = [[(T0, T0 + 20, EVEN)] for _ in KEYS]
    blocks[where] = [(low, high, block(1, times, raw_integers(range(n))))]
    return tsm_file(dict(zip(KEYS, blocks, strict=True)))


@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_flipped_bit_of_either_time_is_noticed(spacing: str, where: int) -> None:
    encoding, times = SPACINGS[spacing]
    assert times[0] >> 4 == encoding
    decoded = decode_timestamps(times)
    low, high = int(decoded[0]), int(decoded[-1])
    good = a_file(times, low, high, where=where)
    assert checked(good).points == len(decoded) + 6
    at = good.index(KEYS[where]) + len(KEYS[where]) + 3
    assert good[at : at + 16] == ENTRY.pack(low, high, 0, 0)[:16]
    for bit in range(128):
        flipped = bytearray(good)
        flipped[at + bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises((BlockUndecodable, IndexOutOfOrder)):
            checked(bytes(flipped))
    both = bytearray(good)
    both[at + 7] ^= 1
    both[at + 15] ^= 1
    with pytest.raises((BlockUndecodable, IndexOutOfOrder)):
        checked(bytes(both))


def test_every_flipped_bit_of_every_time_of_a_real_file_is_noticed() -> None:
    data = stored("everything.tsm")
    tsm = TSMFile(BytesSource(data))
    places = [data.index(ENTRY.pack(*entry)) for key in tsm.index() for entry in key.entries]
    dice = Random(2)
    for at in places:
        for bit in (*dice.sample(range(128), 3), 63, 127):
            flipped = bytearray(data)
            flipped[at + bit // 8] ^= 0x80 >> bit % 8
            with pytest.raises(TSMError):
                checked(bytes(flipped))


def test_structure_alone_reads_no_times_of_blocks() -> None:
    _, times = SPACINGS["uneven"]
    low = int(decode_timestamps(times)[0])
    assert checked(a_file(times, low, 2**62, where=1), blocks=False).max_time_ns == 2**62
    with pytest.raises(BlockUndecodable, match="last time is not the index's"):
        checked(a_file(times, low, 2**62, where=1))


@pytest.mark.parametrize("spacing", [RAW, PACKED, RLE])
def test_blocks_larger_than_a_window_end_where_the_index_says(spacing: int) -> None:
    dice, n = Random(3), 90_000
    steps = {
        RAW: lambda: dice.randrange(1 << 40) | 1,
        PACKED: lambda: dice.randrange(1, 1 << dice.randrange(1, 44)),
        RLE: lambda: 7,
    }[spacing]
    times = list(accumulate((steps() for _ in range(n - 1)), initial=T0))
    if spacing == RAW:
        written = b"\x00" + T0.to_bytes(8) + np.diff(np.array(times)).astype(">i8").tobytes()
    else:
        written = encode_timestamps(np.array(times, dtype=np.int64))
    assert written[0] >> 4 == spacing
    assert checked(a_file(written, T0, times[-1], where=1)).points == n + 6
    for wrong in (times[-1] ^ 1, times[-1] + (1 << 40), T0):
        with pytest.raises(BlockUndecodable, match="last time is not the index's"):
            checked(a_file(written, T0, wrong, where=1))


@settings(max_examples=200)
@given(
    st.integers(0, 15),
    st.lists(st.integers(0, 2**64 - 1), max_size=30),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([RAW, PACKED]),
)
def test_the_span_is_that_of_the_decoded_times(
    exponent: int, words: list[int], first: int, encoding: int
) -> None:
    packed = b"".join(word.to_bytes(8) for word in words)
    data = bytes([encoding << 4 | exponent]) + first.to_bytes(8, signed=True) + packed
    times = decode_timestamps(data)
    assert time_span(data) == (int(times[-1]) - int(times[0])) % 2**64


@pytest.mark.parametrize("selector", range(16))
def test_the_numbers_of_a_word_are_added_whatever_its_selector(selector: int) -> None:
    dice = Random(selector)
    contents = [dice.getrandbits(60) for _ in range(50)] + [0, (1 << 60) - 1]
    one = [selector << 60 | content for content in contents]
    for words in (one, [*one, (selector + 5) % 16 << 60 | contents[0]]):
        packed = [word.to_bytes(8) for word in words]
        found = simple8b.sums(b"".join(packed))
        assert found.tolist() == [
            int(simple8b.decode(raw, 0, COUNTS[raw[0] >> 4]).sum()) for raw in packed
        ]
