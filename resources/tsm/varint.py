"""Unsigned varints: seven bits a byte, the lowest first, the high bit set on all but the last.

Source: Go encoding/binary, Uvarint.
"""

from __future__ import annotations

from resources.errors import BlockUndecodable

MAX_BYTES = 10
"""The length of a 64-bit number; the tenth byte carries one bit."""


def uvarint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read one varint from `data[at:end]`; return it and the position after it.

    Raises:
        BlockUndecodable: the varint is cut, or exceeds 64 bits.
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
