"""Blocks held against their index entries and counted, many at once, without decoding them.

Layout of a block: see `resources.tsm.blocks`; of timestamps, `resources.tsm.timestamps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resources.errors import BlockChecksumMismatch, BlockUndecodable
from resources.tsm.arrays import Bytes, Ints, uvarints
from resources.tsm.crc import crc32
from resources.tsm.layout import CRC, MAX_BLOCK_POINTS, shown
from resources.tsm.source import Source, read_exactly
from resources.tsm.time_counts import (
    COUNT_OF_FIRST_BYTE,
    HEAD_BYTES,
    PACKED,
    RAW,
    RLE,
    count_timestamps,
)
from resources.tsm.timestamps import decode_timestamps
from resources.tsm.varint import uvarint

CHUNK_BYTES = 512 << 10
MAX_TIMESTAMP_BYTES = HEAD_BYTES + 8 * MAX_BLOCK_POINTS
FEW_TIMESTAMP_BYTES = 64 << 10

_SCALES = np.array([10**exponent for exponent in range(16)], dtype=np.int64)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BlockTable:
    """Index entries as columns, one row per block."""

    starts: Ints
    """Offset of the CRC in the file."""
    ends: Ints
    """Offset behind the block."""
    types: Bytes
    min_times: Ints
    max_times: Ints
    owners: Ints
    """Which of `keys` the block belongs to."""
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
        """A block, for messages."""
        return f"block of {shown(self.keys[int(self.owners[i])])} at offset {self.starts[i]}"


def check_blocks(data: bytes, begin: int, table: BlockTable) -> int:
    """Verify the blocks that `data`, at offset `begin`, consists of; return their points.

    Raises:
        BlockChecksumMismatch: a CRC does not fit.
        BlockUndecodable: type, timestamps or times are broken, or not what the index says.
    """
    window = np.frombuffer(data, dtype=np.uint8)
    starts, ends = table.starts - begin, table.ends - begin
    _check_crcs(data, starts, ends, table)
    _refuse(table, window[starts + CRC.size] != table.types, "its type is not the index's")
    lengths, at = uvarints(window, starts + CRC.size + 1, ends)
    # A length beyond the block is as bad as one beyond int64, and easier to add.
    sizes = np.minimum(lengths, np.uint64(len(data))).astype(np.int64)
    time_ends = at + sizes
    bad = (at < 0) | (sizes < HEAD_BYTES) | (time_ends >= ends)
    _refuse(table, bad, "its timestamps have an impossible length")

    firsts = np.ndarray((len(data) - 7,), ">i8", data, strides=(1,))[at + 1]
    _refuse(table, firsts != table.min_times, "its first time is not the index's")
    points, evenly = _count(data, window, at, time_ends, table)
    bad = (points < 1) | (points > MAX_BLOCK_POINTS)
    _refuse(table, bad, f"it has no points, or more than {MAX_BLOCK_POINTS}")
    lasts = firsts + (points - 1) * evenly
    bad = (lasts != table.max_times) & ((evenly != 0) | (points == 1))
    _refuse(table, bad, "its last time is not the index's")
    return int(points.sum())


def check_large_block(source: Source, table: BlockTable) -> int:
    """Verify one block that is larger than a window; return its points. Errors as above."""
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
    _refuse(row, row.types != head[CRC.size], "its type is not the index's")
    try:
        length, at = uvarint(head, CRC.size + 1, len(head))
        if length > MAX_TIMESTAMP_BYTES or start + at + length >= end:
            raise BlockUndecodable("its timestamps have an impossible length")
        raw = read_exactly(source, start + at, length)
        points = count_timestamps(raw)
        if length <= FEW_TIMESTAMP_BYTES:
            last = int(decode_timestamps(raw)[-1])
        else:
            last = int(row.max_times[0])
    except BlockUndecodable as error:
        error.add_note(table.name(0))
        raise
    first = int.from_bytes(raw[1:HEAD_BYTES], signed=True)
    _refuse(row, row.min_times != first, "its first time is not the index's")
    _refuse(row, row.max_times != last, "its last time is not the index's")
    return points


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
) -> tuple[Ints, Ints]:
    """Points of each block and, where they are evenly spaced, the ns between them, else 0."""
    encodings = window[at] >> 4
    _refuse(table, encodings > RLE, "its timestamps have an unknown encoding")
    words, rest = np.divmod(ends - at - HEAD_BYTES, 8)
    _refuse(table, (rest != 0) & (encodings != RLE), "its timestamps end inside a word")
    points = np.ones(len(at), dtype=np.int64)
    evenly = np.zeros(len(at), dtype=np.int64)

    (raw,) = np.nonzero(encodings == RAW)
    points[raw] += words[raw]

    (packed,) = np.nonzero((encodings == PACKED) & (words > 0))
    if packed.size:
        bounds = zip((at[packed] + HEAD_BYTES).tolist(), ends[packed].tolist(), strict=True)
        firsts = b"".join([data[start:end:8] for start, end in bounds])
        held = np.frombuffer(firsts.translate(COUNT_OF_FIRST_BYTE), dtype=np.uint8)
        begins = np.cumsum(words[packed]) - words[packed]
        points[packed] += np.add.reduceat(held, begins, dtype=np.int64)

    (rle,) = np.nonzero(encodings == RLE)
    if rle.size:
        part_ends = ends[rle]
        bad = np.zeros(len(at), dtype=np.bool_)
        # Both numbers need a byte before the end, or there is nothing to look at.
        bad[rle] = part_ends - at[rle] < HEAD_BYTES + 2
        _refuse(table, bad, "its timestamps are cut")
        differences, behind = uvarints(window, at[rle] + HEAD_BYTES, part_ends)
        bad[rle] = (behind < 0) | (behind >= part_ends)
        _refuse(table, bad, "its timestamps are cut")
        counts, behind = uvarints(window, behind, part_ends)
        bad[rle] = behind != part_ends
        _refuse(table, bad, "its timestamps do not end where they should")
        points[rle] = np.minimum(counts, np.uint64(MAX_BLOCK_POINTS + 1)).astype(np.int64)
        evenly[rle] = differences.view(np.int64) * _SCALES[window[at[rle]] & 0x0F]
    return points, evenly


def _refuse(table: BlockTable, bad: Mask, why: str) -> None:
    if bad.any():
        raise BlockUndecodable(f"{table.name(int(bad.argmax()))}: {why}")
