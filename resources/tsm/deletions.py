"""The deletions in the tombstones of one TSM file, by key and in bounded memory.

A server writes one record for each series and range of a delete, so a file may have a million. Each
takes 32 bytes here for a key of any length: the key's 128-bit digest and both times. Two keys with
one digest would share their ranges; with a million keys the probability is 1 in 10**27.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from resources.errors import TSMError
from resources.tsm.arrays import Ints, Words
from resources.tsm.source import ByteSource
from resources.tsm.tombstone import Tombstone, iter_tombstones, sound_tombstones

DIGEST_BYTES = 16
MAX_DELETIONS = 8_000_000
"""The limit for one file; sorting them takes 450 MB."""


class Ranges(Struct, frozen=True, eq=False):
    """Deleted time ranges of one key: ascending, separate, both ends inclusive."""

    lows: Ints
    highs: Ints

    def __len__(self) -> int:
        return len(self.lows)

    def touching(self, low: int, high: int) -> Ranges:
        """The ranges that share a time with `low` to `high`."""
        first = int(np.searchsorted(self.highs, low, "left"))
        last = int(np.searchsorted(self.lows, high, "right"))
        return Ranges(self.lows[first:last], self.highs[first:last])

    def cover(self, low: int, high: int) -> bool:
        """Whether every time from `low` to `high` is deleted."""
        found = self.touching(low, low)
        return len(found) > 0 and int(found.highs[0]) >= high

    def deleted(self, times: Ints) -> NDArray[np.bool_]:
        """A mask of the deleted times."""
        if not len(self):
            return np.zeros(len(times), dtype=np.bool_)
        before = np.searchsorted(self.lows, times, "right") - 1
        return (before >= 0) & (times <= self.highs[before])


_NONE = Ranges(np.empty(0, np.int64), np.empty(0, np.int64))


class Deletions:
    """The ranges of every key in a file's tombstones.

    Raises:
        TSMError: the constructor finds more than MAX_DELETIONS, or `tombstones` raises it.
    """

    def __init__(self, tombstones: Iterable[Tombstone] = ()) -> None:
        digests, lows, highs = bytearray(), array("q"), array("q")
        for key, low, high in tombstones:
            if len(lows) == MAX_DELETIONS:
                raise TSMError(
                    f"over {MAX_DELETIONS} deleted ranges in one file",
                    hint="let the server compact the shard, and back it up again; or restore "
                    "with -keep-tombstoned, which brings the deleted points back",
                )
            if low <= high:  # else the record deletes nothing
                digests += blake2b(key, digest_size=DIGEST_BYTES).digest()
                lows.append(low)
                highs.append(high)
        words = np.frombuffer(digests, np.uint64).reshape(-1, 2)
        low_times, high_times = np.frombuffer(lows, np.int64), np.frombuffer(highs, np.int64)
        order = np.lexsort((low_times, words[:, 1], words[:, 0]))
        self._first: Words = words[order, 0]
        self._second: Words = words[order, 1]
        self._lows: Ints = low_times[order]
        self._highs: Ints = high_times[order]

    @classmethod
    def sound(cls, source: ByteSource) -> Deletions:
        """The trustworthy deletions of a tombstone file that may be damaged."""
        try:
            return cls(iter_tombstones(source))
        except TSMError:
            return cls(sound_tombstones(source))

    def __len__(self) -> int:
        """The number of records; the ranges of one key may overlap."""
        return len(self._lows)

    def get(self, key: bytes) -> Ranges:
        """The deleted ranges of a key."""
        if not len(self):
            return _NONE
        wanted = np.frombuffer(blake2b(key, digest_size=DIGEST_BYTES).digest(), np.uint64)
        first = int(np.searchsorted(self._first, wanted[:1], "left")[0])
        last = int(np.searchsorted(self._first, wanted[:1], "right")[0])
        if first == last:
            return _NONE
        mine = self._second[first:last] == wanted[1]
        return _joined(self._lows[first:last][mine], self._highs[first:last][mine])


def _joined(lows: Ints, highs: Ints) -> Ranges:
    """Join overlapping and adjacent ranges, which are sorted by their beginnings."""
    if len(lows) < 2:
        return Ranges(lows, highs)
    ends: Ints = np.maximum.accumulate(highs)
    # `low - 1` of the smallest time wraps around, but the smallest time is never beyond an end.
    begins: NDArray[np.bool_] = np.ones(len(lows), dtype=np.bool_)
    begins[1:] = (lows[1:] > ends[:-1]) & (lows[1:] - 1 != ends[:-1])
    starts: Ints = np.flatnonzero(begins)
    lasts: Ints = np.append(starts[1:] - 1, len(lows) - 1)
    return Ranges(lows[starts], ends[lasts])
