"""Points as text: line protocol and CSV. Names and strings stay the bytes that are stored."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import IO, Protocol

import numpy as np

from resources.engine.export.tables import Names
from resources.model import ShardPlace
from resources.points.line_protocol import can_be_written, lines_of
from resources.points.series import parse_series
from resources.tsm.blocks import Values
from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints

MAX_LEFT_OUT = 20
LINES = 10_000


class Format(Protocol):
    """A visitor of an export that writes."""

    left_out: list[str]
    """Some of the keys that could not be written."""
    n_left_out: int
    """Values that could not be written."""

    def __call__(self, place: ShardPlace, points: Iterator[SeriesPoints], /) -> None: ...

    def finish(self) -> None:
        """Write what is still to be written."""
        ...


class LineProtocol:
    """One value a line, with the comments that `influx -import` reads."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._context: tuple[str, str] | None = None
        self.left_out: list[str] = []
        self.n_left_out = 0

    def __call__(self, place: ShardPlace, points: Iterator[SeriesPoints]) -> None:
        self._in_context(place.database, place.policy)
        for one in points:
            if not _can_be_written(one):
                self.n_left_out += len(one.times)
                if len(self.left_out) < MAX_LEFT_OUT:
                    self.left_out.append(one.key.decode(errors="backslashreplace"))
                continue
            self._file.writelines(lines_of(one))

    def finish(self) -> None:
        pass

    def _in_context(self, database: str, policy: str) -> None:
        if self._context == (database, policy):
            return
        if self._context is None:
            self._file.write(b"# DML\n")
        self._context = database, policy
        if "\n" not in database + policy:
            text = f"# CONTEXT-DATABASE:{database}\n# CONTEXT-RETENTION-POLICY:{policy}\n"
            self._file.write(text.encode("utf-8", "surrogateescape"))


def _can_be_written(points: SeriesPoints) -> bool:
    if points.type is BlockType.FLOAT and not isinstance(points.values, list):
        # No server takes such a value, and none writes one.
        return bool(np.isfinite(points.values).all()) and can_be_written(points.key)
    return can_be_written(points.key)


class CSV:
    """One row for each series and time: time, tags, fields.

    A tag or field that a row lacks is empty, and so is an empty string.
    """

    def __init__(self, file: IO[bytes], names: Names) -> None:
        self._file = file
        self._tags, self._fields = sorted(names.tags), sorted(names.fields)
        self.left_out: list[str] = []
        self.n_left_out = 0
        self._write([["time", *map(_text, self._tags), *map(_text, self._fields)]])

    def __call__(self, _: ShardPlace, points: Iterator[SeriesPoints]) -> None:
        for series, found in groupby(points, key=lambda one: split_key(one.key)[0]):
            self._series(series, list(found))

    def finish(self) -> None:
        pass

    def _series(self, series: bytes, found: Sequence[SeriesPoints]) -> None:
        tags = dict(parse_series(series).tags)
        head = [_text(tags.get(tag, b"")) for tag in self._tags]
        times = np.unique(np.concatenate([one.times for one in found]))
        columns: dict[bytes, list[str]] = {}
        for one in found:
            cells = [""] * len(times)
            rows = np.searchsorted(times, one.times).tolist()
            for row, cell in zip(rows, _cells(one.values), strict=True):
                cells[row] = cell
            columns[split_key(one.key)[1]] = cells
        empty = [""] * len(times)
        fields = [columns.get(name, empty) for name in self._fields]
        stamps = np.datetime_as_string(times.astype("datetime64[ns]")).tolist()
        rows_of = zip(stamps, *fields, strict=True)
        self._write([f"{stamp}Z", *head, *cells] for stamp, *cells in rows_of)

    def _write(self, rows: Iterator[list[str]] | list[list[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _cells(values: Values) -> list[str]:
    if isinstance(values, list):
        return [_text(value) for value in values]
    if values.dtype == np.bool_:
        return ["true" if value else "false" for value in values.tolist()]
    return [repr(value) for value in values.tolist()]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
