"""Encodings, one by one: those that no server at hand writes, and those that no server should."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BlockUndecodable
from resources.tsm.arrays import uvarints
from resources.tsm.blocks import decode_block
from resources.tsm.layout import MAX_BLOCK_POINTS
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.varint import uvarint as read_uvarint
from tests.resources.tsm.points import stored
from tests.resources.tsm.writing import (
    T0,
    block,
    even_times,
    packed_times,
    raw_integers,
    raw_times,
    uvarint,
    words,
    zigzag,
)

THREE = even_times(T0, 10, 3)
ONE = packed_times(T0, exponent=12)
FLOATS = bytes.fromhex("103ff8000000000000c26ffff01d001e002ffc00000000000040")  # 1.5, 2.5, -3
INT64 = st.integers(-(2**63), 2**63 - 1)


def snappy(text: bytes) -> bytes:
    return b"\x10" + bytes(cramjam.snappy.compress_raw(text))


def real_blocks() -> list[bytes]:
    blocks: list[bytes] = []
    for file in ("small.tsm", "everything.tsm", "far_apart.tsm"):
        data = stored(file)
        for key in TSMFile(BytesSource(data)).index():
            blocks += [data[e.offset + 4 : e.offset + e.size] for e in key.entries]
    return blocks


REAL_BLOCKS = real_blocks()


@given(st.lists(INT64, min_size=1, max_size=50), st.sampled_from([1, 4]))
def test_raw_times_and_integers_of_any_size_come_back(numbers: list[int], kind: int) -> None:
    times = sorted(numbers)
    decoded = decode_block(block(kind, raw_times(times), raw_integers(numbers)))
    assert decoded.times.tolist() == times
    expected = numbers if kind == 1 else [number % (1 << 64) for number in numbers]
    assert np.asarray(decoded.values).tolist() == expected


def test_unsigned_integers_are_signed_ones_of_the_same_bits() -> None:
    values = b"\x10" + words([zigzag(-1)]) + words([15 << 60 | zigzag(1), 15 << 60 | zigzag(1)])
    decoded = decode_block(block(4, THREE, values))
    assert np.asarray(decoded.values).tolist() == [2**64 - 1, 0, 1]
    assert np.asarray(decoded.values).dtype == np.uint64


@pytest.mark.parametrize("n", [240, 120])
def test_words_without_bits_are_all_ones(n: int) -> None:
    selector = {240: 0, 120: 1}[n]
    values = b"\x10" + words([zigzag(5), selector << 60])
    decoded = decode_block(block(1, even_times(T0, 1, n + 1), values))
    assert np.asarray(decoded.values).tolist() == [5 - i for i in range(n + 1)]


def test_times_scale_with_their_exponent_in_packed_and_even_form() -> None:
    packed = packed_times(T0, [14 << 60 | 2 << 30 | 1], exponent=9)
    even = even_times(T0, 3, 3, exponent=9)
    values = raw_integers([0, 0, 0])
    assert decode_block(block(1, packed, values)).times.tolist() == [T0, T0 + 10**9, T0 + 3 * 10**9]
    assert decode_block(block(1, even, values)).times.tolist() == [
        T0 + i * 3 * 10**9 for i in range(3)
    ]


def test_a_block_may_hold_a_million_points_and_not_one_more() -> None:
    def constant(n: int) -> bytes:
        values = b"\x20" + words([zigzag(7)]) + uvarint(0) + uvarint(n - 1)
        return block(1, even_times(T0, 1, n), values)

    assert len(decode_block(constant(MAX_BLOCK_POINTS)).times) == MAX_BLOCK_POINTS
    with pytest.raises(BlockUndecodable, match="1000001 timestamps"):
        decode_block(constant(MAX_BLOCK_POINTS + 1))


def test_strings_need_not_be_text() -> None:
    values = snappy(b"\x01\xff" + b"\x00" + uvarint(200) + b"z" * 200)
    assert decode_block(block(3, THREE, values)).values == [b"\xff", b"", b"z" * 200]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 bytes"),
        (block(5, ONE, b"\x10"), "unknown block type 5"),
        (b"\x00\xff", "number cut at byte 2"),
        (b"\x00" + b"\xff" * 10, "beyond 64 bits"),
        (b"\x00" + uvarint(2**63) + ONE, "bytes of timestamps where 9 are left"),
        (block(0, b"", FLOATS), "one alone takes 9"),
        (block(0, b"\x30" + words([T0]), FLOATS), "unknown encoding 3 of timestamps"),
        (block(0, b"\x10" + words([T0]) + b"\0" * 7, FLOATS), "end inside a word, at byte 16"),
        (block(0, even_times(T0, 1, 2**60), FLOATS), "timestamps, where 1 to 1000000"),
        (block(0, even_times(T0, 1, 0), FLOATS), "0 timestamps"),
        (block(0, even_times(T0, 1, 3) + b"\0", FLOATS), "timestamps end at byte 11 of 12"),
        (block(0, THREE, b""), "floats begin with nothing"),
        (block(0, THREE, b"\x20" + FLOATS[1:]), "floats begin with 20"),
        (block(0, THREE, FLOATS[:-4]), "without their end mark"),
        (block(0, even_times(T0, 1, 2), FLOATS), "more than 2 floats"),
        (block(0, even_times(T0, 1, 4), FLOATS), "3 floats for 4 timestamps"),
        (block(0, THREE, FLOATS[:9] + b"\0" * 99), "too many for 3 values"),
        (block(0, THREE, FLOATS[:9] + b"\xff\xff" + b"\0" * 30), "a float of over 64 bits"),
        (block(1, THREE, b"\x10"), "integers take 1 bytes"),
        (block(1, THREE, b"\x30" + words([0])), "unknown encoding 3 of integers"),
        (block(1, THREE, raw_integers([1, 2])), "16 bytes of raw integers for 3 timestamps"),
        (block(1, THREE, b"\x10" + words([0, 0])), "are 240, not 2"),
        (block(1, THREE, b"\x10" + words([0]) + b"\0\0"), "end inside a word"),
        (block(1, THREE, b"\x20" + words([0]) + uvarint(1) + uvarint(2**50)), "repeated integers"),
        (block(2, THREE, b"\x00\x03\xa0"), "booleans begin with 00"),
        (block(2, THREE, b"\x10\x04\xa0"), "4 booleans for 3"),
        (block(2, THREE, b"\x10\x03"), "3 booleans in 0 bytes"),
        (block(3, THREE, b"\x00"), "strings begin with 00"),
        (block(3, THREE, b"\x10" + uvarint(2**40) + b"\0" * 9), "declare to become 1099511627776"),
        (block(3, THREE, b"\x10\x04\x0c"), "cannot be decompressed"),
        (block(3, THREE, snappy(b"\x00\x00\x05ab")), "a string of 5 bytes where 2 are left"),
        (block(3, THREE, snappy(b"\x00" * 2)), "2 strings, not 3"),
        (block(3, THREE, snappy(b"\x00" * 5)), "more than 4 strings, not 3"),
    ],
)
def test_a_broken_encoding_is_refused_with_its_place(data: bytes, complaint: str) -> None:
    with pytest.raises(BlockUndecodable, match=complaint):
        decode_block(data)


@pytest.mark.parametrize("i", range(6))
def test_a_block_cut_anywhere_is_refused(i: int) -> None:
    data = REAL_BLOCKS[i]
    for cut in range(len(data)):
        with pytest.raises(BlockUndecodable):
            decode_block(data[:cut])


@pytest.mark.fault(95)
@settings(max_examples=300)
@given(st.data())
def test_a_damaged_block_decodes_or_is_refused_and_takes_little_memory(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(REAL_BLOCKS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(damaged) - 1, 40)) | st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    tracemalloc.start()
    with suppress(BlockUndecodable):
        decoded = decode_block(bytes(damaged))
        assert len(decoded.times) == len(decoded.values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


@given(st.binary(max_size=80))
def test_noise_decodes_or_is_refused(data: bytes) -> None:
    with suppress(BlockUndecodable):
        assert len(decode_block(data).times) >= 1


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=9))
def test_many_varints_at_once_are_those_read_one_by_one(parts: list[bytes]) -> None:
    data = np.frombuffer(b"".join(parts), dtype=np.uint8)
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    values, behind = uvarints(data, starts, ends)
    for part, start, value, after in zip(parts, starts, values, behind, strict=True):
        try:
            assert (value, after - start) == read_uvarint(part, 0, len(part))
        except BlockUndecodable:
            assert after == -1


@given(st.floats(allow_nan=False), st.integers(1, 3000))
def test_a_repeated_float_takes_one_bit_each_time(value: float, n: int) -> None:
    bits = format(struct.unpack(">Q", struct.pack(">d", value))[0], "064b") + "0" * (n - 1)
    end = 0x7FF8_0000_0000_0001 ^ int(bits[:64], 2)
    bits += "11" + "00000" + "000000" + format(end, "064b")
    bits += "0" * (-len(bits) % 8)
    values = b"\x10" + int(bits, 2).to_bytes(len(bits) // 8)
    decoded = decode_block(block(0, even_times(T0, 1, n), values))
    assert np.asarray(decoded.values).tolist() == [value] * n
