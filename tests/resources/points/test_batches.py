"""Rows join the fields of a series; batches have a limit, and joining them changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from resources.points import batches as module
from resources.points.batches import Batch, Batches, FieldColumn, TagColumn, joined_batches
from resources.points.table import Table
from resources.tsm.layout import BlockType
from resources.tsm.merge import SeriesPoints

TABLE = Table.of(
    {b"k", b"none"},
    {b"f": {BlockType.FLOAT}, b"i": {BlockType.INTEGER}, b"s": {BlockType.STRING}},
)


def points(key: bytes, kind: BlockType, found: dict[int, object]) -> SeriesPoints:
    values = list(found.values())
    given = values if kind is BlockType.STRING else np.array(values)
    return SeriesPoints(key, kind, np.array(list(found), np.int64), given)  # type: ignore[arg-type]


SERIES = [
    [
        points(b"m,k=a#!~#f", BlockType.FLOAT, {1: 1.5, 2: 2.5}),
        points(b"m,k=a#!~#i", BlockType.INTEGER, {2: 2, 3: 3}),
        points(b"m,k=a#!~#s", BlockType.STRING, {1: b"x", 3: b""}),
    ],
    [points(b"m#!~#f", BlockType.FLOAT, {1: 4.5})],
    [points(b"m,k=a#!~#i", BlockType.INTEGER, {4: 9})],
]
ROWS = [
    (1, b"a", None, 1.5, None, b"x"),
    (2, b"a", None, 2.5, 2, None),
    (3, b"a", None, None, 3, b""),
    (1, None, None, 4.5, None, None),
    (4, b"a", None, None, 9, None),
]


def rows(batch: Batch) -> list[tuple[object, ...]]:
    columns: list[list[object]] = [list(batch.times.tolist())]
    for column in batch.columns:
        if isinstance(column, TagColumn):
            columns.append([column.values[i] if i >= 0 else None for i in column.codes.tolist()])
        else:
            columns.append(cells(column))
    return list(zip(*columns, strict=True))


def cells(column: FieldColumn) -> list[object]:
    values: list[object] = list(column.values)
    missing = np.zeros(len(values), bool) if column.missing is None else column.missing
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


@pytest.mark.parametrize("max_rows", [1, 2, 3, 4, 100])
def test_rows_are_the_same_in_batches_of_any_size(max_rows: int) -> None:
    batches = Batches(TABLE, max_rows)
    found = [*batches.of(SERIES), *batches.finish()]
    assert all(len(batch) <= max_rows for batch in found)
    assert [row for batch in found for row in rows(batch)] == ROWS
    assert rows(joined_batches(TABLE, found)) == ROWS
    by_time = joined_batches(TABLE, found).by_time()
    assert rows(by_time) == sorted(ROWS, key=lambda row: row[0])  # type: ignore[arg-type, return-value]


def test_wide_tables_and_long_strings_make_batches_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CELLS", 2 * (1 + len(TABLE.columns)))
    assert max(len(batch) for batch in Batches(TABLE).of(SERIES)) == 2
    monkeypatch.setattr(module, "MAX_STRING_BYTES", 1)
    assert next(len(batch) for batch in Batches(TABLE).of(SERIES)) == 2


def test_no_rows_are_a_batch_too() -> None:
    assert rows(joined_batches(TABLE, [])) == []
    assert len(joined_batches(TABLE, []).columns) == len(TABLE.columns)
