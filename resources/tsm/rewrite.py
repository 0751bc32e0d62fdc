"""Rewrites a TSM file without its deleted points, for targets that ignore tombstones.

A tombstone deletes a time range, both ends inclusive, of one key in the TSM file of the same name
(influxdb tsdb/engine/tsm1/reader.go, applyTombstones, and indirectIndex.DeleteRange). Blocks
without deleted points are copied byte for byte; the remaining points of the others are encoded
again. A key without points is left out, and a file without keys is not written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from resources.errors import TSMError
from resources.tsm.blocks import Block, encode_block
from resources.tsm.deletions import Deletions, Ranges
from resources.tsm.layout import (
    CRC,
    ENTRY,
    FOOTER,
    HEADER,
    KEY_LENGTH,
    TYPE_AND_COUNT,
    IndexEntry,
    IndexKey,
    split_key,
)
from resources.tsm.merge import block_without, merged_points
from resources.tsm.reader import TSMFile
from resources.tsm.writer import BLOCK_POINTS, TSMWriter

INDEX_IN_MEMORY_BYTES = 1 << 20


class Remainder(Struct, frozen=True):
    """The counts of a file without its deleted points."""

    size_bytes: int
    """0 if no points remain: then there is no file to write."""
    keys: int
    series: int
    points_gone: int
    min_time_ns: int | None
    max_time_ns: int | None


class _Piece(Struct, frozen=True):
    """One block of the new file, copied or encoded again."""

    key: IndexKey
    min_time_ns: int
    max_time_ns: int
    size_bytes: int
    """The block without its CRC."""
    copied: IndexEntry | None
    encoded: bytes


class Rewrite:
    """A file without its deleted points; it is read once to measure and once to write.

    Args:
        file: the file; it is read at random positions.
        deleted: the deletions in its tombstones.

    Raises:
        TSMError: the part of the file that a method reads breaks the format.
    """

    def __init__(self, file: TSMFile, deleted: Deletions) -> None:
        self._file = file
        self._deleted = deleted
        self._gone = 0

    def measure(self) -> Remainder:
        """Measure the new file; decodes blocks with deleted points, and does not read others."""
        self._gone = 0
        size = len(HEADER) + FOOTER.size
        keys = series = 0
        first: int | None = None
        last: int | None = None
        previous_key = previous_series = b""
        for piece in self._pieces():
            key = piece.key.key
            if key != previous_key:
                previous_key = key
                keys += 1
                size += KEY_LENGTH.size + len(key) + TYPE_AND_COUNT.size
                name, _ = split_key(key)
                series += name != previous_series
                previous_series = name
            size += ENTRY.size + CRC.size + piece.size_bytes
            first = piece.min_time_ns if first is None else min(first, piece.min_time_ns)
            last = piece.max_time_ns if last is None else max(last, piece.max_time_ns)
        return Remainder(size if keys else 0, keys, series, self._gone, first, last)

    def write(
        self,
        sink: Callable[[bytes | bytearray | memoryview], object],
        *,
        scratch_dir: str | None = None,
    ) -> int:
        """Write the file; returns its size, which equals the size that `measure` returns.

        Args:
            sink: takes the bytes front to back.
            scratch_dir: the directory for an index larger than INDEX_IN_MEMORY_BYTES.
        """
        with tempfile.SpooledTemporaryFile(INDEX_IN_MEMORY_BYTES, dir=scratch_dir) as spool:
            writer = TSMWriter(sink, index=spool)
            for piece in self._pieces():
                encoded = piece.encoded
                if piece.copied is not None:
                    encoded = self._file.raw_block(piece.key, piece.copied)
                writer.write_block(
                    piece.key.key, piece.key.type, encoded, piece.min_time_ns, piece.max_time_ns
                )
            return writer.finish()

    def _pieces(self) -> Iterator[_Piece]:
        for key in self._file.index():
            ranges = self._deleted.get(key.key)
            if not any(ranges.touching(e.min_time, e.max_time) for e in key.entries):
                yield from (_copied(key, entry) for entry in key.entries)
            elif _overlapping(key.entries):
                yield from self._merged(key, ranges)
            else:
                for entry in key.entries:
                    yield from self._less(key, entry, ranges)

    def _less(self, key: IndexKey, entry: IndexEntry, ranges: Ranges) -> Iterator[_Piece]:
        if not ranges.touching(entry.min_time, entry.max_time):
            yield _copied(key, entry)
            return
        block = self._file.block(key, entry)
        left = block_without(block, ranges)
        self._gone += len(block.times) - len(left.times)
        if len(left.times) == len(block.times):
            yield _copied(key, entry)
        elif len(left.times):
            yield _encoded(key, left)

    def _merged(self, key: IndexKey, ranges: Ranges) -> Iterator[_Piece]:
        """Merge and sort the points of overlapping blocks, which could end up out of order."""
        blocks = [self._file.block(key, entry) for entry in key.entries]
        left = [block_without(block, ranges) for block in blocks]
        left = [block for block in left if len(block.times)]
        kept = 0
        if left:
            times, values = merged_points(left)
            kept = len(times)
            for at in range(0, kept, BLOCK_POINTS):
                part = slice(at, at + BLOCK_POINTS)
                yield _encoded(key, Block(key.type, times[part], values[part]))
        self._gone += sum(len(block.times) for block in blocks) - kept


def _overlapping(entries: Sequence[IndexEntry]) -> bool:
    return any(later.min_time <= earlier.max_time for earlier, later in pairwise(entries))


def _copied(key: IndexKey, entry: IndexEntry) -> _Piece:
    return _Piece(key, entry.min_time, entry.max_time, entry.size - CRC.size, entry, b"")


def _encoded(key: IndexKey, block: Block) -> _Piece:
    try:
        encoded = encode_block(block.type, block.times, block.values)
    except TSMError:
        # The times are out of order, which no server writes.
        times, values = merged_points([block])
        block = Block(block.type, times, values)
        encoded = encode_block(block.type, times, values)
    first, last = int(block.times[0]), int(block.times[-1])
    return _Piece(key, first, last, len(encoded), None, encoded)
