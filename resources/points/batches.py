"""Points as rows: batches of equally long columns, in bounded memory.

A row is a series at a time, with all fields that it has then. Rows come series by series, and
within a series by time. Arrow and pandas build upon these arrays (`arrow.py`, `frames.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from resources.points.series import parse_series
from resources.points.table import Table
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Values
from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints

MAX_ROWS = 131_072
MAX_CELLS = 4 << 20
"""The limit of rows times columns: a wide table has fewer rows in a batch."""
MAX_STRING_BYTES = 32 << 20

DTYPES = {
    BlockType.FLOAT: np.dtype(np.float64),
    BlockType.INTEGER: np.dtype(np.int64),
    BlockType.UNSIGNED: np.dtype(np.uint64),
    BlockType.BOOLEAN: np.dtype(np.bool_),
}

Mask: TypeAlias = NDArray[np.bool_]


class TagColumn(Struct, frozen=True):
    """A tag of each row, as the position of its value; -1: the series has no such tag."""

    codes: NDArray[np.int32]
    values: list[bytes]
    """Distinct."""


class FieldColumn(Struct, frozen=True):
    """A field of each row; numbers where it has none are 0."""

    values: NDArray[np.generic] | list[bytes | None]
    missing: Mask | None
    """None: every row has a value."""


class Batch(Struct, frozen=True):
    """Rows of a table."""

    times: Ints
    columns: tuple[TagColumn | FieldColumn, ...]
    """One for each column of the table."""

    def __len__(self) -> int:
        return len(self.times)

    def by_time(self) -> Batch:
        """The rows by time; those of equal times keep their order."""
        if (self.times[1:] >= self.times[:-1]).all():
            return self
        return self.chosen(np.argsort(self.times, kind="stable"))

    def chosen(self, rows: NDArray[np.intp]) -> Batch:
        """The rows at these positions."""
        columns: list[TagColumn | FieldColumn] = []
        for column in self.columns:
            if isinstance(column, TagColumn):
                columns.append(TagColumn(column.codes[rows], column.values))
                continue
            missing = None if column.missing is None else column.missing[rows]
            values = column.values
            if isinstance(values, list):
                columns.append(FieldColumn([values[row] for row in rows.tolist()], missing))
            else:
                columns.append(FieldColumn(values[rows], missing))
        return Batch(self.times[rows], tuple(columns))


class Rows(Struct, frozen=True):
    """Rows of one series: times, and for each field where its values belong."""

    series: bytes
    times: Ints
    cells: dict[tuple[bytes, BlockType], tuple[Values, Ints | None]]
    """By field and type: values and their rows; None: all rows."""

    @property
    def string_bytes(self) -> int:
        return sum(
            sum(map(len, values)) for values, _ in self.cells.values() if isinstance(values, list)
        )

    def part(self, start: int, end: int) -> Rows:
        """The rows from `start` to `end`, exclusive."""
        cells: dict[tuple[bytes, BlockType], tuple[Values, Ints | None]] = {}
        for key, (values, at) in self.cells.items():
            if at is None:
                cells[key] = values[start:end], None
            else:
                low, high = (int(i) for i in np.searchsorted(at, [start, end]))
                cells[key] = values[low:high], at[low:high] - start
        return Rows(self.series, self.times[start:end], cells)


def rows_of(fields: Sequence[SeriesPoints]) -> Rows:
    """Join the fields of one series."""
    times = fields[0].times
    series, _ = split_key(fields[0].key)
    if any(not np.array_equal(one.times, times) for one in fields[1:]):
        times = np.unique(np.concatenate([one.times for one in fields]))
    cells: dict[tuple[bytes, BlockType], tuple[Values, Ints | None]] = {}
    for one in fields:
        at = None if len(one.times) == len(times) else np.searchsorted(times, one.times)
        cells[split_key(one.key)[1], one.type] = one.values, at
    return Rows(series, times, cells)


class Batches:
    """Collects rows into batches of bounded size.

    Args:
        max_rows: the most rows of a batch.
    """

    def __init__(self, table: Table, max_rows: int = MAX_ROWS) -> None:
        self._table = table
        self._max_rows = max(1, min(max_rows, MAX_CELLS // (1 + len(table.columns))))
        self._pending: list[Rows] = []
        self._n_rows = 0
        self._string_bytes = 0

    def of(self, points: Iterable[Sequence[SeriesPoints]]) -> Iterator[Batch]:
        """Yield the points of series as batches; the last rows come with `finish`."""
        for fields in points:
            rows = rows_of(fields)
            at = 0
            while at < len(rows.times):
                end = min(at + self._max_rows - self._n_rows, len(rows.times))
                part = rows if end - at == len(rows.times) else rows.part(at, end)
                self._pending.append(part)
                self._n_rows += end - at
                self._string_bytes += part.string_bytes
                at = end
                if self._n_rows >= self._max_rows or self._string_bytes >= MAX_STRING_BYTES:
                    yield from self.finish()

    def finish(self) -> Iterator[Batch]:
        """Yield what is pending."""
        if self._pending:
            pending, self._pending = self._pending, []
            self._n_rows = self._string_bytes = 0
            yield batch_of(self._table, pending)


def batch_of(table: Table, parts: Sequence[Rows]) -> Batch:
    """Join the rows of several series."""
    counts = np.array([len(part.times) for part in parts], dtype=np.int64)
    times = np.concatenate([part.times for part in parts]) if parts else np.empty(0, np.int64)
    tags = [dict(parse_series(part.series).tags) for part in parts]
    columns: list[TagColumn | FieldColumn] = []
    for column in table.columns:
        if column.type is None:
            columns.append(_tag_column([one.get(column.source) for one in tags], counts))
        else:
            columns.append(_field_column((column.source, column.type), parts, counts))
    return Batch(times, tuple(columns))


def _tag_column(of_series: Sequence[bytes | None], counts: Ints) -> TagColumn:
    numbers: dict[bytes, int] = {}
    # An empty value means: no such tag.
    codes = [numbers.setdefault(tag, len(numbers)) if tag else -1 for tag in of_series]
    return TagColumn(np.repeat(np.array(codes, np.int32), counts), list(numbers))


def _field_column(key: tuple[bytes, BlockType], parts: Sequence[Rows], counts: Ints) -> FieldColumn:
    n_rows = int(counts.sum())
    dtype = DTYPES.get(key[1])
    if len(parts) == 1 and (only := parts[0].cells.get(key)) is not None and only[1] is None:
        return FieldColumn(only[0], None)  # type: ignore[arg-type]
    values: NDArray[np.generic] | list[bytes | None]
    values = list[bytes | None]([None]) * n_rows if dtype is None else np.zeros(n_rows, dtype)
    missing = np.ones(n_rows, np.bool_)
    start = 0
    for part, count in zip(parts, counts.tolist(), strict=True):
        cell = part.cells.get(key)
        if cell is not None:
            found, at = cell
            where = slice(start, start + count) if at is None else at + start
            missing[where] = False
            _put(values, where, found)
        start += count
    return FieldColumn(values, missing if missing.any() else None)


def _put(
    values: NDArray[np.generic] | list[bytes | None], where: slice | Ints, found: Values
) -> None:
    if not isinstance(values, list):
        values[where] = found
    elif isinstance(where, slice):
        values[where] = found  # type: ignore[assignment]
    else:
        for row, value in zip(where.tolist(), found, strict=True):
            values[row] = value


def joined_batches(table: Table, batches: Sequence[Batch]) -> Batch:
    """One batch with the rows of all, which may be none."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return batch_of(table, [])
    columns: list[TagColumn | FieldColumn] = []
    for parts in zip(*(batch.columns for batch in batches), strict=True):
        tags = [part for part in parts if isinstance(part, TagColumn)]
        fields = [part for part in parts if isinstance(part, FieldColumn)]
        columns.append(_joined_tags(tags) if tags else _joined_fields(fields))
    return Batch(np.concatenate([batch.times for batch in batches]), tuple(columns))


def _joined_tags(parts: Sequence[TagColumn]) -> TagColumn:
    numbers: dict[bytes, int] = {}
    codes: list[NDArray[np.int32]] = []
    for part in parts:
        # The last one stands for -1, which indexes it.
        there = [numbers.setdefault(value, len(numbers)) for value in part.values]
        codes.append(np.array([*there, -1], np.int32)[part.codes])
    return TagColumn(np.concatenate(codes), list(numbers))


def _joined_fields(parts: Sequence[FieldColumn]) -> FieldColumn:
    missing: Mask | None = None
    if any(part.missing is not None for part in parts):
        missing = np.concatenate(
            [
                np.zeros(len(part.values), np.bool_) if part.missing is None else part.missing
                for part in parts
            ]
        )
    if isinstance(parts[0].values, list):
        return FieldColumn([one for part in parts for one in part.values], missing)  # type: ignore[misc]
    return FieldColumn(np.concatenate([part.values for part in parts]), missing)  # type: ignore[misc]
