"""TSM files and tombstones made by hand, for what no server writes."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

from resources.tsm.layout import ENTRY, FOOTER, HEADER

T0 = 1_600_000_000_000_000_000


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> int:
    return (value << 1 ^ value >> 63) & (1 << 64) - 1


def words(values: Iterable[int]) -> bytes:
    return b"".join(struct.pack(">Q", value & (1 << 64) - 1) for value in values)


def raw_times(times: Sequence[int]) -> bytes:
    later = [b - a for a, b in itertools.pairwise(times)]
    return b"\x00" + words([times[0], *later])


def even_times(first: int, step: int, n: int, *, exponent: int = 0) -> bytes:
    return bytes([0x20 | exponent]) + words([first]) + uvarint(step) + uvarint(n)


def packed_times(first: int, packed: Iterable[int] = (), *, exponent: int = 0) -> bytes:
    return bytes([0x10 | exponent]) + words([first, *packed])


def raw_integers(values: Sequence[int]) -> bytes:
    before = [0, *values]
    steps = [
        (b - a + (1 << 63)) % (1 << 64) - (1 << 63) for a, b in zip(before, values, strict=False)
    ]
    return b"\x00" + words(zigzag(step) for step in steps)


def block(kind: int, times: bytes, values: bytes) -> bytes:
    return bytes([kind]) + uvarint(len(times)) + times + values


Blocks = Sequence[tuple[int, int, bytes]]
"""Min time, max time, block without CRC."""


def tsm_file(keys: Mapping[bytes, Blocks]) -> bytes:
    """A file with these keys, in this order."""
    out = bytearray(HEADER)
    index = bytearray()
    for key, blocks in keys.items():
        index += (
            struct.pack(">H", len(key)) + key + struct.pack(">BH", blocks[0][2][0], len(blocks))
        )
        for min_time, max_time, body in blocks:
            index += ENTRY.pack(min_time, max_time, len(out), len(body) + 4)
            out += zlib.crc32(body).to_bytes(4) + body
    return bytes(out + index + FOOTER.pack(len(out)))
