"""Float values: each is XORed with the previous one, and only the bits that differ are stored.

Layout: 10 | bits, highest first: the first value (64), then for each further one
    0           the previous value again
    1 0 …       XOR with the previous value: as many bits, at the same position, as the last time
    1 1 l s …   XOR with it: l (5 bits) leading zeros, s (6 bits, 0 means 64) bits follow
The end is a NaN, which the server cannot store as a value: 7ff8000000000001.

Source: influxdb tsdb/engine/tsm1/float.go; "Gorilla", VLDB 2015, section 4.1.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable, TSMError
from resources.tsm.arrays import Ints, Words

GORILLA = 1
END = 0x7FF8_0000_0000_0001
CHUNK_BYTES = 8192
LONGEST_BITS = 2 + 5 + 6 + 64
HIGHEST_LEADING = 31
"""The limit of five bits; the server keeps the lowest five bits of a larger number."""

# Maps the eleven bits of a new window to the numbers of trailing zeros and of kept bits.
_WINDOWS = {
    f"{leading:05b}{kept % 64:06b}": (64 - leading - kept, kept)
    for leading in range(32)
    for kept in range(1, 65)
}


def decode_floats(data: bytes, n: int) -> NDArray[np.float64]:
    """Decode `n` values, which must be all values of the block.

    Raises:
        BlockUndecodable: the data is cut, has an unknown encoding or another number of values.
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
    # The bits become text, chunk by chunk: slicing text is the fastest way to read bits in Python.
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


def encode_floats(values: NDArray[np.float64]) -> bytes:
    """Encode values, at least one, bit for bit as the server does.

    Raises:
        TSMError: a value is NaN, which marks the end.
    """
    if np.isnan(values).any():
        raise TSMError(f"value {int(np.isnan(values).argmax())} is NaN, which no block can hold")
    bits = np.append(values.view(np.uint64), np.uint64(END))
    differences = bits[1:] ^ bits[:-1]
    (changed,) = np.nonzero(differences)
    differences = differences[changed]
    leading, trailing = _leading_zeros(differences) & HIGHEST_LEADING, _trailing_zeros(differences)

    opens = _opening_windows(leading, trailing)
    window = np.cumsum(opens) - 1
    leading, trailing = leading[opens][window], trailing[opens][window]
    kept = 64 - leading - trailing
    # 11, leading and kept before a new window; 10 before a value in the same window.
    control = np.where(opens, 0b11 << 11 | leading << 6 | kept & 63, 0b10)
    control_bits = np.where(opens, 13, 2)

    lengths = np.ones(len(bits), dtype=np.int64)
    lengths[0] = 64
    lengths[changed + 1] = control_bits + kept
    ends = np.cumsum(lengths)
    at = (ends - lengths)[changed + 1]
    body = differences >> trailing.astype(np.uint64)
    # Bits that are not placed are zero, which is also the code of a repeated value.
    words = _placed(
        np.append(bits[:1], np.column_stack((control.astype(np.uint64), body))),
        np.append([0], np.column_stack((at, at + control_bits))),
        np.append([64], np.column_stack((control_bits, kept))),
    )
    return bytes([GORILLA << 4]) + words.astype(">u8").tobytes()[: (int(ends[-1]) + 7) // 8]


def _opening_windows(leading: Ints, trailing: Ints) -> NDArray[np.bool_]:
    """A mask of the values that do not fit into the previous window and open a new one."""
    opens = np.zeros(len(leading), dtype=np.bool_)
    least_leading = least_trailing = 64
    for i, (left, right) in enumerate(zip(leading.tolist(), trailing.tolist(), strict=True)):
        if left < least_leading or right < least_trailing:
            least_leading, least_trailing = left, right
            opens[i] = True
    return opens


def _placed(pieces: Words, at: Ints, lengths: Ints) -> Words:
    """Put pieces of 1 to 64 bits at ascending bit positions, highest bits first."""
    word, behind = at >> 6, (at & 63) + lengths
    over = behind > 64
    here = np.where(
        over,
        pieces >> (behind - 64 & 63).astype(np.uint64),
        pieces << (64 - behind & 63).astype(np.uint64),
    )
    words = np.zeros(int(word[-1]) + 2, dtype=np.uint64)
    firsts = np.flatnonzero(np.append([True], word[1:] != word[:-1]))
    words[word[firsts]] = np.bitwise_or.reduceat(here, firsts)
    # At most one piece crosses the end of a word.
    words[word[over] + 1] |= pieces[over] << (128 - behind[over]).astype(np.uint64)
    return words


def _leading_zeros(numbers: Words) -> Ints:
    """The leading zeros of numbers that are not 0."""
    # Without the bit below the highest, no number rounds up to the next power of two.
    return 63 - _exponents(numbers & ~(numbers >> np.uint64(1)))


def _trailing_zeros(numbers: Words) -> Ints:
    """The trailing zeros of numbers that are not 0."""
    return _exponents(numbers & (~numbers + np.uint64(1)))


def _exponents(numbers: Words) -> Ints:
    return (numbers.astype(np.float64).view(np.int64) >> 52) - 1023
