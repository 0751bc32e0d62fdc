"""Reads every readable record in the index of a damaged TSM file.

A record is accepted if its key has a separator, its entries are inside the blocks, and another
record or the footer follows. Otherwise the scan goes on to the next separator whose record leads to
a block with a matching CRC; other bytes do not match by chance.

Layout: see `resources.tsm.layout`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from resources.errors import TSMError
from resources.tsm.crc import crc32
from resources.tsm.layout import (
    CRC,
    ENTRY,
    FOOTER,
    HEADER,
    KEY_LENGTH,
    MAX_ENTRIES,
    MIN_BLOCK_BYTES,
    SEPARATOR,
    TYPE_AND_COUNT,
    IndexEntry,
)
from resources.tsm.source import ByteSource, read_exactly

MAX_BLOCK_BYTES = 256 << 20
"""A block is read as a whole; larger ones are not searched for."""
SEARCHED_KEY_BYTES = 4096
"""The longest key that is found after a hole."""
MAX_TRIES = 1_000_000
"""How many places of one file are searched for a record, to bound the time."""
_WINDOW_BYTES = 64 << 10


class Hole(NamedTuple):
    """An unreadable part of the index."""

    offset: int
    size_bytes: int


class Record(Struct, frozen=True):
    """A key and its unchecked entries."""

    offset: int
    end: int
    key: bytes
    entries: tuple[IndexEntry, ...]


class SoundIndex:
    """The index of a file whose index and footer may be damaged.

    Attributes:
        start: the offset of the index, which ends the blocks; without an index, the file's end.
        footer: the fault of the footer; empty: none.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._end = max(source.size - FOOTER.size, 0)
        self._tries = 0
        self.footer = ""
        self.start = self._end
        reported = -1
        if source.size >= len(HEADER) + FOOTER.size:
            (reported,) = FOOTER.unpack(read_exactly(source, self._end, FOOTER.size))
        inside = len(HEADER) <= reported < self._end
        if inside and self._begins(reported, reported):
            self.start = reported
            return
        self.start = self._searched(reported if inside else len(HEADER))
        if self.start != reported:
            self.footer = f"its footer puts the index at {reported}, and it begins at {self.start}"

    def records(self) -> Iterator[Record | Hole]:
        """Yield records and holes, front to back."""
        at = self.start
        while at < self._end:
            record = self._record(at)
            if record is not None:
                yield record
                at = record.end
                continue
            found = self._next(at + 1, self.start)
            behind = self._end if found is None else found
            yield Hole(at, behind - at)
            at = behind

    def _record(self, at: int) -> Record | None:
        head = self._head(at)
        if head is None:
            return None
        key, entries_at, reported = head
        most = min((self._end - entries_at) // ENTRY.size, MAX_ENTRIES)
        count = reported if self._is_followed(entries_at, reported, most) else 0
        if not count and 1 <= reported <= most:
            count = reported if self._all_plausible(entries_at, reported) else 0
        if not count and self._leads_to_a_block(at, self.start):
            # The number of entries is damaged.
            found = (n for n in range(1, most + 1) if self._is_followed(entries_at, n, most))
            count = next(found, 0)
        if not count or not any(
            _is_plausible(entry, self.start) for entry in self._entries(entries_at, count)
        ):
            return None
        entries = self._entries(entries_at, count)
        return Record(at, entries_at + count * ENTRY.size, key, entries)

    def _head(self, at: int) -> tuple[bytes, int, int] | None:
        """The key, the position of its entries, and their number."""
        if at + KEY_LENGTH.size > self._end:
            return None
        (length,) = KEY_LENGTH.unpack(read_exactly(self._source, at, KEY_LENGTH.size))
        entries_at = at + KEY_LENGTH.size + length + TYPE_AND_COUNT.size
        if entries_at + ENTRY.size > self._end:
            return None
        raw = read_exactly(self._source, at + KEY_LENGTH.size, length + TYPE_AND_COUNT.size)
        if raw.find(SEPARATOR, 0, length) < 1:
            return None
        return raw[:length], entries_at, TYPE_AND_COUNT.unpack_from(raw, length)[1]

    def _is_followed(self, entries_at: int, count: int, most: int) -> bool:
        if not 1 <= count <= most:
            return False
        end = entries_at + count * ENTRY.size
        return end == self._end or self._begins(end, self.start)

    def _begins(self, at: int, blocks_end: int) -> bool:
        head = self._head(at)
        if head is None:
            return False
        [first] = self._entries(head[1], 1)
        return _is_plausible(first, blocks_end)

    def _all_plausible(self, at: int, n: int) -> bool:
        return all(_is_plausible(entry, self.start) for entry in self._entries(at, n))

    def _entries(self, at: int, n: int) -> tuple[IndexEntry, ...]:
        raw = read_exactly(self._source, at, n * ENTRY.size)
        return tuple(map(IndexEntry._make, ENTRY.iter_unpack(raw)))

    # --- search after damage -----------------------------------------------------------------

    def _searched(self, at: int) -> int:
        """Find the offset of the index: the end of the last block of any record after `at`."""
        for begin in dict.fromkeys((at, len(HEADER))):
            found = self._next(begin, self._end)
            if found is None:
                continue
            self.start = found
            ends = [
                entry.offset + entry.size
                for record in self.records()
                if isinstance(record, Record)
                for entry in record.entries
                if _is_plausible(entry, found)
            ]
            behind = max(ends, default=found)
            return behind if behind in (at, found) or self._begins(behind, behind) else found
        return self._end

    def _next(self, at: int, blocks_end: int) -> int | None:
        """The position of the next record whose first block is whole; None: there is none."""
        for separator in self._separators(at):
            low = max(at, separator - SEARCHED_KEY_BYTES)
            near = read_exactly(self._source, low, separator - low)
            for begin in range(separator - KEY_LENGTH.size - 1, low - 1, -1):
                (length,) = KEY_LENGTH.unpack_from(near, begin - low)
                if begin + KEY_LENGTH.size + length < separator + len(SEPARATOR):
                    continue
                self._tries += 1
                if self._tries > MAX_TRIES:
                    return None
                if self._leads_to_a_block(begin, blocks_end):
                    return begin
        return None

    def _separators(self, at: int) -> Iterator[int]:
        overlap = len(SEPARATOR) - 1
        while at < self._end:
            window = read_exactly(self._source, at, min(_WINDOW_BYTES, self._end - at))
            found = window.find(SEPARATOR)
            while found >= 0:
                yield at + found
                found = window.find(SEPARATOR, found + 1)
            if len(window) <= overlap:
                return
            at += len(window) - overlap

    def _leads_to_a_block(self, at: int, blocks_end: int) -> bool:
        end = min(blocks_end, at)
        if not self._begins(at, end):
            return False
        head = self._head(at)
        assert head is not None  # noqa: S101 - `_begins` has seen it
        [first] = self._entries(head[1], 1)
        return sound_block(self._source, first.offset, first.size) is not None


def sound_block(source: ByteSource, offset: int, size_bytes: int) -> bytes | None:
    """A block without its CRC; None if the CRC does not match."""
    if not MIN_BLOCK_BYTES <= size_bytes <= MAX_BLOCK_BYTES:
        return None
    try:
        data = read_exactly(source, offset, size_bytes)
    except (TSMError, struct.error):
        return None
    body = memoryview(data)[CRC.size :]
    return bytes(body) if crc32(body, 0) == CRC.unpack_from(data)[0] else None


def _is_plausible(entry: IndexEntry, blocks_end: int) -> bool:
    return (
        entry.min_time <= entry.max_time
        and entry.offset >= len(HEADER)
        and entry.size >= MIN_BLOCK_BYTES
        and entry.offset + entry.size <= blocks_end
    )
