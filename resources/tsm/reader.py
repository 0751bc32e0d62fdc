"""TSMFile: keys, index entries and points of one file, from any source.

    with path.open("rb") as file:
        tsm = TSMFile(FileSource(file.fileno()))
        for key in tsm.keys():
            times, values = tsm.read(key)

Source: influxdb tsdb/engine/tsm1/DESIGN.md; reader.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from resources.errors import BlockChecksumMismatch, BlockUndecodable, IndexOutOfOrder, TSMError
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Block, Values, decode_block
from resources.tsm.crc import crc32
from resources.tsm.index import index_windows
from resources.tsm.layout import (
    CRC,
    ENTRY,
    HEADER,
    MIN_BLOCK_BYTES,
    BlockType,
    IndexEntry,
    IndexKey,
    shown,
)
from resources.tsm.source import ByteSource, index_start, read_exactly

MAX_DECODED_BLOCK_BYTES = 256 << 20


class TSMFile:
    """One TSM file; memory holds a window of the index and a block.

    Raises:
        TSMError: the part of the file that a method reads breaks the format.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.size_bytes = source.size
        self.index_start = index_start(source)

    def index(self) -> Iterator[IndexKey]:
        """Yield all keys with their entries, in ascending order."""
        for window in index_windows(self._source, self.index_start):
            for key, kind, n, at in zip(
                window.keys, window.types, window.counts, window.entries_at, strict=True
            ):
                raw = memoryview(window.data)[at : at + n * ENTRY.size]
                entries = tuple(map(IndexEntry._make, ENTRY.iter_unpack(raw)))
                self._check(key, entries)
                yield IndexKey(key, BlockType(kind), entries)

    def keys(self) -> Iterator[bytes]:
        for window in index_windows(self._source, self.index_start):
            yield from window.keys

    def find(self, key: bytes) -> IndexKey | None:
        """A key's part of the index, found by a scan from its beginning."""
        for found in self.index():
            if found.key >= key:
                return found if found.key == key else None
        return None

    def entries(self, key: bytes) -> tuple[IndexEntry, ...]:
        """A key's blocks, by min time; empty if there is no such key."""
        found = self.find(key)
        return found.entries if found is not None else ()

    def read(self, key: bytes) -> tuple[Ints, Values]:
        """A key's points in the order of the file; the server sorts them by time.

        Raises:
            KeyError: there is no such key.
        """
        found = self.find(key)
        if found is None:
            raise KeyError(key)
        blocks = [self.block(found, entry) for entry in found.entries]
        return np.concatenate([block.times for block in blocks]), joined(
            [block.values for block in blocks]
        )

    def block(self, key: IndexKey, entry: IndexEntry) -> Block:
        """Read and decode one block.

        Raises:
            BlockChecksumMismatch: its CRC does not match.
            BlockUndecodable: its encoding is broken, or its type or times are not the index's.
        """
        where = f"block of {shown(key.key)} at offset {entry.offset}"
        data = self.raw_block(key, entry)
        try:
            block = decode_block(data)
        except BlockUndecodable as error:
            error.add_note(where)
            raise
        if block.type is not key.type:
            raise BlockUndecodable(f"{where}: type {block.type.name}, in the index {key.type.name}")
        times = int(block.times[0]), int(block.times[-1])
        if times != entry[:2]:
            raise BlockUndecodable(
                f"{where}: times {times[0]} to {times[1]},"
                f" in the index {entry.min_time} to {entry.max_time}"
            )
        return block

    def raw_block(self, key: IndexKey, entry: IndexEntry) -> bytes:
        """Read one encoded block, without its CRC.

        Raises:
            BlockChecksumMismatch: its CRC does not match.
            BlockUndecodable: the block is larger than MAX_DECODED_BLOCK_BYTES.
        """
        where = f"block of {shown(key.key)} at offset {entry.offset}"
        if entry.size > MAX_DECODED_BLOCK_BYTES:
            raise BlockUndecodable(f"{where}: {entry.size} bytes, over {MAX_DECODED_BLOCK_BYTES}")
        data = read_exactly(self._source, entry.offset, entry.size)
        if crc32(memoryview(data)[CRC.size :], 0) != CRC.unpack_from(data)[0]:
            raise BlockChecksumMismatch(f"{where}: its CRC-32 does not fit its bytes")
        return data[CRC.size :]

    def _check(self, key: bytes, entries: tuple[IndexEntry, ...]) -> None:
        previous = entries[0].min_time
        for entry in entries:
            if not previous <= entry.min_time <= entry.max_time:
                raise IndexOutOfOrder(f"{shown(key)}: times of its blocks are not in order")
            if (
                entry.size < MIN_BLOCK_BYTES
                or entry.offset < len(HEADER)
                or entry.offset + entry.size > self.index_start
            ):
                raise TSMError(
                    f"{shown(key)}: a block of {entry.size} bytes at offset {entry.offset},"
                    f" where blocks are between {len(HEADER)} and {self.index_start}"
                )
            previous = entry.min_time


def joined(parts: Sequence[Values]) -> Values:
    """Concatenate values of one type."""
    first = parts[0]
    if isinstance(first, list):
        return [value for part in parts if isinstance(part, list) for value in part]
    return np.concatenate([part for part in parts if not isinstance(part, list)])
