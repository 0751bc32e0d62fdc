"""Float values: each XORed with the one before, and only the bits that differ stored.

Layout: 10 | bits, highest first: the first value (64), then for each further one
    0           the same as before
    1 0 …       XOR with it: as many bits, at the same place, as the last time
    1 1 l s …   XOR with it: l (5 bits) leading zeros, s (6 bits, 0 means 64) bits follow
until a NaN, which the server cannot store, has been read: 7ff8000000000001.

Source: influxdb tsdb/engine/tsm1/float.go; "Gorilla", VLDB 2015, section 4.1.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable

GORILLA = 1
END = 0x7FF8_0000_0000_0001
CHUNK_BYTES = 8192
LONGEST_BITS = 2 + 5 + 6 + 64

# From the eleven bits of a new window to how many zeros trail and how many bits are kept.
_WINDOWS = {
    f"{leading:05b}{kept % 64:06b}": (64 - leading - kept, kept)
    for leading in range(32)
    for kept in range(1, 65)
}


def decode_floats(data: bytes, n: int) -> NDArray[np.float64]:
    """Decode `n` values, which must be all there are.

    Raises:
        BlockUndecodable: cut, of unknown encoding, or another number of values.
    """
    if len(data) < 9 or data[0] >> 4 != GORILLA:
        raise BlockUndecodable(f"floats begin with {data[:1].hex() or 'nothing'}, not 10")
    if n * LONGEST_BITS + 64 < (len(data) - 1) * 8 - LONGEST_BITS - 7:
        raise BlockUndecodable(f"{len(data)} bytes of floats, too many for {n} values")
    value = int.from_bytes(data[1:9])
    values = [] if value == END else [value]
    trailing, significant = 0, 64
    done = value == END
    base = 9
    at = 0
    # The bits become text, chunk by chunk: slicing text is the quickest bit reader there is.
    while not done:
        base, at = base + at // 8, at % 8
        chunk = data[base : base + CHUNK_BYTES]
        bits = format(int.from_bytes(chunk), f"0{8 * len(chunk)}b") if chunk else ""
        last = base + len(chunk) == len(data)
        stop = len(bits) if last else len(bits) - LONGEST_BITS
        while at < stop:
            if bits[at] == "0":
                one = bits.find("1", at, stop)
                same = (one if one >= 0 else stop) - at
                if len(values) + same > n:
                    raise BlockUndecodable(f"more than {n} floats, at byte {base + at // 8}")
                values += [value] * same
                at += same
                continue
            if bits[at : at + 2] == "11":
                if at + 13 > len(bits):
                    break
                trailing, significant = _WINDOWS[bits[at + 2 : at + 13]]
                if trailing < 0:
                    raise BlockUndecodable(f"a float of over 64 bits, at byte {base + at // 8}")
                at += 13
            else:
                at += 2
            if at + significant > len(bits):
                break
            value ^= int(bits[at : at + significant], 2) << trailing
            at += significant
            if value == END:
                done = True
                break
            values.append(value)
            if len(values) > n:
                raise BlockUndecodable(f"more than {n} floats, at byte {base + at // 8}")
        if last and not done:
            raise BlockUndecodable(f"floats end without their end mark, at byte {len(data)}")
    if len(values) != n:
        raise BlockUndecodable(f"{len(values)} floats for {n} timestamps")
    return np.array(values, dtype=np.uint64).view(np.float64)
