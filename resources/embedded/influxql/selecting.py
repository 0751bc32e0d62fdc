"""Answers SELECT.

Rows of equal times are sorted by their series' keys; the server's order there depends on its
number of processors.

Source: influxdb query/select.go, query/iterator.gen.go; tsdb/engine/tsm1/iterator.gen.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from resources.embedded.influxql import aggregates, conditions, data, windows
from resources.embedded.influxql.catalog import Catalog
from resources.embedded.influxql.columns import Output, outputs
from resources.embedded.influxql.conditions import UNKNOWN, Unknown, Where
from resources.embedded.influxql.data import Schema, SeriesData
from resources.embedded.influxql.results import Cell, Rows, Unsigned
from resources.embedded.influxql.statements import Select, Source
from resources.embedded.shards.line_protocol import MAX_TIME_NS
from resources.model import ShardID
from resources.tsm.arrays import Ints
from resources.tsm.layout import SEPARATOR, BlockType
from resources.tsm.merge import SeriesPoints


class _Measurement(Struct, frozen=True):
    name: str
    schema: Schema
    shards: tuple[ShardID, ...]


def select_rows(
    select: Select, catalog: Catalog, database: str, policy: str, now_ns: int
) -> list[Rows]:
    """The rows of a SELECT, without its INTO.

    Raises:
        StatementFailed: the statement's error, in the server's words.
    """
    where = conditions.where(select.condition, now_ns)
    if select.every_ns and where.max_time_ns == MAX_TIME_NS:
        where = replace(where, max_time_ns=now_ns)
    measurements = [
        found
        for source in select.sources
        for found in _measurements(source, catalog, database, policy, where)
    ]
    all_schemas = [measurement.schema for measurement in measurements]
    dimensions = set(select.tags)
    if select.by_all_tags:
        dimensions.update(*(schema.tags for schema in all_schemas))
    wanted = outputs(select, all_schemas, dimensions)
    if not any(output.of == "field" for output in wanted):
        return []
    found: list[Rows] = []
    for measurement in sorted(measurements, key=lambda measurement: measurement.name):
        series = _read(measurement, catalog, wanted, where)
        for tags, group in _grouped(series, sorted(dimensions)).items():
            values = windows.rows(select, where, wanted, group) if _is_aggregate(wanted) else None
            if values is None:
                values = _raw(wanted, group)
                if select.descending:
                    values.reverse()
            end = select.offset + select.limit if select.limit else None
            if kept := values[select.offset : end]:
                columns = ("time", *(output.name for output in wanted))
                labels = dict(zip(sorted(dimensions), tags, strict=True))
                found.append(Rows(columns, kept, measurement.name, labels, timed=True))
    return found[select.soffset : select.soffset + select.slimit if select.slimit else None]


def _is_aggregate(wanted: Sequence[Output]) -> bool:
    return any(output.function for output in wanted)


def _measurements(
    source: Source, catalog: Catalog, database: str, policy: str, where: Where
) -> Iterator[_Measurement]:
    there = data.found_database(catalog, source.database or database)
    of = data.found_policy(there, source.policy or ("" if source.database else policy))
    shards = data.shards_of([of], where.min_time_ns, where.max_time_ns)
    known = data.schemas(catalog, shards)
    for name in data.matching(source, known):
        yield _Measurement(name, known[name], tuple(shards))


def _read(
    measurement: _Measurement, catalog: Catalog, wanted: Sequence[Output], where: Where
) -> list[SeriesData]:
    """The series and points that match the condition."""
    fields = measurement.schema.fields
    shown = {output.key for output in wanted if output.of == "field"} & set(fields)
    asked = conditions.names(where.rest) & set(fields)
    keys: dict[bytes, BlockType] = {}
    unsure: set[bytes] = set()
    for key in measurement.schema.series:
        tags = data.series_name(key).tags
        held = conditions.holds(
            where.rest,
            lambda name, tags=tags: UNKNOWN if name in fields else tags.get(name, ""),
        )
        if held is False:
            continue
        if held is None:
            unsure.add(key)
        for name in shown | (asked if held is None else set[str]()):
            keys[key + SEPARATOR + name.encode("utf-8", "surrogateescape")] = fields[name]
    for output in wanted if keys else ():
        if output.function and output.key in fields:
            aggregates.check(output.function, fields[output.key])
    found = data.read_series(
        catalog, measurement.shards, keys, where.min_time_ns, where.max_time_ns
    )
    for series in found:
        if series.key in unsure and series.fields.keys() & shown:
            _let_through(series, shown, fields, where)
    return [series for series in found if series.fields.keys() & shown]


def _let_through(
    series: SeriesData, shown: set[str], fields: Mapping[str, BlockType], where: Where
) -> None:
    times = _times([series.fields[name] for name in shown if name in series.fields])
    asked = {
        name: _column(times, series.fields[name])
        for name in conditions.names(where.rest) & series.fields.keys()
    }
    tags = series.name.tags

    def lookup(name: str, row: int) -> Cell | Unknown:
        if name in asked:
            return asked[name][row]
        return None if name in fields else tags.get(name, "")

    mask = np.array(
        [
            conditions.holds(where.rest, lambda name, row=row: lookup(name, row)) is True
            for row in range(len(times))
        ],
        dtype=np.bool_,
    )
    for name in list(series.fields):
        points = series.fields.pop(name)
        if name not in shown:
            continue
        rows = np.flatnonzero(mask[np.searchsorted(times, points.times)])
        if len(rows):
            values = points.values
            chosen = (
                [values[row] for row in rows.tolist()] if isinstance(values, list) else values[rows]
            )
            series.fields[name] = replace(points, times=points.times[rows], values=chosen)


def _grouped(
    series: Sequence[SeriesData], dimensions: Sequence[str]
) -> dict[tuple[str, ...], list[SeriesData]]:
    groups: dict[tuple[str, ...], list[SeriesData]] = {}
    for one in series:
        tags = tuple(one.name.tags.get(name, "") for name in dimensions)
        groups.setdefault(tags, []).append(one)
    return dict(sorted(groups.items()))


def _raw(wanted: Sequence[Output], group: Sequence[SeriesData]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for series in group:
        times = _times(
            [
                series.fields[output.key]
                for output in wanted
                if output.of == "field" and output.key in series.fields
            ]
        )
        columns: list[Sequence[Cell]] = [times.tolist()]
        for output in wanted:
            if output.of == "field" and output.key in series.fields:
                columns.append(_column(times, series.fields[output.key]))
            else:
                tag = series.name.tags.get(output.key) if output.of == "tag" else None
                columns.append([tag] * len(times))
        rows += map(list, zip(*columns, strict=True))
    if len(group) > 1:
        rows.sort(key=_time)
    return rows


def _time(row: Sequence[Cell]) -> int:
    time_ns = row[0]
    return time_ns if isinstance(time_ns, int) else 0


def _times(columns: Sequence[SeriesPoints]) -> Ints:
    if len(columns) == 1:
        return columns[0].times
    return np.unique(np.concatenate([column.times for column in columns]))


def _column(times: Ints, points: SeriesPoints) -> list[Cell]:
    """A field's values at all times of a series; None at times without a value."""
    values = points.values
    plain: list[Cell] = (
        [aggregates.cell(values, row) for row in range(len(values))]
        if isinstance(values, list)
        else values.tolist()
    )
    if points.type is BlockType.UNSIGNED:
        plain = [Unsigned(value) for value in plain if isinstance(value, int)]
    if len(times) == len(plain) and (times == points.times).all():
        return plain
    found: list[Cell] = [None] * len(times)
    rows = np.searchsorted(times, points.times)
    for row, at, value in zip(rows.tolist(), points.times.tolist(), plain, strict=True):
        if row < len(times) and times[row] == at:
            found[row] = value
    return found
