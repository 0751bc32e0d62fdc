"""How many timestamps a block has: told by their heads, and without an array.

Layout: see `resources.tsm.timestamps`; of packed words, `resources.tsm.simple8b`.
"""

from __future__ import annotations

from resources.errors import BlockUndecodable
from resources.tsm.layout import MAX_BLOCK_POINTS
from resources.tsm.varint import uvarint

RAW, PACKED, RLE = range(3)
HEAD_BYTES = 9
"""Encoding and first time, with which all three begin."""

COUNTS = (240, 120, 60, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
"""By selector, how many numbers a word of simple-8b holds."""

COUNT_OF_FIRST_BYTE = bytes(COUNTS[byte >> 4] for byte in range(256))
"""From the first byte of a word to how many numbers the word holds."""


def count_timestamps(data: bytes) -> int:
    """How many timestamps there are, without decoding them.

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
