"""A file's index and blocks, checked one after the other: the same checks as in `check_many`."""

from __future__ import annotations

import struct
from typing import NoReturn

from resources.errors import BlockChecksumMismatch, BlockUndecodable, IndexOutOfOrder
from resources.tsm.crc import crc32
from resources.tsm.facts import TSMFacts
from resources.tsm.index import index_windows
from resources.tsm.layout import ENTRY, HEADER, MAX_BLOCK_POINTS, MIN_BLOCK_BYTES, shown
from resources.tsm.source import Source, read_exactly
from resources.tsm.tiling import Tiling
from resources.tsm.time_counts import COUNT_OF_FIRST_BYTE, HEAD_BYTES, PACKED, RAW, RLE
from resources.tsm.varint import uvarint

_HEAD = struct.Struct(">IBBBq")
"""Of a block whose timestamps take less than 128 bytes: CRC, type, their length, their encoding,
the first one. No block is shorter than this.
"""
_WORD = (1 << 64) - 1


def check_few(source: Source, start: int, *, blocks: bool) -> TSMFacts:
    """As `check_tsm`; the index begins at `start`, and all before it is read at once."""
    checker = _Blocks(read_exactly(source, 0, start)) if blocks else None
    runs = _Runs(start)
    n_keys = n_series = n_blocks = n_points = 0
    min_time, max_time = (1 << 63) - 1, -(1 << 63)
    for window in index_windows(source, start):
        n_keys += len(window.keys)
        n_series += window.new_series
        for key, kind, count, at in zip(
            window.keys, window.types, window.counts, window.entries_at, strict=True
        ):
            n_blocks += count
            previous = -(1 << 63)
            for entry_at in range(at, at + count * ENTRY.size, ENTRY.size):
                first, last, begin, size = ENTRY.unpack_from(window.data, entry_at)
                end = begin + size
                if size < MIN_BLOCK_BYTES or begin < len(HEADER) or end > start:
                    raise IndexOutOfOrder(
                        f"{_name(key, begin)}, {size} bytes: blocks are between {len(HEADER)} and"
                        f" {start}; index, offset {window.offset + entry_at}"
                    )
                if not previous <= first <= last:
                    raise IndexOutOfOrder(
                        f"{_name(key, begin)}: times {first} to {last} are not in order;"
                        f" index, offset {window.offset + entry_at}"
                    )
                if begin != runs.end:
                    runs.begin(begin, key)
                runs.end = end
                if first < min_time:
                    min_time = first
                if last > max_time:
                    max_time = last
                if checker is not None:
                    n_points += checker.check(begin, end, kind, first, last, key)
                previous = first
    runs.finish()
    return TSMFacts(
        size_bytes=source.size,
        keys=n_keys,
        series=n_series,
        blocks=n_blocks,
        points=n_points if blocks else None,
        min_time_ns=min_time,
        max_time_ns=max_time,
    )


class _Runs:
    """Stretches of blocks without gaps, which must tile the space before the index."""

    def __init__(self, index_start: int) -> None:
        self._tiling = Tiling(len(HEADER), index_start)
        self._start = self.end = -1
        self._key = b""

    def begin(self, start: int, key: bytes) -> None:
        """The block at `start` does not follow the one before."""
        self._add()
        self._start, self._key = start, key

    def finish(self) -> None:
        self._add()
        self._tiling.finish()

    def _add(self) -> None:
        if self._start < 0:
            return
        try:
            self._tiling.add(self._start, self.end)
        except IndexOutOfOrder as error:
            error.add_note(_name(self._key, self._start))
            raise


class _Blocks:
    """The blocks of a file, to be held against their entries of the index."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._counted: dict[bytes, tuple[int, int]] = {}  # series of one file share their times

    def check(self, begin: int, end: int, kind: int, first: int, last: int, key: bytes) -> int:
        """Verify one block; return its points.

        Raises: as `check_tsm`.
        """
        view = self._view
        stored, its_kind, length, _, its_first = _HEAD.unpack_from(view, begin)
        crc = crc32(view[begin + 4 : end], 0)
        if crc != stored:
            raise BlockChecksumMismatch(
                f"{_name(key, begin)}: its CRC-32 is {crc:08x} and should be {stored:08x}"
            )
        if its_kind != kind:
            _refuse(key, begin, "its type is not the index's")
        at = begin + 6
        if length >= 0x80:
            length, at, its_first = self._long_head(begin, end)
        if length < HEAD_BYTES or at + length >= end:
            _refuse(key, begin, "its timestamps have an impossible length")
        if its_first != first:
            _refuse(key, begin, "its first time is not the index's")
        times = bytes(view[at : at + length])
        counted = self._counted.get(times)
        if counted is None:
            try:
                counted = self._counted[times] = _count(times)
            except BlockUndecodable as error:
                _refuse(key, begin, error.what)
        points, step = counted
        if not 1 <= points <= MAX_BLOCK_POINTS:
            _refuse(key, begin, f"it has no points, or more than {MAX_BLOCK_POINTS}")
        if (step or points == 1) and (first + (points - 1) * step - last) & _WORD:
            _refuse(key, begin, "its last time is not the index's")
        return points

    def _long_head(self, begin: int, end: int) -> tuple[int, int, int]:
        """Length of the timestamps, where they begin, and the first one; length -1: none fits."""
        try:
            length, at = uvarint(self._view, begin + 5, end)
        except BlockUndecodable:
            return -1, 0, 0
        return length, at, int.from_bytes(self._view[at + 1 : at + HEAD_BYTES], signed=True)


def _count(times: bytes) -> tuple[int, int]:
    """Timestamps, and, where they are evenly spaced, the ns between them mod 2^64, else 0."""
    encoding, end = times[0] >> 4, len(times)
    if encoding == RLE:
        try:
            difference, behind = uvarint(times, HEAD_BYTES, end)
            n, behind = uvarint(times, behind, end)
        except BlockUndecodable:
            raise BlockUndecodable("its timestamps are cut") from None
        if behind != end:
            raise BlockUndecodable("its timestamps do not end where they should")
        return n, difference * 10 ** (times[0] & 0x0F) & _WORD
    if encoding not in (RAW, PACKED):
        raise BlockUndecodable("its timestamps have an unknown encoding")
    words, rest = divmod(end - HEAD_BYTES, 8)
    if rest:
        raise BlockUndecodable("its timestamps end inside a word")
    if encoding == RAW:
        return 1 + words, 0
    return 1 + sum(times[HEAD_BYTES::8].translate(COUNT_OF_FIRST_BYTE)), 0


def _refuse(key: bytes, begin: int, why: str) -> NoReturn:
    raise BlockUndecodable(f"{_name(key, begin)}: {why}")


def _name(key: bytes, begin: int) -> str:
    """A block, for messages."""
    return f"block of {shown(key)} at offset {begin}"
