"""Checks many index entries and blocks of a file at once.

No value is decoded. Memory holds one window of the index and of the blocks, and numpy checks all
blocks of a window at once.

Layout of a block: see `resources.tsm.blocks`; of timestamps, `resources.tsm.timestamps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from resources.errors import BlockChecksumMismatch, BlockUndecodable, IndexOutOfOrder
from resources.tsm import simple8b
from resources.tsm.arrays import Bytes, Ints, Words, uvarints
from resources.tsm.crc import crc32
from resources.tsm.facts import TSMFacts
from resources.tsm.index import Coverage, IndexWindow, index_windows
from resources.tsm.layout import CRC, ENTRY, HEADER, MAX_BLOCK_POINTS, MIN_BLOCK_BYTES, shown
from resources.tsm.source import ByteSource, read_exactly
from resources.tsm.time_counts import (
    COUNT_OF_FIRST_BYTE,
    HEAD_BYTES,
    MAX_WORD,
    PACKED,
    RAW,
    RLE,
    count_timestamps,
    time_span,
)
from resources.tsm.varint import uvarint

WINDOW_BYTES = 512 << 10
WINDOW_BLOCKS = 4096

_ENTRY = np.dtype([("min", ">i8"), ("max", ">i8"), ("offset", ">u8"), ("size", ">u4")])


def check_many(source: ByteSource, start: int, *, blocks: bool) -> TSMFacts:
    """As `check_tsm`; the index begins at `start`."""
    coverage = Coverage(len(HEADER), start)
    n_keys = n_series = n_blocks = n_points = 0
    min_time, max_time = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for window in index_windows(source, start):
        table = _entries(window, start)
        n_keys += len(window.keys)
        n_series += window.new_series
        n_blocks += len(table.starts)
        min_time = min(min_time, int(table.min_times.min()))
        max_time = max(max_time, int(table.max_times.max()))
        for first, last in _runs(table):
            begin, end = int(table.starts[first]), int(table.ends[last - 1])
            try:
                coverage.add(begin, end)
            except IndexOutOfOrder as error:
                error.add_note(table.name(first))
                raise
            if blocks:
                n_points += _check_run(source, table, first, last)
    coverage.finish()
    return TSMFacts(
        size_bytes=source.size,
        keys=n_keys,
        series=n_series,
        blocks=n_blocks,
        points=n_points if blocks else None,
        min_time_ns=min_time,
        max_time_ns=max_time,
    )


def _entries(window: IndexWindow, index_start: int) -> BlockTable:
    """Gather the entries of a window into columns, and check their order and sizes."""
    data = window.data
    counts = np.array(window.counts, dtype=np.int64)
    first_rows = np.cumsum(counts) - counts
    owners = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(owners)) - first_rows[owners]
    at = np.array(window.entries_at, dtype=np.int64)[owners] + within * ENTRY.size
    # An entry may begin at any byte, so this array has one for every byte of the window.
    anywhere = np.ndarray((len(data) - ENTRY.size + 1,), _ENTRY, data, strides=(1,))
    rows = anywhere[at]
    sizes = rows["size"].astype(np.int64)
    offsets = rows["offset"].astype(np.uint64)
    ends = offsets + sizes.astype(np.uint64)
    table = BlockTable(
        starts=offsets.view(np.int64),
        ends=ends.view(np.int64),
        types=np.array(window.types, dtype=np.uint8)[owners],
        min_times=rows["min"].astype(np.int64),
        max_times=rows["max"].astype(np.int64),
        owners=owners,
        keys=window.keys,
    )
    bad = (
        (sizes < MIN_BLOCK_BYTES)
        | (offsets < len(HEADER))
        | (offsets > index_start)
        | (ends > index_start)
    )
    if bad.any():
        i = int(bad.argmax())
        raise IndexOutOfOrder(
            f"{table.name(i)}, {sizes[i]} bytes: blocks are between {len(HEADER)} and"
            f" {index_start}; index, offset {window.offset + at[i]}"
        )
    bad = table.min_times > table.max_times
    bad[1:] |= (table.min_times[1:] < table.min_times[:-1]) & (within[1:] > 0)
    if bad.any():
        i = int(bad.argmax())
        raise IndexOutOfOrder(
            f"{table.name(i)}: times {table.min_times[i]} to {table.max_times[i]} are not in"
            f" order; index, offset {window.offset + at[i]}"
        )
    return table


def _runs(table: BlockTable) -> list[tuple[int, int]]:
    """Split the blocks, in the order of the index, into runs without gaps."""
    (cuts,) = np.nonzero(table.starts[1:] != table.ends[:-1])
    bounds = [0, *(cuts + 1).tolist(), len(table.starts)]
    return list(pairwise(bounds))


def _check_run(source: ByteSource, table: BlockTable, first: int, last: int) -> int:
    """Read and check a run of adjacent blocks; return their number of points."""
    points = 0
    while first < last:
        begin = int(table.starts[first])
        fit = int(np.searchsorted(table.ends[first:last], begin + WINDOW_BYTES, side="right"))
        behind = first + min(max(fit, 1), WINDOW_BLOCKS)
        if fit:
            data = read_exactly(source, begin, int(table.ends[behind - 1]) - begin)
            points += check_blocks(data, begin, table.part(first, behind))
        else:
            points += check_large_block(source, table.part(first, behind))
        first = behind
    return points


# --- blocks ------------------------------------------------------------------------------------

CHUNK_BYTES = 512 << 10
MAX_TIMESTAMP_BYTES = HEAD_BYTES + 8 * MAX_BLOCK_POINTS

_SCALES = np.array([10**exponent for exponent in range(16)], dtype=np.uint64)

Mask = NDArray[np.bool_]


class BlockTable(Struct, frozen=True):
    """Index entries as columns, one row per block."""

    starts: Ints
    """Offset of the CRC in the file."""
    ends: Ints
    """Offset after the block."""
    types: Bytes
    min_times: Ints
    max_times: Ints
    owners: Ints
    """The position in `keys` of the block's key."""
    keys: Sequence[bytes]

    def part(self, first: int, last: int) -> BlockTable:
        rows = slice(first, last)
        return BlockTable(
            self.starts[rows],
            self.ends[rows],
            self.types[rows],
            self.min_times[rows],
            self.max_times[rows],
            self.owners[rows],
            self.keys,
        )

    def name(self, i: int) -> str:
        """The name of a block in messages."""
        return f"block of {shown(self.keys[int(self.owners[i])])} at offset {self.starts[i]}"


def check_blocks(data: bytes, begin: int, table: BlockTable) -> int:
    """Verify the blocks in `data`, which begins at offset `begin`; return their number of points.

    Raises:
        BlockChecksumMismatch: a CRC does not match.
        BlockUndecodable: type, timestamps or times break the format or contradict the index.
    """
    window = np.frombuffer(data, dtype=np.uint8)
    starts, ends = table.starts - begin, table.ends - begin
    _check_crcs(data, starts, ends, table)
    _reject(table, window[starts + CRC.size] != table.types, "its type is not the index's")
    lengths, at = uvarints(window, starts + CRC.size + 1, ends)
    # Any length beyond the block is wrong, so the largest ones are cut to avoid an overflow.
    sizes = np.minimum(lengths, np.uint64(len(data))).astype(np.int64)
    time_ends = at + sizes
    bad = (at < 0) | (sizes < HEAD_BYTES) | (time_ends >= ends)
    _reject(table, bad, "its timestamps have an impossible length")

    firsts = np.ndarray((len(data) - 7,), ">i8", data, strides=(1,))[at + 1]
    _reject(table, firsts != table.min_times, "its first time is not the index's")
    points, spans = _count(data, window, at, time_ends, table)
    bad = (points < 1) | (points > MAX_BLOCK_POINTS)
    _reject(table, bad, f"it has no points, or more than {MAX_BLOCK_POINTS}")
    lasts = firsts.astype(np.int64).view(np.uint64) + spans
    bad = lasts != table.max_times.view(np.uint64)
    _reject(table, bad, "its last time is not the index's")
    return int(points.sum())


def check_large_block(source: ByteSource, table: BlockTable) -> int:
    """Verify one block that is larger than a window, as `check_blocks` does."""
    start, end = int(table.starts[0]), int(table.ends[0])
    crc, at = 0, start + CRC.size
    while at < end:
        chunk = read_exactly(source, at, min(CHUNK_BYTES, end - at))
        crc = crc32(chunk, crc)
        at += len(chunk)
    head = read_exactly(source, start, CRC.size + 16)
    if crc != CRC.unpack_from(head)[0]:
        raise BlockChecksumMismatch(f"{table.name(0)}: its CRC-32 does not fit its bytes")
    row = table.part(0, 1)
    _reject(row, row.types != head[CRC.size], "its type is not the index's")
    try:
        length, at = uvarint(head, CRC.size + 1, len(head))
        if length > MAX_TIMESTAMP_BYTES or start + at + length >= end:
            raise BlockUndecodable("its timestamps have an impossible length")
        raw = read_exactly(source, start + at, length)
        points = count_timestamps(raw)
    except BlockUndecodable as error:
        error.add_note(table.name(0))
        raise
    first = int.from_bytes(raw[1:HEAD_BYTES], signed=True)
    _reject(row, row.min_times != first, "its first time is not the index's")
    last = np.uint64((first + _large_span(raw)) & MAX_WORD)
    _reject(row, row.max_times.view(np.uint64) != last, "its last time is not the index's")
    return points


def _large_span(data: bytes) -> int:
    """As `time_span`, with one chunk in memory at a time."""
    encoding, scale = data[0] >> 4, 10 ** (data[0] & 0x0F)
    if encoding == RLE:
        return time_span(data)
    total = 0
    for at in range(HEAD_BYTES, len(data), CHUNK_BYTES):
        part = data[at : at + CHUNK_BYTES]
        total += int((np.frombuffer(part, ">u8") if encoding == RAW else simple8b.sums(part)).sum())
    return total * scale if encoding == PACKED else total


def _check_crcs(data: bytes, starts: Ints, ends: Ints, table: BlockTable) -> None:
    stored = np.ndarray((len(data) - 3,), ">u4", data, strides=(1,))[starts]
    view = memoryview(data)
    bounds = zip((starts + CRC.size).tolist(), ends.tolist(), strict=True)
    actual = [crc32(view[start:end], 0) for start, end in bounds]
    if actual != stored.tolist():
        i = int((np.array(actual, dtype=np.uint32) != stored).argmax())
        raise BlockChecksumMismatch(
            f"{table.name(i)}: its CRC-32 is {actual[i]:08x} and should be {stored[i]:08x}"
        )


def _count(
    data: bytes, window: Bytes, at: Ints, ends: Ints, table: BlockTable
) -> tuple[Ints, Words]:
    """The number of points of each block, and the ns from its first to its last, mod 2^64."""
    encodings = window[at] >> 4
    _reject(table, encodings > RLE, "its timestamps have an unknown encoding")
    n_words, rest = np.divmod(ends - at - HEAD_BYTES, 8)
    _reject(table, (rest != 0) & (encodings != RLE), "its timestamps end inside a word")
    points = np.ones(len(at), dtype=np.int64)
    spans = np.zeros(len(at), dtype=np.uint64)
    view = memoryview(data)
    for encoding in (RAW, PACKED):
        (chosen,) = np.nonzero((encodings == encoding) & (n_words > 0))
        if not chosen.size:
            continue
        bounds = zip((at[chosen] + HEAD_BYTES).tolist(), ends[chosen].tolist(), strict=True)
        words = b"".join([view[start:end] for start, end in bounds])
        begins = np.cumsum(n_words[chosen]) - n_words[chosen]
        if encoding == RAW:
            points[chosen] += n_words[chosen]
            spans[chosen] = np.add.reduceat(np.frombuffer(words, ">u8"), begins)
        else:
            held = np.frombuffer(words[::8].translate(COUNT_OF_FIRST_BYTE), dtype=np.uint8)
            points[chosen] += np.add.reduceat(held, begins, dtype=np.int64)
            spans[chosen] = np.add.reduceat(simple8b.sums(words), begins)
            spans[chosen] *= _SCALES[window[at[chosen]] & 0x0F]
    (rle,) = np.nonzero(encodings == RLE)
    if rle.size:
        _count_even(window, at, ends, rle, table, points, spans)
    return points, spans


def _count_even(
    window: Bytes,
    at: Ints,
    ends: Ints,
    rle: Ints,
    table: BlockTable,
    points: Ints,
    spans: Words,
) -> None:
    """Fill in `points` and `spans` of the blocks `rle`, whose points are evenly spaced."""
    part_ends = ends[rle]
    bad = np.zeros(len(at), dtype=np.bool_)
    # Both numbers need at least one byte before the end.
    bad[rle] = part_ends - at[rle] < HEAD_BYTES + 2
    _reject(table, bad, "its timestamps are cut")
    differences, behind = uvarints(window, at[rle] + HEAD_BYTES, part_ends)
    bad[rle] = (behind < 0) | (behind >= part_ends)
    _reject(table, bad, "its timestamps are cut")
    counts, behind = uvarints(window, behind, part_ends)
    bad[rle] = behind != part_ends
    _reject(table, bad, "its timestamps do not end where they should")
    points[rle] = np.minimum(counts, np.uint64(MAX_BLOCK_POINTS + 1)).astype(np.int64)
    spans[rle] = (counts - np.uint64(1)) * differences * _SCALES[window[at[rle]] & 0x0F]


def _reject(table: BlockTable, bad: Mask, why: str) -> None:
    if bad.any():
        raise BlockUndecodable(f"{table.name(int(bad.argmax()))}: {why}")
