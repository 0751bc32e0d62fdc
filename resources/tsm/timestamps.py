"""The timestamps of a block.

Layout: one byte, encoding << 4 | exponent, then by encoding:
    0 raw     first time (8) | differences, 8 bytes each
    1 packed  first time (8) | differences / 10^exponent, simple-8b
    2 RLE     first time (8) | varint of the difference / 10^exponent | varint of the count

All arithmetic is modulo 2^64. Source: influxdb tsdb/engine/tsm1/timestamp.go.
"""

from __future__ import annotations

import numpy as np

from resources.tsm import simple8b
from resources.tsm.arrays import Ints, Words
from resources.tsm.time_counts import HEAD_BYTES, PACKED, RAW, RLE, count_timestamps
from resources.tsm.varint import encode_uvarint, uvarint

MAX_EXPONENT = 12
"""The largest exponent that the server writes; a reader accepts up to 15."""


def decode_timestamps(data: bytes) -> Ints:
    """Decode a block's timestamps, at least one.

    Raises:
        BlockUndecodable: the data is cut, has an unknown encoding, or more than MAX_BLOCK_POINTS.
    """
    n = count_timestamps(data)
    encoding, scale = data[0] >> 4, np.uint64(10 ** (data[0] & 0x0F))
    times = np.empty(n, dtype=np.uint64)
    times[0] = int.from_bytes(data[1:HEAD_BYTES])
    if encoding == RAW:
        times[1:] = np.frombuffer(data, dtype=">u8", offset=HEAD_BYTES)
    elif encoding == PACKED:
        times[1:] = simple8b.decode(data, HEAD_BYTES, n - 1) * scale
    else:
        difference, _ = uvarint(data, HEAD_BYTES, len(data))
        times[1:] = np.uint64(difference) * _as_array(scale)
    return np.cumsum(times, dtype=np.uint64).view(np.int64)


def encode_timestamps(times: Ints) -> bytes:
    """Encode a block's timestamps, at least one, with the server's choice of encoding.

    Equal differences become RLE; a difference of 2^60 ns or more makes the block raw; others are
    packed. RLE and packed differences are divided by the largest power of ten up to 10^12 that
    divides all of them.
    """
    unsigned = times.view(np.uint64)
    differences = unsigned[1:] - unsigned[:-1]
    first = int(unsigned[0]).to_bytes(8)
    if len(differences) and (differences == differences[0]).all():
        exponent = _exponent(differences[:1])
        difference = int(differences[0]) // 10**exponent
        head = bytes([RLE << 4 | exponent])
        return head + first + encode_uvarint(difference) + encode_uvarint(len(times))
    if len(differences) and differences.max() > simple8b.MAX_VALUE:
        return bytes([RAW << 4]) + first + differences.astype(">u8").tobytes()
    exponent = _exponent(differences)
    packed = simple8b.encode(differences // np.uint64(10**exponent))
    return bytes([PACKED << 4 | exponent]) + first + packed


def _exponent(differences: Words) -> int:
    exponent = MAX_EXPONENT
    if len(differences):
        first = int(differences[0])
        while first % 10**exponent:
            exponent -= 1
    while (differences % np.uint64(10**exponent)).any():
        exponent -= 1
    return exponent


def _as_array(number: np.uint64) -> Words:
    # numpy scalars warn about an overflow; arrays wrap around, as the format requires.
    return np.array([number], dtype=np.uint64)
