"""Counts a block's timestamps and adds up their differences, without arrays.

Layout: see `resources.tsm.timestamps`; of packed words, `resources.tsm.simple8b`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from resources.errors import BlockUndecodable
from resources.tsm.layout import MAX_BLOCK_POINTS
from resources.tsm.varint import uvarint

RAW, PACKED, RLE = range(3)
HEAD_BYTES = 9
"""Encoding and first time, with which all three encodings begin."""

COUNTS = (240, 120, 60, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
"""By selector, the number of numbers in a word of simple-8b."""

BITS = (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60)
"""By selector, the width in bits of each number; a number of width 0 is 1."""

MAX_VALUE = (1 << 60) - 1
"""The largest value of a word."""

COUNT_OF_FIRST_BYTE = bytes(COUNTS[byte >> 4] for byte in range(256))
"""Maps the first byte of a word to the number of numbers in it."""


MAX_WORD = (1 << 64) - 1


def count_timestamps(data: bytes) -> int:
    """Count the timestamps without decoding them.

    Raises:
        BlockUndecodable: as `decode_timestamps`.
    """
    if len(data) < HEAD_BYTES:
        raise BlockUndecodable(f"timestamps take {len(data)} bytes, and one alone takes 9")
    encoding = data[0] >> 4
    if encoding == RLE:
        _, at = uvarint(data, HEAD_BYTES, len(data))
        n, at = uvarint(data, at, len(data))
        if at != len(data):
            raise BlockUndecodable(f"timestamps end at byte {at} of {len(data)}")
    elif encoding in (RAW, PACKED):
        words, rest = divmod(len(data) - HEAD_BYTES, 8)
        if rest:
            raise BlockUndecodable(f"timestamps end inside a word, at byte {len(data)}")
        if encoding == RAW:
            n = 1 + words
        else:
            n = 1 + sum(data[HEAD_BYTES::8].translate(COUNT_OF_FIRST_BYTE))
    else:
        raise BlockUndecodable(f"unknown encoding {encoding} of timestamps")
    if not 1 <= n <= MAX_BLOCK_POINTS:
        raise BlockUndecodable(f"{n} timestamps, where 1 to {MAX_BLOCK_POINTS} are possible")
    return n


def time_span(data: bytes) -> int:
    """The last timestamp minus the first, mod 2^64; `count_timestamps` must have accepted them."""
    encoding, scale = data[0] >> 4, 10 ** (data[0] & 0x0F)
    if encoding == RLE:
        difference, at = uvarint(data, HEAD_BYTES, len(data))
        n, _ = uvarint(data, at, len(data))
        return (n - 1) * difference * scale & MAX_WORD
    words = data[HEAD_BYTES:]
    if encoding == RAW:
        return sum(struct.unpack(f">{len(words) // 8}Q", words)) & MAX_WORD
    return packed_sum(words) * scale & MAX_WORD


def packed_sum(words: bytes) -> int:
    """The sum of all numbers in words of simple-8b.

    All words become one Python integer, in which the numbers of each selector are added at once.
    """
    n = len(words) // 8
    selectors = words[::8].translate(_SELECTORS)
    numbers = int.from_bytes(words)
    total = 0
    for selector in set(selectors):
        count, bits = COUNTS[selector], BITS[selector]
        if not bits:
            total += count * selectors.count(selector)
            continue
        chosen = bytearray(8 * n)
        chosen[7::8] = selectors.translate(_only(selector))
        part = numbers & int.from_bytes(chosen) * MAX_VALUE
        for even, odd, shift in folds(bits, count):
            part = (part & _everywhere(even, n)) + ((part & _everywhere(odd, n)) >> shift)
        total += sum(struct.unpack(f">{n}Q", part.to_bytes(8 * n)))
    return total


@lru_cache(maxsize=len(BITS))
def folds(bits: int, count: int) -> tuple[tuple[int, int, int], ...]:
    """The steps that add up the `count` numbers of a word: masks of every other one, and a shift.

    Every step leaves half as many numbers, each in twice the bits, so no sum overflows.
    """
    steps: list[tuple[int, int, int]] = []
    used = (1 << bits * count) - 1  # widths 7 and 8 leave four bits unused
    while count > 1:
        count = (count + 1) // 2
        even = sum(((1 << bits) - 1) << 2 * bits * i for i in range(count))
        steps.append((even & used, even << bits & used, bits))
        bits, used = bits * 2, MAX_VALUE
    return tuple(steps)


def _everywhere(mask: int, n: int) -> int:
    return int.from_bytes(mask.to_bytes(8) * n)


_SELECTORS = bytes(byte >> 4 for byte in range(256))


@lru_cache(maxsize=len(BITS))
def _only(selector: int) -> bytes:
    """A table that maps this selector to 1 and all others to 0."""
    return bytes(int(byte == selector) for byte in range(256))
