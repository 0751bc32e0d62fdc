"""TSMWriter: writes a TSM file, front to back, into any sink.

    with path.open("wb") as file:
        writer = TSMWriter(file.write)
        for series in series_points(files):
            writer.write(series.key, series.type, series.times, series.values)
        writer.finish()

Layout: see `resources.tsm.layout`. For the same points, influxd 1.6 writes the same bytes.

Source: influxdb tsdb/engine/tsm1/writer.go, tsmWriter; compact.go, maxTSMFileSize.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from resources.errors import BlockUndecodable, IndexOutOfOrder, TSMError
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Values, encode_block
from resources.tsm.crc import crc32
from resources.tsm.layout import (
    CRC,
    ENTRY,
    FOOTER,
    HEADER,
    KEY_LENGTH,
    MAX_ENTRIES,
    MAX_KEY_BYTES,
    MIN_BLOCK_BYTES,
    TYPE_AND_COUNT,
    BlockType,
    shown,
    split_key,
)
from resources.tsm.time_counts import HEAD_BYTES
from resources.tsm.varint import uvarint

BLOCK_POINTS = 1000
"""The server's number of points in a block; only the last block of a key has fewer."""

MAX_FILE_BYTES = 2 << 30
"""The server begins another file after this size, index included."""

INDEX_PIECE_BYTES = 256 << 10

MAX_BLOCK_BYTES = (1 << 32) - 1
"""The largest block, CRC included; the index has four bytes for its size."""


class TSMWriter:
    """Writes one file; memory holds the points of one call and, without `index`, the index.

    Keys must ascend. A call either writes all its points, or raises a TSMError and writes nothing;
    only an error of the sink leaves an unusable file.

    Args:
        sink: takes the file's bytes, in pieces from four bytes to a block: a
            buffered file's `write`, a bytearray's `extend`.
        index: an empty file that keeps the index until it is written; None: memory.
    """

    def __init__(
        self,
        sink: Callable[[bytes | bytearray | memoryview], object],
        *,
        index: IO[bytes] | None = None,
    ) -> None:
        self._sink = sink
        self._offset = 0
        self._index = io.BytesIO() if index is None else index
        self._index_bytes = 0
        self._key = b""
        self._kind = BlockType.FLOAT
        self._entries = bytearray()
        """The entries of `_key`; the index has their number before them."""
        self._last_min = self._last_max = 0
        self._finished = False

    @property
    def size_bytes(self) -> int:
        """The size that the file would have after `finish`."""
        pending = KEY_LENGTH.size + len(self._key) + TYPE_AND_COUNT.size + len(self._entries)
        blocks = max(self._offset, len(HEADER))
        return blocks + self._index_bytes + (pending if self._entries else 0) + FOOTER.size

    @property
    def full(self) -> bool:
        """Whether the next block belongs into another file, by the rule of 1.x servers."""
        return self.size_bytes > MAX_FILE_BYTES

    def write(self, key: bytes, kind: BlockType, times: Ints, values: Values) -> None:
        """Write points of a key, in blocks of BLOCK_POINTS.

        Args:
            key: the previous key, to add points to it, or a later one.
            times: nanoseconds, int64, strictly ascending, after the key's previous ones.
            values: one per time, of the dtype that reading returns for the type.

        Raises:
            IndexOutOfOrder: key or times are not in order.
            TSMError: the points cannot be encoded, or exceed a limit of the format.
        """
        if not len(times) or len(values) != len(times):
            raise TSMError(f"{shown(key)}: {len(times)} times and {len(values)} values")
        if times.dtype != np.int64 or not (times[1:] > times[:-1]).all():
            raise IndexOutOfOrder(f"{shown(key)}: its times are not ascending int64")
        if key == self._key and times[0] <= self._last_max:
            raise IndexOutOfOrder(f"{shown(key)}: times from {times[0]} on, after {self._last_max}")
        blocks: list[tuple[int, int, bytes]] = []
        for at in range(0, len(times), BLOCK_POINTS):
            part = slice(at, at + BLOCK_POINTS)
            try:
                encoded = encode_block(kind, times[part], values[part])
            except TSMError as error:
                error.add_note(f"{shown(key)}, from its point {at} on")
                raise
            blocks.append((int(times[at]), int(times[part][-1]), encoded))
        self._write(key, kind, blocks)

    def write_block(
        self, key: bytes, kind: BlockType, encoded: bytes, min_time_ns: int, max_time_ns: int
    ) -> None:
        """Write an encoded block of another file, without decoding it.

        Args:
            key: as in `write`.
            encoded: the block, without its CRC.
            min_time_ns: the time of its first point in the other file's index.
            max_time_ns: the time of its last point there.

        Raises:
            BlockUndecodable: its head breaks the format, or contradicts the arguments.
            IndexOutOfOrder, TSMError: as `write`; but blocks of a key may overlap as far as
                readers accept it.
        """
        if len(encoded) + CRC.size < MIN_BLOCK_BYTES or encoded[0] != kind:
            raise BlockUndecodable(
                f"{shown(key)}: {len(encoded)} bytes are not a block of type {kind.name}"
            )
        length, at = uvarint(encoded, 1, len(encoded))
        if not HEAD_BYTES <= length < len(encoded) - at:
            raise BlockUndecodable(f"{shown(key)}: a block with {length} bytes of timestamps")
        first = int.from_bytes(encoded[at + 1 : at + HEAD_BYTES], signed=True)
        if first != min_time_ns:
            raise BlockUndecodable(f"{shown(key)}: a block from {first} on, not {min_time_ns}")
        self._write(key, kind, [(min_time_ns, max_time_ns, encoded)])

    def finish(self) -> int:
        """Write index and footer; return the size of the file.

        Raises:
            TSMError: no key was written; a file without keys is invalid.
        """
        self._expect_unfinished()
        if not self._entries:
            raise TSMError("a TSM file without keys cannot be read, so none is written")
        self._end_key()
        self._finished = True
        self._index.seek(0)
        while part := self._index.read(INDEX_PIECE_BYTES):
            self._sink(part)
        self._sink(FOOTER.pack(self._offset))
        return self._offset + self._index_bytes + FOOTER.size

    def _write(self, key: bytes, kind: BlockType, blocks: Sequence[tuple[int, int, bytes]]) -> None:
        self._check(key, kind, blocks)
        if key != self._key:
            self._end_key()
            self._key, self._kind = key, kind
            self._last_max = blocks[0][1]
        if not self._offset:
            self._sink(HEADER)
            self._offset = len(HEADER)
        for first, last, encoded in blocks:
            size = CRC.size + len(encoded)
            self._sink(CRC.pack(crc32(encoded, 0)))
            self._sink(encoded)
            self._entries += ENTRY.pack(first, last, self._offset, size)
            self._offset += size
            self._last_min, self._last_max = first, max(last, self._last_max)

    def _check(self, key: bytes, kind: BlockType, blocks: Sequence[tuple[int, int, bytes]]) -> None:
        self._expect_unfinished()
        n_entries = len(blocks)
        if self._entries and key == self._key:
            n_entries += len(self._entries) // ENTRY.size
            if kind is not self._kind:
                raise TSMError(f"{shown(key)} is {self._kind.name}, and cannot become {kind.name}")
            if blocks[0][0] < self._last_min:
                raise IndexOutOfOrder(
                    f"{shown(key)}: a block from {blocks[0][0]} on after one from {self._last_min}"
                )
        elif key < self._key:
            raise IndexOutOfOrder(f"key {shown(key)} after {shown(self._key)}")
        elif len(key) > MAX_KEY_BYTES:
            raise TSMError(f"key {shown(key)}: over {MAX_KEY_BYTES} bytes")
        else:
            split_key(key)
        if n_entries > MAX_ENTRIES:
            raise TSMError(f"{shown(key)}: {n_entries} blocks in one file, over {MAX_ENTRIES}")
        growing = self.size_bytes
        for first, last, encoded in blocks:
            if growing > MAX_FILE_BYTES:
                raise TSMError(f"{shown(key)}: a block after {MAX_FILE_BYTES} bytes of a file")
            if first > last or len(encoded) + CRC.size > MAX_BLOCK_BYTES:
                raise TSMError(
                    f"{shown(key)}: a block of {len(encoded)} bytes from {first} to {last}"
                )
            growing += CRC.size + len(encoded) + ENTRY.size

    def _end_key(self) -> None:
        if self._entries:
            n_entries = len(self._entries) // ENTRY.size
            head = KEY_LENGTH.pack(len(self._key)) + self._key
            head += TYPE_AND_COUNT.pack(self._kind, n_entries)
            self._index_bytes += self._index.write(head) + self._index.write(self._entries)
            self._entries.clear()

    def _expect_unfinished(self) -> None:
        if self._finished:
            raise TSMError("the TSM file is finished, and nothing can follow its footer")
