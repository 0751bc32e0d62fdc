"""Checks many index entries and blocks of a file at once.

No value is decoded. Memory holds one window of the index and of the blocks, and numpy checks all
blocks of a window at once.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from resources.errors import IndexOutOfOrder
from resources.tsm.counting import BlockTable, check_blocks, check_large_block
from resources.tsm.coverage import Coverage
from resources.tsm.facts import TSMFacts
from resources.tsm.index import IndexWindow, index_windows
from resources.tsm.layout import ENTRY, HEADER, MIN_BLOCK_BYTES
from resources.tsm.source import Source, read_exactly

WINDOW_BYTES = 512 << 10
WINDOW_BLOCKS = 4096

_ENTRY = np.dtype([("min", ">i8"), ("max", ">i8"), ("offset", ">u8"), ("size", ">u4")])


def check_many(source: Source, start: int, *, blocks: bool) -> TSMFacts:
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


def _check_run(source: Source, table: BlockTable, first: int, last: int) -> int:
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
