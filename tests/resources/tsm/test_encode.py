"""Encodings written: they come back, and their bytes are those of a plain reading of the format."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import TSMError
from resources.tsm import simple8b
from resources.tsm.blocks import Values, decode_block, encode_block
from resources.tsm.floats import END, decode_floats, encode_floats
from resources.tsm.layout import MAX_BLOCK_POINTS, BlockType
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.time_counts import COUNTS, PACKED, RAW, RLE
from resources.tsm.timestamps import decode_timestamps, encode_timestamps
from resources.tsm.values import (
    decode_booleans,
    decode_integers,
    decode_strings,
    decode_unsigned,
    encode_booleans,
    encode_integers,
    encode_strings,
    encode_unsigned,
)
from resources.tsm.varint import encode_uvarint
from resources.tsm.varint import uvarint as read_uvarint
from tests.resources.tsm.points import T0, S, stored
from tests.resources.tsm.writing import even_times, packed_times, raw_times, uvarint, words

LEAST, MAX_LENGTH = -(2**63), 2**63 - 1

INT64 = st.integers(LEAST, MAX_LENGTH)
FLOATS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.5, 5e-324, 1.8e308])


def runs_of(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[list[int]]:
    """Numbers many of which stand several times in a row."""
    run = st.tuples(numbers, st.integers(1, 4) | st.integers(1, 300))
    return st.lists(run, min_size=1, max_size=12).map(
        lambda runs: [number for number, n in runs for _ in range(n)]
    )


def sizes(bits: int) -> st.SearchStrategy[int]:
    """Numbers of up to `bits` bits, small ones as likely as large ones."""
    return st.integers(0, bits).flatmap(lambda n: st.integers(0, (1 << n) - 1))


def first_selectors_that_fit(numbers: Sequence[int]) -> bytes:
    """Simple-8b, one word after the other."""
    packed: list[int] = []
    while numbers:
        selector = next(selector for selector in range(16) if _fits(selector, numbers))
        count, bits = COUNTS[selector], simple8b.BITS[selector]
        shifted = [number << i * bits for i, number in enumerate(numbers[:count]) if bits]
        packed.append(selector << 60 | sum(shifted))
        numbers = numbers[count:]
    return words(packed)


def _fits(selector: int, numbers: Sequence[int]) -> bool:
    count, bits = COUNTS[selector], simple8b.BITS[selector]
    if len(numbers) < count:
        return False
    return max(numbers[:count]) < 1 << bits if bits else set(numbers) == {1}


def one_float_after_the_other(values: Sequence[float]) -> bytes:
    """Gorilla, as text."""
    numbers = [*struct.unpack(f">{len(values)}Q", struct.pack(f">{len(values)}d", *values)), END]
    text = format(numbers[0], "064b")
    window: tuple[int, int] | None = None
    for before, number in pairwise(numbers):
        bits = format(before ^ number, "064b")
        if "1" not in bits:
            text += "0"
            continue
        leading, trailing = bits.index("1") % 32, 63 - bits.rindex("1")
        if window and leading >= window[0] and trailing >= window[1]:
            text += "10"
        else:
            window = leading, trailing
            text += f"11{leading:05b}{(64 - leading - trailing) % 64:06b}"
        text += bits[window[0] : 64 - window[1]]
    text += "0" * (-len(text) % 8)
    return b"\x10" + int(text, 2).to_bytes(len(text) // 8)


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    data = encode_uvarint(value)
    assert data == uvarint(value)
    assert read_uvarint(data, 0, len(data)) == (value, len(data))


@given(
    runs_of(sizes(60))
    | runs_of(st.integers(0, 2))
    | st.lists(sizes(60), max_size=200)
    | st.integers(0, 900).map(lambda n: [1] * n)
    | runs_of(sizes(8)).flatmap(lambda some: st.integers(0, 500).map(lambda n: some + [1] * n))
)
def test_each_word_takes_the_first_selector_that_fits(numbers: list[int]) -> None:
    packed = simple8b.encode(np.array(numbers, dtype=np.uint64))
    assert packed == first_selectors_that_fit(numbers)
    assert simple8b.decode(packed, 0, len(numbers)).tolist() == numbers


@pytest.mark.parametrize("bits", simple8b.BITS[simple8b.FIRST_WITH_BITS :])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_words_are_full_at_every_size(bits: int, more: int) -> None:
    count = COUNTS[simple8b.BITS.index(bits)]
    # Ones up to the end would take fewer words.
    numbers = [0, *[(1 << bits) - 1] * (2 * count + more - 1)]
    packed = simple8b.encode(np.array(numbers, dtype=np.uint64))
    if not more:
        assert len(packed) == 16
    assert packed == first_selectors_that_fit(numbers)


@given(runs_of(INT64) | runs_of(st.integers(-3, 3)) | st.lists(INT64, min_size=1, max_size=300))
def test_integers_of_any_size_and_sign_come_back(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.int64)
    assert decode_integers(encode_integers(values), len(values)).tolist() == numbers
    unsigned = values.view(np.uint64)
    assert decode_unsigned(encode_unsigned(unsigned), len(values)).tolist() == unsigned.tolist()


@given(INT64, INT64, st.integers(3, 1000))
def test_equal_differences_take_a_few_bytes_however_large(first: int, step: int, n: int) -> None:
    unsigned = np.arange(n, dtype=np.uint64) * np.uint64(step % 2**64) + np.uint64(first % 2**64)
    data = encode_integers(unsigned.view(np.int64))
    assert data[0] >> 4 == RLE
    assert len(data) <= 9 + 10 + 2
    assert decode_integers(data, n).tolist() == unsigned.view(np.int64).tolist()


@pytest.mark.parametrize(
    ("numbers", "encoding"),
    [
        ([7], PACKED),
        ([7, 7], PACKED),
        ([7, 7, 7], RLE),
        ([0, 2**59 - 1, 0], PACKED),
        ([0, 2**59, 0], RAW),
        ([2**59 - 1, 2**59 - 1], PACKED),
        ([2**59, 2**59], RAW),
        ([LEAST, MAX_LENGTH, LEAST, MAX_LENGTH], RAW),
        ([MAX_LENGTH, LEAST, LEAST + 1], RLE),
    ],
)
def test_integers_are_packed_while_they_fit(numbers: list[int], encoding: int) -> None:
    data = encode_integers(np.array(numbers, dtype=np.int64))
    assert data[0] >> 4 == encoding
    assert decode_integers(data, len(numbers)).tolist() == numbers


@given(
    st.lists(INT64, min_size=1, max_size=60, unique=True)
    | st.integers(0, 15).flatmap(
        lambda exponent: st.lists(st.integers(0, 1000), min_size=1, max_size=300, unique=True).map(
            lambda steps: [T0 + step * 10**exponent for step in steps]
        )
    )
    | st.tuples(INT64, st.integers(1, 10**15), st.integers(1, 900)).map(
        lambda e: [time for i in range(e[2]) if (time := e[0] + i * e[1]) <= MAX_LENGTH]
    )
)
def test_times_come_back_from_anywhere_in_their_range(numbers: list[int]) -> None:
    times = sorted(numbers)
    data = encode_timestamps(np.array(times, dtype=np.int64))
    assert decode_timestamps(data).tolist() == times


@pytest.mark.parametrize(
    ("times", "data"),
    [
        ([T0], packed_times(T0, exponent=12)),
        ([LEAST, MAX_LENGTH], even_times(LEAST % 2**64, 2**64 - 1, 2)),
        ([T0, T0 + S], even_times(T0, 1, 2, exponent=9)),
        ([0, 10**13, 2 * 10**13], even_times(0, 10, 3, exponent=12)),
        ([0, 2, 12], packed_times(0, [14 << 60 | 10 << 30 | 2])),
        ([0, 10, 30], packed_times(0, [14 << 60 | 2 << 30 | 1], exponent=1)),
        ([0, 10**15, 3 * 10**15], packed_times(0, [14 << 60 | 2000 << 30 | 1000], exponent=12)),
        ([0, 1, 2**60], packed_times(0, [15 << 60 | 1, 16 * 2**60 - 1])),
        ([0, 1, 2**60 + 1], raw_times([0, 1, 2**60 + 1])),
        ([LEAST, 0, MAX_LENGTH], raw_times([LEAST, 0, MAX_LENGTH])),
    ],
)
def test_times_take_the_encoding_and_the_scale_of_the_server(times: list[int], data: bytes) -> None:
    assert encode_timestamps(np.array(times, dtype=np.int64)) == data


@given(
    st.lists(FLOATS, min_size=1, max_size=200)
    | st.lists(st.sampled_from([0.1, 0.5, -2.0, 1e300]), min_size=1, max_size=400)
    | st.lists(st.integers(0, 500).map(lambda i: i / 8), min_size=1, max_size=300)
    | st.tuples(FLOATS, FLOATS, st.integers(1, 1500)).map(lambda e: [e[0]] * e[2] + [e[1]])
)
def test_floats_come_back_bit_for_bit_in_the_servers_bits(numbers: list[float]) -> None:
    data = encode_floats(np.array(numbers))
    assert data == one_float_after_the_other(numbers)
    assert decode_floats(data, len(numbers)).tobytes() == np.array(numbers).tobytes()


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=100))
def test_floats_of_any_bits_but_nan_come_back(bits: list[int]) -> None:
    values = np.array(bits, dtype=np.uint64).view(np.float64)
    if np.isnan(values).any():
        with pytest.raises(TSMError, match="is NaN"):
            encode_floats(values)
    else:
        assert decode_floats(encode_floats(values), len(bits)).tobytes() == values.tobytes()


@pytest.mark.parametrize("bits", [END, 0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0_0000_0000_0001])
def test_nan_of_any_kind_is_refused(bits: int) -> None:
    values = np.array([0x3FF0 << 48, bits], dtype=np.uint64).view(np.float64)
    with pytest.raises(TSMError, match="value 1 is NaN"):
        encode_floats(values)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_booleans_come_back(numbers: list[bool]) -> None:
    assert decode_booleans(encode_booleans(np.array(numbers)), len(numbers)).tolist() == numbers


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=30))
def test_strings_come_back_text_or_not(strings: list[bytes]) -> None:
    assert decode_strings(encode_strings(strings), len(strings)) == strings


@pytest.mark.parametrize("file", ["small.tsm", "everything.tsm", "far_apart.tsm", "deleted.tsm"])
def test_every_block_of_a_real_server_is_encoded_again_to_the_same_bytes(file: str) -> None:
    data = stored(file)
    n_blocks = 0
    for key in TSMFile(BytesSource(data)).index():
        for entry in key.entries:
            theirs = data[entry.offset + 4 : entry.offset + entry.size]
            decoded = decode_block(theirs)
            assert encode_block(decoded.type, decoded.times, decoded.values) == theirs, key.key
            n_blocks += 1
    assert n_blocks


@pytest.mark.parametrize(
    ("kind", "times", "values", "complaint"),
    [
        (BlockType.INTEGER, [], np.zeros(0, np.int64), "0 times and 0 values"),
        (BlockType.INTEGER, [1, 2], np.zeros(3, np.int64), "2 times and 3 values"),
        (BlockType.INTEGER, [2, 1], np.zeros(2, np.int64), "not ascending"),
        (BlockType.INTEGER, [1, 1], np.zeros(2, np.int64), "not ascending"),
        (BlockType.INTEGER, [1], np.zeros(1, np.int32), "INTEGER cannot be int32"),
        (BlockType.FLOAT, [1], np.zeros(1, np.int64), "FLOAT cannot be int64"),
        (BlockType.UNSIGNED, [1], np.zeros(1, np.int64), "UNSIGNED cannot be int64"),
        (BlockType.BOOLEAN, [1], [b"true"], "BOOLEAN cannot be strings"),
        (BlockType.STRING, [1], np.zeros(1, np.float64), "STRING cannot be float64"),
        (
            BlockType.BOOLEAN,
            range(MAX_BLOCK_POINTS + 1),
            np.zeros(MAX_BLOCK_POINTS + 1, np.bool_),
            "1000001 times",
        ),
    ],
)
def test_what_is_no_block_is_refused(
    kind: BlockType, times: Sequence[int], values: Values, complaint: str
) -> None:
    with pytest.raises(TSMError, match=complaint):
        encode_block(kind, np.array(times, dtype=np.int64), values)


def test_times_that_are_not_int64_are_refused() -> None:
    with pytest.raises(TSMError, match="not ascending int64"):
        encode_block(BlockType.INTEGER, np.array([1.5]), np.zeros(1, np.int64))  # type: ignore[arg-type]
