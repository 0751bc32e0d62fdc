"""Rows of a query as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import IO, Any, Protocol, TypeAlias

import numpy as np

from pipelines.ctl.render import printable, table
from resources.points.batches import Batch, TagColumn
from resources.points.table import TIME, Table

FORMAT = 1
TABLE_ROWS = 10_000
"""A table of more rows is several: the width of a column needs all of its cells."""

Cell: TypeAlias = "str | int | float | bool | None"
"""Bytes that are no UTF-8 are in a str as surrogates; times are texts with nanoseconds."""
Page: TypeAlias = Sequence[Sequence[Cell]]
"""Some rows, by column."""


class RowFormat(Protocol):
    """Writes rows."""

    def page(self, columns: Page, /) -> None: ...

    def finish(self, *, complete: bool) -> None:
        """Write what follows the last row."""
        ...


class TextTable:
    """Columns side by side."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._head = tuple(map(printable, names))
        self._rows: list[tuple[str, ...]] = []

    def page(self, columns: Page) -> None:
        for row in zip(*columns, strict=True):
            self._rows.append(tuple(printable(_text(cell)) for cell in row))
            if len(self._rows) >= TABLE_ROWS:
                self._write()

    def finish(self, *, complete: bool) -> None:
        self._write()

    def _write(self) -> None:
        if self._rows:
            self._file.write((table(self._head, self._rows) + "\n").encode())
        self._rows = []


class CSVRows:
    """A row a line, after the names."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._write([names])

    def page(self, columns: Page) -> None:
        self._write(zip(*([_text(cell) for cell in column] for column in columns), strict=True))

    def finish(self, *, complete: bool) -> None:
        pass

    def _write(self, rows: Any) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))


class JSONRows:
    """One object: format, columns, rows, complete; a row a line."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._separator = b"\n"
        self._file.write(
            f'{{"format": {FORMAT}, "columns": {json.dumps(names)}, "rows": ['.encode()
        )

    def page(self, columns: Page) -> None:
        for row in zip(*columns, strict=True):
            # ASCII only: a surrogate stands for a byte that is no UTF-8.
            text = json.dumps([_finite(cell) for cell in row])
            self._file.write(self._separator + text.encode())
            self._separator = b",\n"

    def finish(self, *, complete: bool) -> None:
        self._file.write(f'\n], "complete": {json.dumps(complete)}}}\n'.encode())


FORMATS: dict[str, type[TextTable | CSVRows | JSONRows]] = {
    "table": TextTable,
    "csv": CSVRows,
    "json": JSONRows,
}


def names_of(columns: Table) -> list[str]:
    """The head of a measurement's rows."""
    return [TIME, *(column.name for column in columns.columns)]


def pages_of(batches: Iterator[Batch]) -> Iterator[Page]:
    """Rows as cells."""
    for batch in batches:
        columns: list[list[Cell]] = [instants(batch.times)]
        for column in batch.columns:
            if isinstance(column, TagColumn):
                texts = [*map(_decoded, column.values), None]
                columns.append([texts[code] for code in column.codes.tolist()])
            else:
                columns.append(_cells(column.values, column.missing))
        yield columns


def write_pages(pages: Iterator[Page], writer: RowFormat, most: int) -> bool:
    """Write rows up to a limit, 0 for none; whether there were no more."""
    left = most
    complete = True
    for page in pages:
        rows = len(page[0])
        if most and rows > left:
            writer.page([column[:left] for column in page])
            complete = False
            break
        writer.page(page)
        left -= rows
    writer.finish(complete=complete)
    return complete


def instants(times: Any) -> list[Cell]:
    """Nanoseconds as texts."""
    texts: list[str] = np.datetime_as_string(times.view("datetime64[ns]")).tolist()
    return [f"{text}Z" for text in texts]


def _cells(values: Any, missing: Any) -> list[Cell]:
    cells: list[Cell]
    if isinstance(values, list):
        return [None if value is None else _decoded(value) for value in values]
    cells = values.tolist()
    if missing is not None:
        for row in np.flatnonzero(missing).tolist():
            cells[row] = None
    return cells


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return cell if isinstance(cell, str) else repr(cell)


def _finite(cell: Cell) -> Cell:
    """JSON has no infinity and no NaN, which a statement can make: they are texts."""
    return repr(cell) if isinstance(cell, float) and not math.isfinite(cell) else cell
