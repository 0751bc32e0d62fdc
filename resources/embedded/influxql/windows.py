"""Aggregates of a group of series, over all time or for each window of GROUP BY time().

Source: influxdb query/select.go; query/iterator.gen.go, FillIterator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from resources.embedded.influxql.aggregates import SELECTORS, aggregate, cell
from resources.embedded.influxql.columns import Output
from resources.embedded.influxql.conditions import Where
from resources.embedded.influxql.data import SeriesData
from resources.embedded.influxql.results import Cell
from resources.embedded.influxql.statements import Select
from resources.embedded.server_errors import StatementFailed
from resources.embedded.shards.line_protocol import MIN_TIME_NS
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Values
from resources.tsm.reader import joined

MAX_WINDOWS = 1_000_000


class _Points(Struct, frozen=True):
    """A field's points in all series of a group, by time."""

    times: Ints
    values: Values
    series: Ints
    """The position in the group of each point's series."""


def rows(
    select: Select, where: Where, wanted: Sequence[Output], group: Sequence[SeriesData]
) -> list[list[Cell]]:
    """Rows of a group, in the statement's order of time.

    Raises:
        StatementFailed: there are more than MAX_WINDOWS, or the fill is linear.
    """
    columns = [_points(group, output.key) if output.function else None for output in wanted]
    if not any(column is not None for column in columns):
        return []
    if not select.every_ns:
        return [_whole(where, wanted, columns, group)]
    if select.fill == "linear":
        raise StatementFailed("fill(linear) is not supported here")
    found = _windows(select, where, wanted, columns, group)
    if select.descending:
        found.reverse()
    return found


def _points(group: Sequence[SeriesData], field: str) -> _Points | None:
    parts = [(i, series.fields[field]) for i, series in enumerate(group) if field in series.fields]
    if not parts:
        return None
    times = np.concatenate([points.times for _, points in parts])
    values = joined([points.values for _, points in parts])
    series = np.concatenate([np.full(len(p.times), i, dtype=np.int64) for i, p in parts])
    if len(parts) > 1:
        order = np.argsort(times, kind="stable")
        times, series = times[order], series[order]
        if isinstance(values, list):
            texts = values
            return _Points(times, [texts[row] for row in order.tolist()], series)
        values = values[order]
    return _Points(times, values, series)


def _whole(
    where: Where,
    wanted: Sequence[Output],
    columns: Sequence[_Points | None],
    group: Sequence[SeriesData],
) -> list[Cell]:
    cells, chosen = _cells(wanted, columns, group, None)
    time_ns = where.from_ns
    calls = [output.function for output in wanted if output.function]
    if len(calls) == 1 and calls[0] in SELECTORS and chosen is not None:
        time_ns = chosen
    return [time_ns, *cells]


def _windows(
    select: Select,
    where: Where,
    wanted: Sequence[Output],
    columns: Sequence[_Points | None],
    group: Sequence[SeriesData],
) -> list[list[Cell]]:
    every = select.every_ns
    low = where.min_time_ns
    if low == MIN_TIME_NS:
        low = min(int(column.times[0]) for column in columns if column is not None)
    low -= low % every
    if (where.max_time_ns - low) // every >= MAX_WINDOWS:
        raise StatementFailed(f"over {MAX_WINDOWS} windows: give a narrower range of time")
    found: list[list[Cell]] = []
    previous: list[Cell] = [None] * len(columns)
    for start in range(low, where.max_time_ns + 1, every):
        cells, chosen = _cells(wanted, columns, group, (start, start + every))
        if chosen is None and select.fill == "none":
            continue
        for i, (output, column) in enumerate(zip(wanted, columns, strict=True)):
            if cells[i] is None and column is not None:
                cells[i] = _filled(select, output, previous[i])
        previous = cells
        found.append([start, *cells])
    return found


def _filled(select: Select, output: Output, previous: Cell) -> Cell:
    match select.fill:
        case "previous":
            return previous
        case "null":
            return 0 if output.function == "count" else None
        case float() as number:
            return number
        case _:
            return None


def _cells(
    wanted: Sequence[Output],
    columns: Sequence[_Points | None],
    group: Sequence[SeriesData],
    window: tuple[int, int] | None,
) -> tuple[list[Cell], int | None]:
    """Values, and the time of the last selected point; None: no column has a point."""
    cells: list[Cell] = []
    at: tuple[int, int] | None = None
    for output, column in zip(wanted, columns, strict=True):
        low, high = 0, 0
        if column is not None:
            high = len(column.times)
            if window is not None:
                low, high = np.searchsorted(column.times, window).tolist()
        if column is None or low >= high:
            cells.append(None)
            continue
        value, row = aggregate(output.function, column.times[low:high], column.values[low:high])
        cells.append(value)
        at = int(column.times[low + row]), int(column.series[low + row])
    if at is not None:
        # With a selector: the other fields and the tags of the selected point.
        for i, output in enumerate(wanted):
            if not output.function:
                cells[i] = _beside(output, group[at[1]], at[0])
    return cells, at[0] if at is not None else None


def _beside(output: Output, series: SeriesData, time_ns: int) -> Cell:
    if output.of == "tag":
        return series.name.tags.get(output.key)
    points = series.fields.get(output.key)
    if points is None:
        return None
    row = int(np.searchsorted(points.times, time_ns))
    return cell(points.values, row) if points.times[row : row + 1] == time_ns else None
