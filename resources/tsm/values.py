"""The values of a block, except floats.

Layout: one byte, encoding << 4, then
    integers  0 raw     zigzag of differences, 8 bytes each; the first from 0
              1 packed  zigzag of the first (8) | zigzag of differences, simple-8b
              2 RLE     zigzag of the first (8) | varint of the zigzag of the difference
                        | varint of the number of values after the first
    unsigned  as integers of the same 64 bits
    booleans  1         varint of the count | bits, highest first
    strings   1         raw snappy of { varint of the length | bytes }*

Source: influxdb tsdb/engine/tsm1/int.go, bool.go, string.go, encoding.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cramjam
import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable, TSMError
from resources.tsm import simple8b
from resources.tsm.arrays import Ints, Words
from resources.tsm.varint import encode_uvarint, uvarint

RAW, PACKED, RLE = range(3)
BIT_PACKED = 1
SNAPPY = 1

MAX_STRING_BYTES: Final = 256 << 20
"""The limit for all strings of a block; the server accepts 64 KiB a string, 1000 a block."""


def decode_integers(data: bytes, n: int) -> Ints:
    """Decode `n` signed integers.

    Raises:
        BlockUndecodable: the data is cut, has an unknown encoding or another number of values.
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


def encode_integers(values: Ints) -> bytes:
    """Encode signed integers, at least one, with the server's choice of encoding.

    Three or more values with equal differences become RLE. A zigzag of 2^60 or more, the first
    value's included, makes the block raw. Others are packed.
    """
    differences = np.empty(len(values), dtype=np.int64)
    differences[0] = values[0]
    np.subtract(values[1:], values[:-1], out=differences[1:])
    zigzag = (differences << 1 ^ differences >> 63).view(np.uint64)
    if len(values) > 2 and (zigzag[2:] == zigzag[1]).all():
        repeated = encode_uvarint(int(zigzag[1])) + encode_uvarint(len(values) - 1)
        return bytes([RLE << 4]) + int(zigzag[0]).to_bytes(8) + repeated
    if zigzag.max() > simple8b.MAX_VALUE:
        return bytes([RAW << 4]) + zigzag.astype(">u8").tobytes()
    return bytes([PACKED << 4]) + int(zigzag[0]).to_bytes(8) + simple8b.encode(zigzag[1:])


def decode_unsigned(data: bytes, n: int) -> Words:
    """Decode `n` unsigned integers; raises as `decode_integers`."""
    return decode_integers(data, n).view(np.uint64)


def encode_unsigned(values: Words) -> bytes:
    """Encode unsigned integers, as `encode_integers`."""
    return encode_integers(values.view(np.int64))


def decode_booleans(data: bytes, n: int) -> NDArray[np.bool_]:
    """Decode `n` booleans.

    Raises:
        BlockUndecodable: the data is cut, has an unknown encoding or another number of values.
    """
    if not data or data[0] >> 4 != BIT_PACKED:
        raise BlockUndecodable(f"booleans begin with {data[:1].hex() or 'nothing'}, not 10")
    count, at = uvarint(data, 1, len(data))
    if count != n:
        raise BlockUndecodable(f"{count} booleans for {n} timestamps")
    if len(data) - at != (n + 7) // 8:
        raise BlockUndecodable(f"{n} booleans in {len(data) - at} bytes, at byte {at}")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=at), count=n).view(np.bool_)


def encode_booleans(values: NDArray[np.bool_]) -> bytes:
    """Encode booleans."""
    return bytes([BIT_PACKED << 4]) + encode_uvarint(len(values)) + np.packbits(values).tobytes()


def decode_strings(data: bytes, n: int) -> list[bytes]:
    """Decode `n` strings as bytes, since the server never checks that they are UTF-8.

    Raises:
        BlockUndecodable: the data is cut or too large, has an unknown encoding or another number
            of values.
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


def encode_strings(values: Sequence[bytes]) -> bytes:
    """Encode strings.

    Raises:
        TSMError: the strings exceed MAX_STRING_BYTES in all.
    """
    text = b"".join([part for value in values for part in (encode_uvarint(len(value)), value)])
    if len(text) > MAX_STRING_BYTES:
        raise TSMError(f"a block of {len(text)} bytes of strings, over {MAX_STRING_BYTES}")
    return bytes([SNAPPY << 4]) + bytes(cramjam.snappy.compress_raw(text))


def _unsnappy(data: bytes) -> bytes:
    declared, _ = uvarint(data, 1, len(data))
    # Snappy can at best copy 64 bytes by three, so a larger declared size is wrong.
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
