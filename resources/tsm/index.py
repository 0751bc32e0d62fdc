"""The index of a TSM file, read in windows: an index may be larger than memory should be.

Layout: see `resources.tsm.layout`. The index has no checksum, so everything that can be checked
is checked here, both for readers and for checks.

Source: influxdb tsdb/engine/tsm1/DESIGN.md, "Index"; reader.go, indirectIndex.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from msgspec import Struct

from resources.errors import IndexOutOfOrder, TSMError
from resources.tsm.layout import (
    ENTRY,
    FOOTER,
    KEY_LENGTH,
    MAX_ENTRIES,
    MAX_KEY_BYTES,
    SEPARATOR,
    TYPE_AND_COUNT,
    BlockType,
    shown,
)
from resources.tsm.source import ByteSource, read_exactly

WINDOW_BYTES = 256 << 10
MAX_ISLANDS = 65_536
LARGEST_KEY_BYTES = KEY_LENGTH.size + MAX_KEY_BYTES + TYPE_AND_COUNT.size + MAX_ENTRIES * ENTRY.size
LAST_TYPE = int(max(BlockType))


class IndexWindow(Struct, frozen=True):
    """As many whole keys of the index as fit into a window, at least one."""

    offset: int
    """The offset of `data` in the file."""
    data: bytes
    keys: list[bytes]
    types: list[int]
    counts: list[int]
    """The number of entries of each key."""
    entries_at: list[int]
    """The position in `data` of each key's entries."""
    new_series: int
    """The number of series that begin here; the fields of a series are adjacent."""


def index_windows(source: ByteSource, start: int) -> Iterator[IndexWindow]:
    """Walk the index that begins at `start`.

    Raises:
        IndexOutOfOrder: keys are not ascending or not unique.
        TSMError: a key or its entries are cut, its type is unknown, or it has no entries.
    """
    end = source.size - FOOTER.size
    previous = prefix = b""
    need = WINDOW_BYTES
    while start < end:
        data = read_exactly(source, start, min(need, end - start))
        window = IndexWindow(start, data, [], [], [], [], 0)
        keys, types, counts, entries_at = (
            window.keys,
            window.types,
            window.counts,
            window.entries_at,
        )
        at, size, new_series = 0, len(data), 0
        while at + 2 <= size:
            body = at + 2 + (data[at] << 8 | data[at + 1])
            if body + 3 > size:
                break
            count = data[body + 1] << 8 | data[body + 2]
            behind = body + 3 + count * 28
            if behind > size:
                break
            key = data[at + 2 : body]
            if key <= previous:
                raise unordered(start + at, key, previous)
            if not key.startswith(prefix) or not prefix:
                cut = key.find(SEPARATOR)
                if cut < 1:
                    raise unsplittable(start + at, key)
                prefix = key[: cut + 4]
                new_series += 1
            if data[body] > LAST_TYPE or not count:
                raise unusable(start + at, key, data[body])
            keys.append(key)
            types.append(data[body])
            counts.append(count)
            entries_at.append(body + 3)
            previous = key
            at = behind
        if not keys:
            if len(data) == end - start or need >= LARGEST_KEY_BYTES:
                raise cut_off(start, end)
            need = LARGEST_KEY_BYTES
            continue
        yield IndexWindow(start, data, keys, types, counts, entries_at, new_series)
        need = WINDOW_BYTES
        start += at


def cut_off(offset: int, end: int) -> TSMError:
    return TSMError(f"the key at offset {offset} reaches beyond the index, up to {end}")


def unordered(offset: int, key: bytes, previous: bytes) -> TSMError:
    if not key:
        return TSMError(f"empty key in the index, at offset {offset}")
    relation = "again" if key == previous else "after"
    return IndexOutOfOrder(
        f"key {shown(key)} {relation} {shown(previous)} in the index, at offset {offset}"
    )


def unusable(offset: int, key: bytes, kind: int) -> TSMError:
    if kind > LAST_TYPE:
        return TSMError(f"key {shown(key)} has unknown type {kind}, at offset {offset}")
    return TSMError(f"key {shown(key)} has no blocks in the index, at offset {offset}")


def unsplittable(offset: int, key: bytes) -> TSMError:
    return TSMError(f"key {shown(key)} lacks series, {SEPARATOR.decode()} or field, at {offset}")


class Coverage:
    """Checks that pieces cover a range: every byte exactly once. Adjacent pieces join as islands.

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
