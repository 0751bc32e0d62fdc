"""Unsigned varints: seven bits a byte, the lowest first, the high bit set on all but the last.

Source: Go encoding/binary, Uvarint.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable

Ints: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]
Bytes: TypeAlias = NDArray[np.uint8]

MAX_BYTES = 10
"""Of a 64-bit number; the last of ten carries one bit."""


def uvarint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read one varint from `data[at:end]`; return it and the position behind it.

    Raises:
        BlockUndecodable: cut, or beyond 64 bits.
    """
    value = 0
    for i in range(MAX_BYTES):
        if at + i >= end:
            raise BlockUndecodable(f"number cut at byte {at + i}")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + i + 1
    raise BlockUndecodable(f"number beyond 64 bits at byte {at}")


def encode_uvarint(value: int) -> bytes:
    """Write one varint; the value is not negative."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def uvarints(data: Bytes, at: Ints, end: Ints) -> tuple[Words, Ints]:
    """Read one varint at each of many positions; return them and the positions behind.

    Those that are cut by their `end` or too long come back with position -1.
    """
    value = (data[at] & 0x7F).astype(np.uint64)
    behind = at + 1
    (more,) = np.nonzero(data[at] >= 0x80)
    for i in range(1, MAX_BYTES):
        if not more.size:
            return value, behind
        position = at[more] + i
        inside = position < end[more]
        behind[more[~inside]] = -1
        more, position = more[inside], position[inside]
        byte = data[position]
        value[more] |= (byte & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
        behind[more] = position + 1
        if i == MAX_BYTES - 1:
            behind[more[byte > 1]] = -1
        more = more[byte >= 0x80]
    return value, behind
