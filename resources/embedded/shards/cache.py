"""The points of a shard that are not in TSM files yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from resources.embedded.shards.points import FieldValue, Point
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Numbers, Values
from resources.tsm.layout import SEPARATOR, BlockType
from resources.tsm.merge import SeriesPoints
from resources.tsm.reader import joined
from resources.tsm.tombstone import Tombstone

_DTYPES: dict[BlockType, type[np.float64 | np.int64 | np.bool_ | np.uint64]] = {
    BlockType.FLOAT: np.float64,
    BlockType.INTEGER: np.int64,
    BlockType.BOOLEAN: np.bool_,
    BlockType.UNSIGNED: np.uint64,
}


class Column:
    """The points written to one key, in the order of writing."""

    __slots__ = ("times", "type", "values")

    def __init__(self, kind: BlockType) -> None:
        self.type = kind
        self.times: list[int] = []
        self.values: list[Any] = []


class Cache:
    """Columns by series key and field; the caller holds a lock and has checked the types."""

    def __init__(self) -> None:
        self.series: dict[bytes, dict[bytes, Column]] = {}
        self.n_values = 0

    def add(self, points: Iterable[Point]) -> None:
        for series, time_ns, fields, _ in points:
            columns = self.series.get(series)
            if columns is None:
                columns = self.series[series] = {}
            for name, kind, value in fields:
                column = columns.get(name)
                if column is None:
                    column = columns[name] = Column(kind)
                column.times.append(time_ns)
                column.values.append(value)
            self.n_values += len(fields)

    def clear(self) -> None:
        self.series.clear()
        self.n_values = 0

    def key_types(self) -> list[tuple[bytes, BlockType]]:
        """TSM keys, in any order, and their types."""
        return [
            (series + SEPARATOR + name, column.type)
            for series, columns in self.series.items()
            for name, column in columns.items()
        ]

    def delete(self, deleted: Iterable[Tombstone]) -> None:
        for key, low, high in deleted:
            series, _, name = key.partition(SEPARATOR)
            columns = self.series.get(series, {})
            column = columns.get(name)
            if column is None:
                continue
            kept = [i for i, time in enumerate(column.times) if not low <= time <= high]
            self.n_values -= len(column.times) - len(kept)
            column.times = [column.times[i] for i in kept]
            column.values = [column.values[i] for i in kept]
            if not kept:
                del columns[name]
                if not columns:
                    del self.series[series]

    def series_points(self, wanted: Callable[[bytes], bool] | None = None) -> list[SeriesPoints]:
        """Copies of the columns by ascending TSM key, without duplicate times."""
        found = [
            (key, column)
            for series, columns in self.series.items()
            for name, column in columns.items()
            if (key := series + SEPARATOR + name) and (wanted is None or wanted(key))
        ]
        return [_sorted(key, column) for key, column in sorted(found, key=itemgetter(0))]


def later_wins(key: bytes, earlier: SeriesPoints, later: SeriesPoints) -> SeriesPoints:
    """The points of both; at equal times those of `later`."""
    times = np.concatenate([earlier.times, later.times])
    return _deduplicated(key, earlier.type, times, joined([earlier.values, later.values]))


def between(found: SeriesPoints, min_time_ns: int, max_time_ns: int) -> SeriesPoints | None:
    """The points of a range, both ends inclusive."""
    low = int(np.searchsorted(found.times, min_time_ns, side="left"))
    high = int(np.searchsorted(found.times, max_time_ns, side="right"))
    if low >= high:
        return None
    if high - low == len(found.times):
        return found
    return SeriesPoints(found.key, found.type, found.times[low:high], found.values[low:high])


def merged(
    stored: Iterator[SeriesPoints], cached: Sequence[SeriesPoints]
) -> Iterator[SeriesPoints]:
    """Stored and cached points by ascending key; cached ones win."""
    rest = iter(cached)
    next_cached = next(rest, None)
    for found in stored:
        while next_cached is not None and next_cached.key < found.key:
            yield next_cached
            next_cached = next(rest, None)
        if next_cached is not None and next_cached.key == found.key:
            yield later_wins(found.key, found, next_cached)
            next_cached = next(rest, None)
        else:
            yield found
    if next_cached is not None:
        yield next_cached
    yield from rest


def as_values(kind: BlockType, values: Sequence[FieldValue]) -> Values:
    """Convert Python values to the arrays of blocks."""
    if kind is BlockType.STRING:
        return [value for value in values if isinstance(value, bytes)]
    numbers: Numbers = np.array(values, dtype=_DTYPES[kind])
    return numbers


def _sorted(key: bytes, column: Column) -> SeriesPoints:
    times = np.array(column.times, dtype=np.int64)
    return _deduplicated(key, column.type, times, as_values(column.type, column.values))


def _deduplicated(key: bytes, kind: BlockType, times: Ints, values: Values) -> SeriesPoints:
    if (times[1:] > times[:-1]).all():
        return SeriesPoints(key, kind, times, values)
    order = np.argsort(times, kind="stable")
    times = times[order]
    last = np.ones(len(times), dtype=np.bool_)
    last[:-1] = times[1:] != times[:-1]
    rows = order[last]
    if isinstance(values, list):
        return SeriesPoints(key, kind, times[last], [values[row] for row in rows.tolist()])
    return SeriesPoints(key, kind, times[last], values[rows])
