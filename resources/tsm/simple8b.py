"""Simple-8b: as many small numbers as fit into 60 bits, in words of eight bytes.

A word is a selector in the top four bits and, from the lowest bit up, as many numbers of
as many bits as the selector says. Selectors 0 and 1 hold no bits: all their numbers are 1.

Source: github.com/jwilder/encoding simple8b/encoding.go.
"""

from __future__ import annotations

import numpy as np

from resources.errors import BlockUndecodable
from resources.tsm.varint import Words

COUNTS = (240, 120, 60, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
BITS = (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60)

_COUNTS = np.array(COUNTS, dtype=np.int64)

COUNT_OF_FIRST_BYTE = bytes(COUNTS[byte >> 4] for byte in range(256))
"""From the first byte of a word to how many numbers the word holds."""


def decode(data: bytes, at: int, n: int) -> Words:
    """Decode the words of `data[at:]`, which hold exactly `n` numbers.

    Raises:
        BlockUndecodable: half a word at the end, or another number of numbers.
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
