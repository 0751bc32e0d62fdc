"""The values of a block, all but floats.

Layout: one byte, encoding << 4, then
    integers  0 raw     zigzag of differences, 8 bytes each; the first from 0
              1 packed  zigzag of the first (8) | zigzag of differences, simple-8b
              2 RLE     zigzag of the first (8) | varint of the zigzag of the difference
                        | varint of how many follow the first
    unsigned  as integers of the same 64 bits
    booleans  1         varint of the count | bits, highest first
    strings   1         raw snappy of { varint of the length | bytes }*

Source: influxdb tsdb/engine/tsm1/int.go, bool.go, string.go, encoding.go.
"""

from __future__ import annotations

from typing import Final

import cramjam
import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable
from resources.tsm import simple8b
from resources.tsm.varint import Ints, Words, uvarint

RAW, PACKED, RLE = range(3)
BIT_PACKED = 1
SNAPPY = 1

MAX_STRING_BYTES: Final = 256 << 20
"""Of the strings of one block together; the server takes 64 KiB a string, 1000 a block."""


def decode_integers(data: bytes, n: int) -> Ints:
    """Decode `n` signed integers.

    Raises:
        BlockUndecodable: cut, of unknown encoding, or another number of values.
    """
    if len(data) < 9:
        raise BlockUndecodable(f"integers take {len(data)} bytes, and one alone takes 9")
    encoding = data[0] >> 4
    if encoding == RAW:
        if len(data) - 1 != 8 * n:
            raise BlockUndecodable(f"{len(data) - 1} bytes of raw integers for {n} timestamps")
        zigzag = np.frombuffer(data, dtype=">u8", offset=1).astype(np.uint64)
    elif encoding in (PACKED, RLE):
        zigzag = np.empty(n, dtype=np.uint64)
        zigzag[0] = int.from_bytes(data[1:9])
        zigzag[1:] = simple8b.decode(data, 9, n - 1) if encoding == PACKED else _repeated(data, n)
    else:
        raise BlockUndecodable(f"unknown encoding {encoding} of integers")
    differences = (zigzag >> np.uint64(1)) ^ (np.uint64(0) - (zigzag & np.uint64(1)))
    return np.cumsum(differences, dtype=np.uint64).view(np.int64)


def decode_unsigned(data: bytes, n: int) -> Words:
    """Decode `n` unsigned integers; errors as `decode_integers`."""
    return decode_integers(data, n).view(np.uint64)


def decode_booleans(data: bytes, n: int) -> NDArray[np.bool_]:
    """Decode `n` booleans.

    Raises:
        BlockUndecodable: cut, of unknown encoding, or another number of values.
    """
    if not data or data[0] >> 4 != BIT_PACKED:
        raise BlockUndecodable(f"booleans begin with {data[:1].hex() or 'nothing'}, not 10")
    count, at = uvarint(data, 1, len(data))
    if count != n:
        raise BlockUndecodable(f"{count} booleans for {n} timestamps")
    if len(data) - at != (n + 7) // 8:
        raise BlockUndecodable(f"{n} booleans in {len(data) - at} bytes, at byte {at}")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=at), count=n).view(np.bool_)


def decode_strings(data: bytes, n: int) -> list[bytes]:
    """Decode `n` strings; they are bytes, for the server never checks that they are UTF-8.

    Raises:
        BlockUndecodable: cut, of unknown encoding, too large, or another number of values.
    """
    if not data or data[0] >> 4 != SNAPPY:
        raise BlockUndecodable(f"strings begin with {data[:1].hex() or 'nothing'}, not 10")
    text = _unsnappy(data)
    strings: list[bytes] = []
    at, end = 0, len(text)
    while at < end:
        length = text[at]
        at += 1
        if length >= 0x80:
            length, at = uvarint(text, at - 1, end)
        if length > end - at:
            raise BlockUndecodable(f"a string of {length} bytes where {end - at} are left")
        strings.append(text[at : at + length])
        at += length
        if len(strings) > n:
            break
    if len(strings) != n:
        raise BlockUndecodable(f"{'more than ' * (at < end)}{len(strings)} strings, not {n}")
    return strings


def _unsnappy(data: bytes) -> bytes:
    declared, _ = uvarint(data, 1, len(data))
    # Snappy's best is a copy of 64 bytes in three: whoever declares more lies.
    if declared > MAX_STRING_BYTES or declared * 3 > 64 * len(data):
        raise BlockUndecodable(f"{len(data)} bytes of strings declare to become {declared}")
    try:
        text = bytes(cramjam.snappy.decompress_raw(memoryview(data)[1:]))
    except cramjam.DecompressionError as error:
        raise BlockUndecodable(f"strings cannot be decompressed: {error}") from None
    if len(text) != declared:
        raise BlockUndecodable(f"strings declare {declared} bytes and became {len(text)}")
    return text


def _repeated(data: bytes, n: int) -> int:
    difference, at = uvarint(data, 9, len(data))
    count, at = uvarint(data, at, len(data))
    if count != n - 1 or at != len(data):
        raise BlockUndecodable(f"{count} repeated integers after the first, for {n} timestamps")
    return difference
