"""Simple-8b: packs as many small numbers as fit into 60 bits, in words of eight bytes.

The top four bits of a word are a selector, which sets the number and the width of the numbers in
it; these begin at the lowest bit. Selectors 0 and 1 have a width of 0: all their numbers are 1.

Source: github.com/jwilder/encoding simple8b/encoding.go.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockUndecodable
from resources.tsm.arrays import Words
from resources.tsm.time_counts import BITS, COUNTS, MAX_VALUE, folds

FIRST_WITH_BITS = 2

_COUNTS = np.array(COUNTS, dtype=np.int64)
_BITS = np.array(BITS, dtype=np.int64)
_LARGEST = np.array([(1 << bits) - 1 for bits in BITS[FIRST_WITH_BITS:]], dtype=np.uint64)


def decode(data: bytes, at: int, n: int) -> Words:
    """Decode the words of `data[at:]`, which must have exactly `n` numbers.

    Raises:
        BlockUndecodable: the last word is cut, or the words have another number of numbers.
    """
    if (len(data) - at) % 8:
        raise BlockUndecodable(f"packed numbers end inside a word, at byte {len(data)}")
    words = np.frombuffer(data, dtype=">u8", offset=at).astype(np.uint64)
    selectors = (words >> np.uint64(60)).astype(np.int64)
    counts = _COUNTS[selectors]
    held = int(counts.sum())
    if held != n:
        raise BlockUndecodable(f"packed numbers from byte {at} on are {held}, not {n}")
    numbers = np.ones(n, dtype=np.uint64)
    starts = np.cumsum(counts) - counts
    present = np.bincount(selectors, minlength=16)
    for selector, bits in enumerate(BITS):
        if not bits or not present[selector]:
            continue
        (chosen,) = np.nonzero(selectors == selector)
        places = np.arange(COUNTS[selector])
        shifts = (places * bits).astype(np.uint64)
        mask = np.uint64((1 << bits) - 1)
        numbers[starts[chosen, None] + places] = (words[chosen, None] >> shifts) & mask
    return numbers


SAMPLED = 61
"""One word of each 61 shows which selector most of them have."""


def sums(data: bytes) -> Words:
    """The sum of the numbers of each word, at most 60 bits.

    Each step adds pairs of adjacent numbers, whose two fields have room for the sum, until one
    number is left.
    """
    words = np.frombuffer(data, dtype=">u8").astype(np.uint64)
    words &= np.uint64(MAX_VALUE)
    selectors = np.frombuffer(data, dtype=np.uint8)[::8] >> 4
    # Most words have one selector: all words are added up in place, as if they had it. A sample
    # tells which; if it is wrong, the sums take longer and are the same.
    most = int(np.bincount(selectors[::SAMPLED], minlength=len(BITS)).argmax())
    totals = _folded(words, most)
    (others,) = np.nonzero(selectors != most)
    theirs = selectors[others]
    for selector in np.flatnonzero(np.bincount(theirs)).tolist():
        chosen = others[theirs == selector]
        totals[chosen] = _folded(words[chosen], selector)
    return totals


def _folded(words: Words, selector: int) -> Words:
    bits, count = BITS[selector], COUNTS[selector]
    if not bits:
        return np.full_like(words, count)
    if count == 1:
        return words.copy()
    for even, odd, shift in folds(bits, count):
        neighbours = words & np.uint64(odd)
        neighbours >>= np.uint64(shift)
        words = words & np.uint64(even)
        words += neighbours
    return words


def encode(numbers: Words) -> bytes:
    """Pack numbers, none above MAX_VALUE; each word uses the first selector that fits.

    Selectors 0 and 1 fit only if all numbers up to the end are 1, not only those of the word.
    The server does the same, so the result equals its files.
    """
    n = len(numbers)
    if not n:
        return b""
    selectors = _selectors(numbers)
    chosen: list[int] = selectors.tolist()
    starts: list[int] = []
    at = 0
    while at < n:
        starts.append(at)
        at += COUNTS[chosen[at]]
    firsts = np.array(starts, dtype=np.intp)
    of_words = selectors[firsts]
    counts = _COUNTS[of_words]
    places = np.arange(n) - np.repeat(firsts, counts)
    shifts = places * np.repeat(_BITS[of_words], counts)
    words = np.bitwise_or.reduceat(numbers << shifts.astype(np.uint64), firsts)
    words[of_words < FIRST_WITH_BITS] = 0
    words |= of_words.astype(np.uint64) << np.uint64(60)
    return words.astype(">u8").tobytes()


def _selectors(numbers: Words) -> NDArray[np.intp]:
    """For every position, the selector of a word that begins there."""
    n = len(numbers)
    needed = np.searchsorted(_LARGEST, numbers) + FIRST_WITH_BITS
    lowest, highest = int(needed.min()), int(needed.max())
    # From `highest` on every number fits; only the end of the numbers limits a word.
    selectors = np.full(n, highest, dtype=np.intp)
    for selector in range(highest + 1, len(COUNTS)):
        selectors[max(n - COUNTS[selector - 1] + 1, 0) : max(n - COUNTS[selector] + 1, 0)] = (
            selector
        )
    # Below it, a word fits if none of its numbers is too large.
    for selector in range(highest - 1, lowest - 1, -1):
        begins = n - COUNTS[selector] + 1
        if begins > 0:
            larger = np.zeros(n + 1, dtype=np.int64)
            np.cumsum(needed > selector, out=larger[1:])
            selectors[:begins][larger[n + 1 - begins :] == larger[:begins]] = selector
    if lowest == FIRST_WITH_BITS:
        others = np.flatnonzero(numbers != 1)
        ones = int(others[-1]) + 1 if others.size else 0
        for selector in (1, 0):
            selectors[ones : max(n - COUNTS[selector] + 1, ones)] = selector
    return selectors
