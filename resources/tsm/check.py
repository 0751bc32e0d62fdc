"""check_tsm: verifies that a file is whole; every backup checks every file it receives.

The check covers the CRC of every block. Since the index has no CRC, it also compares index and
blocks: the blocks fill the space before the index exactly, and each has the type and the first and
last times of its entry, where the last time is the sum of all differences. Values are not decoded.
Nothing in a file repeats its keys, so a key that a flipped bit has changed passes if it is still
in order.

There are two implementations of the same checks. numpy checks many blocks at once (`check_many`),
but its start takes longer than the whole check of a file with few blocks, which is checked here.

Most small shards have a file that is regular: one block for each key, adjacent and in the order of
the index. Its rows become columns, and columns are compared as a whole, so there is hardly any work
for each key. The index and the blocks of another file, and of one that is not whole, are checked
one by one. Without the columns a first backup of the benchmark's set `fleet` (shards of 20 KB)
takes 4.23 seconds of CPU instead of 3.60 (the least of four runs of each, in turn).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from operator import add, le, sub
from typing import NoReturn

from resources.errors import BlockChecksumMismatch, BlockUndecodable, IndexOutOfOrder
from resources.tsm.crc import crc32
from resources.tsm.facts import TSMFacts as TSMFacts
from resources.tsm.index import LAST_TYPE, Coverage, cut_off, unordered, unsplittable, unusable
from resources.tsm.layout import (
    CRC,
    ENTRY,
    FOOTER,
    HEADER,
    MIN_BLOCK_BYTES,
    SEPARATOR,
    shown,
)
from resources.tsm.source import ByteSource, index_start, read_exactly
from resources.tsm.time_counts import HEAD_BYTES, MAX_WORD, count_timestamps, time_span
from resources.tsm.varint import uvarint

FEW_INDEX_BYTES = 12 << 10
"""The index of about 150 blocks; for more of them numpy is faster, once it is loaded."""
FEW_BLOCK_BYTES = 1 << 20
"""The blocks of a small file are read as a whole."""

SHORT_HEAD = struct.Struct(">IBBBq")
"""The head of a block with short timestamps: CRC, type, their length, their encoding, the first.

No block is shorter than this.
"""
MAX_SHORT_BYTES = 0x7F


def check_tsm(source: ByteSource, *, blocks: bool = True) -> TSMFacts:
    """Verify a file from header to footer and count what it holds.

    Args:
        source: the file; it is read once, mostly front to back, in pieces of a few 100 KiB.
        blocks: False verifies header, index and footer only, counts no points, and compares no
            type and no time of the index with a block.

    Raises:
        BadMagic: the file is not a TSM file of version 1.
        IndexOutOfOrder: keys or entries are not in order, or blocks overlap, leave gaps or
            are outside of their space.
        BlockChecksumMismatch: a block is damaged.
        BlockUndecodable: a block's head breaks the format or contradicts the index.
        TSMError: any other fault; all messages have the offset, and the key if there is one.
    """
    start = index_start(source)
    if source.size - start <= FEW_INDEX_BYTES and start <= FEW_BLOCK_BYTES:
        return check_few(source, start, blocks=blocks)
    from resources.tsm.check_many import check_many

    return check_many(source, start, blocks=blocks)


def check_few(source: ByteSource, start: int, *, blocks: bool) -> TSMFacts:
    """As `check_tsm`; the index begins at `start`. Index and blocks are each read as a whole."""
    accepted = check_regular(source, start, blocks=blocks)
    return accepted or check_one_by_one(source, start, blocks=blocks)


def check_one_by_one(source: ByteSource, start: int, *, blocks: bool) -> TSMFacts:
    """As `check_few`, without the attempt to accept the file in bulk."""
    checker = _Blocks(read_exactly(source, 0, start)) if blocks else None
    end_of_index = source.size - FOOTER.size
    index = read_exactly(source, start, end_of_index - start)
    n_bytes = len(index)
    runs = _Runs(start)
    n_keys = n_series = n_blocks = n_points = at = 0
    min_time, max_time = (1 << 63) - 1, -(1 << 63)
    previous_key = prefix = b""
    unpack_entry = ENTRY.unpack_from
    while at < n_bytes:
        if at + 2 > n_bytes:
            raise cut_off(start + at, end_of_index)
        key_bytes = index[at] << 8 | index[at + 1]
        entry_at = at + key_bytes + 5
        if entry_at > n_bytes:
            raise cut_off(start + at, end_of_index)
        key, kind, count = _key_struct(key_bytes).unpack_from(index, at)
        entries_end = entry_at + count * 28
        if entries_end > n_bytes:
            raise cut_off(start + at, end_of_index)
        if key <= previous_key:
            raise unordered(start + at, key, previous_key)
        if not prefix or not key.startswith(prefix):
            cut = key.find(SEPARATOR)
            if cut < 1:
                raise unsplittable(start + at, key)
            prefix = key[: cut + 4]
            n_series += 1
        if kind > LAST_TYPE or not count:
            raise unusable(start + at, key, kind)
        n_keys += 1
        n_blocks += count
        previous_key = key
        previous = -(1 << 63)
        while entry_at < entries_end:
            first, last, begin, size = unpack_entry(index, entry_at)
            end = begin + size
            if size < MIN_BLOCK_BYTES or begin < 5 or end > start:
                raise _outside(key, begin, size, start, start + entry_at)
            if not previous <= first <= last:
                raise _disordered(key, begin, first, last, start + entry_at)
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
            entry_at += 28
        at = entries_end
    runs.finish()
    points = n_points if blocks else None
    return TSMFacts(source.size, n_keys, n_series, n_blocks, points, min_time, max_time)


@lru_cache(maxsize=1024)
def _key_struct(key_bytes: int) -> struct.Struct:
    """The layout of a key of that length, its type and the number of its entries."""
    return struct.Struct(f">2x{key_bytes}sBH")


class _Runs:
    """Runs of blocks without gaps, which must cover the space before the index."""

    def __init__(self, index_start: int) -> None:
        self._coverage = Coverage(len(HEADER), index_start)
        self._start = self.end = -1
        self._key = b""

    def begin(self, start: int, key: bytes) -> None:
        """Begin a run: the block at `start` does not follow the previous one."""
        self._add()
        self._start, self._key = start, key

    def finish(self) -> None:
        self._add()
        self._coverage.finish()

    def _add(self) -> None:
        if self._start < 0:
            return
        try:
            self._coverage.add(self._start, self.end)
        except IndexOutOfOrder as error:
            error.add_note(_name(self._key, self._start))
            raise


class _Blocks:
    """The blocks of a file, to be compared with their entries in the index."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)

    def check(self, begin: int, end: int, kind: int, first: int, last: int, key: bytes) -> int:
        """Verify one block; return its number of points.

        Raises:
            BlockChecksumMismatch: the CRC does not match.
            BlockUndecodable: as `check_tsm`.
        """
        stored, its_kind, length, _, its_first = SHORT_HEAD.unpack_from(self._data, begin)
        crc = crc32(self._view[begin + 4 : end])
        if crc != stored:
            raise BlockChecksumMismatch(
                f"{_name(key, begin)}: its CRC-32 is {crc:08x} and should be {stored:08x}"
            )
        if its_kind != kind:
            _reject(key, begin, "its type is not the index's")
        at = begin + 6
        if length > MAX_SHORT_BYTES:
            length, at, its_first = self._long_head(begin, end)
        if length < HEAD_BYTES or at + length >= end:
            _reject(key, begin, "its timestamps have an impossible length")
        if its_first != first:
            _reject(key, begin, "its first time is not the index's")
        try:
            return counted(self._data[at : at + length], last)
        except BlockUndecodable as error:
            _reject(key, begin, error.what)

    def _long_head(self, begin: int, end: int) -> tuple[int, int, int]:
        """Length, position and first of the timestamps; length -1: it is impossible."""
        try:
            length, at = uvarint(self._data, begin + 5, end)
        except BlockUndecodable:
            return -1, 0, 0
        return length, at, int.from_bytes(self._data[at + 1 : at + HEAD_BYTES], signed=True)


def counted(times: bytes, last: int) -> int:
    """The number of points of a block, whose timestamps must end at the index's `last`.

    Raises:
        BlockUndecodable: they do not; the message has only the reason.
    """
    points = count_timestamps(times)
    first = int.from_bytes(times[1:HEAD_BYTES], signed=True)
    if (first + time_span(times) - last) & MAX_WORD:
        raise BlockUndecodable("its last time is not the index's")
    return points


def _outside(key: bytes, begin: int, size: int, end: int, entry_at: int) -> IndexOutOfOrder:
    return IndexOutOfOrder(
        f"{_name(key, begin)}, {size} bytes: blocks are between {len(HEADER)} and {end}; "
        f"index, offset {entry_at}"
    )


def _disordered(key: bytes, begin: int, first: int, last: int, entry_at: int) -> IndexOutOfOrder:
    return IndexOutOfOrder(
        f"{_name(key, begin)}: times {first} to {last} are not in order; index, offset {entry_at}"
    )


def _reject(key: bytes, begin: int, why: str) -> NoReturn:
    raise BlockUndecodable(f"{_name(key, begin)}: {why}")


def _name(key: bytes, begin: int) -> str:
    """The name of a block in messages."""
    return f"block of {shown(key)} at offset {begin}"


# --- regular files ----------------------------------------------------------------------------

_AROUND_KEY = 2 + 1 + 2 + ENTRY.size
_TO_TIMES = CRC.size + 2


def check_regular(source: ByteSource, start: int, *, blocks: bool) -> TSMFacts | None:
    """As `check_tsm`; the index begins at `start`. None: the file is not regular, or not whole.

    Raises:
        TSMError: the source ends too early.
    """
    rows = _rows(read_exactly(source, start, source.size - FOOTER.size - start))
    if not rows:
        return None
    keys, kinds, counts, firsts, lasts, begins, sizes = zip(*rows, strict=True)
    ends = tuple(map(add, begins, sizes))
    n = len(rows)
    series, separators, _ = zip(*[key.partition(SEPARATOR) for key in keys], strict=True)
    if (
        counts.count(1) != n
        or max(kinds) > LAST_TYPE
        or min(sizes) < MIN_BLOCK_BYTES
        or begins != (len(HEADER), *ends[:-1])
        or ends[-1] != start
        or not all(map(le, firsts, lasts))
        or len(set(keys)) != n
        or list(keys) != sorted(keys)
        or separators.count(SEPARATOR) != n
        or not all(series)
    ):
        return None
    points = None
    if blocks:
        data = read_exactly(source, 0, start)
        points = _points(data, kinds, firsts, lasts, begins, ends, sizes)
        if points is None:
            return None
    return TSMFacts(
        size_bytes=source.size,
        keys=n,
        series=len(set(series)),
        blocks=n,
        points=points,
        min_time_ns=min(firsts),
        max_time_ns=max(lasts),
    )


def _rows(index: bytes) -> list[tuple[bytes, int, int, int, int, int, int]]:
    """Key, type, count and the only entry of each key; empty if the index has another form."""
    rows: list[tuple[bytes, int, int, int, int, int, int]] = []
    at, end = 0, len(index)
    try:
        while at < end:
            key_bytes = index[at] << 8 | index[at + 1]
            rows.append(_row_struct(key_bytes).unpack_from(index, at))
            at += key_bytes + _AROUND_KEY
    except (IndexError, struct.error):
        return []
    return rows


@lru_cache(maxsize=1024)
def _row_struct(key_bytes: int) -> struct.Struct:
    return struct.Struct(f">2x{key_bytes}sBHqqQI")


def _points(
    data: bytes,
    kinds: Sequence[int],
    firsts: Sequence[int],
    lasts: Sequence[int],
    begins: Sequence[int],
    ends: Sequence[int],
    sizes: Sequence[int],
) -> int | None:
    """Compare all blocks with their entries; returns the number of points, or None."""
    unpack = SHORT_HEAD.unpack_from
    crcs, types, lengths, _, starts = zip(*[unpack(data, begin) for begin in begins], strict=True)
    if (
        types != kinds
        or starts != firsts
        or min(lengths) < HEAD_BYTES
        or max(lengths) > MAX_SHORT_BYTES
        or min(map(sub, sizes, lengths)) <= _TO_TIMES
    ):
        return None
    view = memoryview(data)
    body, at = CRC.size, _TO_TIMES
    found = [crc32(view[begin + body : end]) for begin, end in zip(begins, ends, strict=True)]
    if found != list(crcs):
        return None
    # The series of one file mostly have the same times.
    times = [
        data[begin + at : begin + at + length]
        for begin, length in zip(begins, lengths, strict=True)
    ]
    try:
        points = {pair: counted(*pair) for pair in set(zip(times, lasts, strict=True))}
    except BlockUndecodable:
        return None
    return sum(map(points.__getitem__, zip(times, lasts, strict=True)))
