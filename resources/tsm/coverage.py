"""Checks that pieces cover a range: every byte exactly once."""

from __future__ import annotations

from bisect import bisect_right

from resources.errors import IndexOutOfOrder

MAX_ISLANDS = 65_536


class Coverage:
    """The pieces so far, as islands: adjacent pieces join.

    The server writes blocks in the order of the index, so there is a single island; only
    files of other tools need more.
    """

    def __init__(self, start: int, end: int) -> None:
        self._range = start, end
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add a piece.

        Raises:
            IndexOutOfOrder: the piece reaches outside the range, or into another piece.
        """
        if start < self._range[0] or end > self._range[1] or start >= end:
            raise IndexOutOfOrder(
                f"bytes {start} to {end} reach outside the blocks,"
                f" which are bytes {self._range[0]} to {self._range[1]}"
            )
        at = bisect_right(self._starts, start)
        if (at and self._ends[at - 1] > start) or (
            at < len(self._starts) and self._starts[at] < end
        ):
            raise IndexOutOfOrder(f"bytes {start} to {end} overlap another block")
        if at < len(self._starts) and self._starts[at] == end:
            end = self._ends.pop(at)
            self._starts.pop(at)
        if at and self._ends[at - 1] == start:
            self._ends[at - 1] = end
            return
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        if len(self._starts) > MAX_ISLANDS:
            raise IndexOutOfOrder(f"the blocks lie scattered, in over {MAX_ISLANDS} places")

    def finish(self) -> None:
        """Check that the pieces cover the whole range.

        Raises:
            IndexOutOfOrder: no piece covers some of its bytes.
        """
        start, end = self._range
        first_gap = self._ends[0] if self._starts[:1] == [start] else start
        if first_gap != end:
            raise IndexOutOfOrder(f"no key has the block at offset {first_gap}")
