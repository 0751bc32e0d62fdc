"""The points of a shard: those of all its TSM files, without the deleted ones.

Files are ordered by generation, oldest first. At equal times the later file wins, and within a
file the later block. A file's tombstones delete from that file only: points that are written after
a deletion are in a later file and stay.

Source: influxdb tsdb/engine/tsm1/file_store.go, KeyCursor; reader.go, applyTombstones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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

MIN_TIME_NS, MAX_TIME_NS = -(2**63), 2**63 - 1
"""Servers take times up to 2**63 - 2."""
MAX_WINDOW_BLOCKS = 2048
MAX_WINDOW_BYTES = 8 << 20
"""Limits of `series_windows`: a block has 1000 points, and strings shrink to a 21st at best."""


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
    for key, group in _keys(files, keys):
        points = _points_of(files, key, group, times)
        if points is not None:
            yield points


def kept_keys(
    files: Sequence[ShardFile],
    *,
    times: tuple[int, int] | None = None,
    keys: Callable[[bytes], bool] | None = None,
) -> Iterator[tuple[bytes, BlockType]]:
    """Yield the keys that may have points, ascending, with their types; reads no block.

    A key is left out if its deletions or `times` exclude each of its blocks as a whole. A key
    with two types is yielded twice. The arguments and errors are those of `series_points`.
    """
    for key, group in _keys(files, keys):
        types = {
            found.type
            for i, found in group
            if any(_kept_entries(found, files[i][1].get(key), times))
        }
        yield from ((key, one) for one in sorted(types))


def series_windows(
    files: Sequence[ShardFile],
    *,
    times: tuple[int, int] | None = None,
    keys: Callable[[bytes], bool] | None = None,
    max_blocks: int = MAX_WINDOW_BLOCKS,
    max_bytes: int = MAX_WINDOW_BYTES,
) -> Iterator[list[SeriesPoints]]:
    """Yield the points of all fields of a series, window by window, times ascending.

    A window has no more blocks and encoded bytes than the limits, if blocks do not overlap, so
    memory does not grow with the length of a series. The other arguments and the errors are those
    of `series_points`; a key whose types differ between two windows is yielded with both.
    """
    for _, fields in groupby(_keys(files, keys), key=lambda item: split_key(item[0])[0]):
        groups = [(key, list(group)) for key, group in fields]
        kept = [
            entry
            for key, group in groups
            for i, found in group
            for entry in _kept_entries(found, files[i][1].get(key), times)
        ]
        for window in _windows(kept, times, max_blocks, max_bytes):
            points = [_points_of(files, key, group, window) for key, group in groups]
            if found := [one for one in points if one is not None]:
                yield found


def _keys(
    files: Sequence[ShardFile], keys: Callable[[bytes], bool] | None
) -> Iterator[tuple[bytes, Iterator[tuple[int, IndexKey]]]]:
    """The wanted keys, ascending, with the files that have each."""
    walks = [_numbered(i, file) for i, (file, _) in enumerate(files)]
    # The file's number sorts equal keys, so index entries are never compared.
    for key, group in groupby(merge(*walks, key=lambda item: (item[1].key, item[0])), _key_of):
        if keys is None or keys(key):
            yield key, group


def _points_of(
    files: Sequence[ShardFile],
    key: bytes,
    group: Iterable[tuple[int, IndexKey]],
    times: tuple[int, int] | None,
) -> SeriesPoints | None:
    """The points of a key; None if it has none."""
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
    if not blocks:
        return None
    points = SeriesPoints(key, blocks[0].type, *merged_points(blocks))
    if times is not None:
        points = _between(points, *times)
    return points if len(points.times) else None


def _windows(
    kept: list[IndexEntry], times: tuple[int, int] | None, max_blocks: int, max_bytes: int
) -> Iterator[tuple[int, int] | None]:
    """Ranges of times that together cover `times`, cut where blocks begin."""
    if len(kept) <= max_blocks and sum(entry.size for entry in kept) <= max_bytes:
        yield times
        return
    start, end = times or (MIN_TIME_NS, MAX_TIME_NS)
    blocks = size = 0
    for entry in sorted(kept):
        if (blocks >= max_blocks or size + entry.size > max_bytes) and entry.min_time > start:
            cut = min(entry.min_time, end)
            yield start, cut
            start, blocks, size = cut, 0, 0
        blocks += 1
        size += entry.size
    if start < end:
        yield start, end


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
    """A key's blocks that overlap a time range, without deleted points."""
    for entry in _kept_entries(found, deleted, times):
        block = block_without(file.block(found, entry), deleted)
        if len(block.times):
            yield block


def _kept_entries(
    found: IndexKey, deleted: Ranges, times: tuple[int, int] | None
) -> Iterator[IndexEntry]:
    """A key's blocks that are not deleted as a whole and overlap a time range."""
    for entry in found.entries:
        if deleted.cover(entry.min_time, entry.max_time):
            continue
        if times is None or _overlap(entry, times):
            yield entry


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
