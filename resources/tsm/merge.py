"""The points of a shard: those of all its TSM files, without the deleted ones.

Files are ordered by generation, oldest first. At equal times the later file wins, and within a
file the later block. A file's tombstones delete from that file only: points that are written after
a deletion are in a later file and stay.

Source: influxdb tsdb/engine/tsm1/file_store.go, KeyCursor; reader.go, applyTombstones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from resources.errors import TSMError
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Block, Values
from resources.tsm.deletions import Deletions, Ranges
from resources.tsm.layout import BlockType, IndexEntry, IndexKey, shown, split_key
from resources.tsm.reader import TSMFile, joined

ShardFile = tuple[TSMFile, Deletions]
"""A file and the deletions in its tombstone file."""


class SeriesPoints(Struct, frozen=True, eq=False):
    """All points of one key."""

    key: bytes
    type: BlockType
    times: Ints
    """Nanoseconds, strictly ascending; at least one."""
    values: Values


class ContentDigest(Struct, frozen=True):
    """Digest and counts of a shard's points; the split into files does not matter."""

    sha256: str
    """The digest of every key's points; equal digests mean equal points."""
    keys: int
    series: int
    points: int
    min_time_ns: int | None = None
    """None without points."""
    max_time_ns: int | None = None


def series_points(
    files: Sequence[ShardFile],
    *,
    times: tuple[int, int] | None = None,
    keys: Callable[[bytes], bool] | None = None,
) -> Iterator[SeriesPoints]:
    """Yield the points of each key of a shard, keys ascending, with one key in memory at a time.

    Args:
        files: by generation and sequence, oldest first, which is the order of their names.
        times: yield only points from the first, inclusive, to the second, exclusive.
        keys: a filter, called for each key in order before its points are read.

    Raises:
        TSMError: a file is broken, or a key has different types in two files.
    """
    walks = [_numbered(i, file) for i, (file, _) in enumerate(files)]
    # The file's number sorts equal keys, so index entries are never compared.
    for key, group in groupby(merge(*walks, key=lambda item: (item[1].key, item[0])), _key_of):
        if keys is not None and not keys(key):
            continue
        blocks: list[Block] = []
        for i, found in group:
            kept = list(_kept_blocks(files[i][0], found, files[i][1].get(key), times))
            # A key whose points are all deleted may have had another type.
            if kept and blocks and found.type is not blocks[0].type:
                raise TSMError(
                    f"{shown(key)} is {blocks[0].type.name} in one file and {found.type.name}"
                    " in a later one",
                    hint="the server that wrote them cannot load this shard either",
                )
            blocks += kept
        if blocks:
            points = SeriesPoints(key, blocks[0].type, *merged_points(blocks))
            if times is not None:
                points = _between(points, *times)
            if len(points.times):
                yield points


def content_digest(files: Sequence[ShardFile]) -> ContentDigest:
    """Digest and count a shard's points; raises as `series_points`.

    Per key, integers big-endian: key length (2) | key | type (1) | n (8) | times, 8 bytes
    each | values: 8 bytes each, booleans 1, strings length (4) and bytes.
    """
    sha256 = hashlib.sha256()
    keys = series = points = 0
    first: int | None = None
    last: int | None = None
    previous = b""
    for found in series_points(files):
        keys += 1
        points += len(found.times)
        begin, end = int(found.times[0]), int(found.times[-1])
        first = begin if first is None else min(first, begin)
        last = end if last is None else max(last, end)
        name, _ = split_key(found.key)
        # The fields of a series are adjacent: no other key sorts between them.
        series += name != previous
        previous = name
        sha256.update(len(found.key).to_bytes(2) + found.key)
        sha256.update(bytes([found.type]) + len(found.times).to_bytes(8))
        sha256.update(found.times.astype(">i8").tobytes())
        sha256.update(_as_bytes(found.values))
    return ContentDigest(sha256.hexdigest(), keys, series, points, first, last)


def _kept_blocks(
    file: TSMFile,
    found: IndexKey,
    deleted: Ranges,
    times: tuple[int, int] | None,
) -> Iterator[Block]:
    """A key's blocks without deleted points and without points outside of a time range."""
    for entry in found.entries:
        if deleted.cover(entry.min_time, entry.max_time):
            continue
        if times is not None and not _overlap(entry, times):
            continue
        block = block_without(file.block(found, entry), deleted)
        if len(block.times):
            yield block


def _overlap(entry: IndexEntry, times: tuple[int, int]) -> bool:
    return entry.max_time >= times[0] and entry.min_time < times[1]


def _between(points: SeriesPoints, start_ns: int, end_ns: int) -> SeriesPoints:
    low, high = (int(at) for at in np.searchsorted(points.times, [start_ns, end_ns]))
    if high - low == len(points.times):
        return points
    return SeriesPoints(points.key, points.type, points.times[low:high], points.values[low:high])


def _numbered(i: int, file: TSMFile) -> Iterator[tuple[int, IndexKey]]:
    return ((i, key) for key in file.index())


def _key_of(item: tuple[int, IndexKey]) -> bytes:
    return item[1].key


def block_without(block: Block, ranges: Ranges) -> Block:
    """A block without its deleted points."""
    kept = ~ranges.deleted(block.times)
    if kept.all():
        return block
    return Block(block.type, block.times[kept], chosen(block.values, np.flatnonzero(kept)))


def merged_points(blocks: list[Block]) -> tuple[Ints, Values]:
    """Sort points by time; of points with equal times the last one wins."""
    times = np.concatenate([block.times for block in blocks])
    values = joined([block.values for block in blocks])
    if (times[1:] > times[:-1]).all():
        return times, values
    order = np.argsort(times, kind="stable")
    times = times[order]
    last = np.ones(len(times), dtype=np.bool_)
    last[:-1] = times[1:] != times[:-1]
    return times[last], chosen(values, order[last])


def chosen(values: Values, rows: NDArray[np.intp]) -> Values:
    """The values at the positions `rows`."""
    if isinstance(values, list):
        return [values[row] for row in rows.tolist()]
    return values[rows]


def _as_bytes(values: Values) -> bytes:
    if isinstance(values, list):
        return b"".join(len(value).to_bytes(4) + value for value in values)
    return values.astype(values.dtype.newbyteorder(">")).tobytes()
