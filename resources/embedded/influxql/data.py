"""Reads series and their points from the shards of a statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import numpy as np
from msgspec import Struct, field

from resources.embedded.influxql.catalog import Catalog
from resources.embedded.influxql.statements import Source
from resources.embedded.server_errors import StatementFailed
from resources.embedded.shards.cache import later_wins
from resources.model import DatabaseInfo, RetentionPolicyInfo, ShardID
from resources.tsm.blocks import Values
from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints

_PART = re.compile(rb"(?:[^,]|(?<=\\),)*")
_TAG = re.compile(rb"((?:[^=]|(?<=\\)=)*)=(.*)", re.DOTALL)
_IN_MEASUREMENT = re.compile(rb"\\([, ])")
_IN_TAG = re.compile(rb"\\([, =])")

_PREFERRED = (
    BlockType.FLOAT,
    BlockType.INTEGER,
    BlockType.UNSIGNED,
    BlockType.STRING,
    BlockType.BOOLEAN,
)
"""The precedence of a field's types in different shards."""


class SeriesName(Struct, frozen=True):
    """The parts of a series key."""

    measurement: str
    tags: Mapping[str, str]


class SeriesData(Struct):
    """A series with its points by field."""

    key: bytes
    name: SeriesName
    fields: dict[str, SeriesPoints] = field(default_factory=dict[str, SeriesPoints])


class Schema(Struct, frozen=True):
    """The fields, tags and series of a measurement."""

    fields: Mapping[str, BlockType]
    tags: frozenset[str]
    series: tuple[bytes, ...]
    """Keys, ascending."""


@lru_cache(maxsize=100_000)
def series_name(key: bytes) -> SeriesName:
    """Split a series key; bytes that are not UTF-8 become surrogate escapes."""
    parts: list[bytes] = []
    at = 0
    while at <= len(key):
        match = _PART.match(key, at)
        part = match[0] if match is not None else b""
        parts.append(part)
        at += len(part) + 1
    tags: dict[str, str] = {}
    for part in parts[1:]:
        match = _TAG.fullmatch(part)
        if match is not None:
            tags[_text(_IN_TAG.sub(rb"\1", match[1]))] = _text(_IN_TAG.sub(rb"\1", match[2]))
    return SeriesName(_text(_IN_MEASUREMENT.sub(rb"\1", parts[0])), tags)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def found_database(catalog: Catalog, name: str) -> DatabaseInfo:
    """The database of a name.

    Raises:
        StatementFailed: the name is empty, or there is no such database.
    """
    if not name:
        raise StatementFailed("database name required")
    database = catalog.metastore().database(name)
    if database is None:
        raise StatementFailed(f"database not found: {name}")
    return database


def found_policy(database: DatabaseInfo, name: str) -> RetentionPolicyInfo:
    """A policy, by default the database's default policy.

    Raises:
        StatementFailed: there is no such policy.
    """
    policy = database.retention_policy(name or database.default_retention_policy)
    if policy is None:
        raise StatementFailed(f"retention policy not found: {name}")
    return policy


def shards_of(
    policies: Iterable[RetentionPolicyInfo], min_time_ns: int, max_time_ns: int
) -> list[ShardID]:
    """The shards of all groups that overlap a range, by time."""
    groups = [
        group
        for policy in policies
        for group in policy.shard_groups
        if group.deleted_at_ns is None
        and group.start_time_ns <= max_time_ns
        and group.end_time_ns > min_time_ns
    ]
    groups.sort(key=lambda group: group.start_time_ns)
    return [shard.id for group in groups for shard in group.shards]


def schemas(catalog: Catalog, shards: Iterable[ShardID]) -> dict[str, Schema]:
    """The measurements in these shards, sorted by name."""
    fields: dict[str, dict[str, BlockType]] = {}
    series: dict[str, set[bytes]] = {}
    for shard_id in shards:
        for key, kind in catalog.keys(shard_id).items():
            name, of = split_key(key)
            measurement = series_name(name).measurement
            known = fields.setdefault(measurement, {})
            there = known.setdefault(_text(of), kind)
            if _PREFERRED.index(kind) < _PREFERRED.index(there):
                known[_text(of)] = kind
            series.setdefault(measurement, set()).add(name)
    return {
        measurement: Schema(
            dict(sorted(fields[measurement].items())),
            frozenset(tag for key in series[measurement] for tag in series_name(key).tags),
            tuple(sorted(series[measurement])),
        )
        for measurement in sorted(fields)
    }


def matching(source: Source, measurements: Iterable[str]) -> Iterator[str]:
    """The measurements that match a source."""
    for name in measurements:
        if isinstance(source.measurement, str):
            if name == source.measurement:
                yield name
        elif source.measurement.search(name):
            yield name


def read_series(
    catalog: Catalog,
    shards: Iterable[ShardID],
    keys: Mapping[bytes, BlockType],
    min_time_ns: int,
    max_time_ns: int,
) -> list[SeriesData]:
    """Read TSM keys, each as the given type; series are sorted by key."""
    found: dict[bytes, SeriesData] = {}
    for shard_id in shards:
        for points in catalog.points(shard_id, keys.__contains__, min_time_ns, max_time_ns):
            typed = _as_type(points, keys[points.key])
            if typed is None:
                continue
            key, of = split_key(points.key)
            series = found.setdefault(key, SeriesData(key, series_name(key)))
            before = series.fields.get(_text(of))
            series.fields[_text(of)] = (
                typed if before is None else later_wins(points.key, before, typed)
            )
    return [found[key] for key in sorted(found)]


def _as_type(points: SeriesPoints, kind: BlockType) -> SeriesPoints | None:
    """Convert numbers to the field's type; None: the type has no such values."""
    if points.type is kind:
        return points
    numbers = (BlockType.FLOAT, BlockType.INTEGER, BlockType.UNSIGNED)
    if kind not in numbers or points.type not in numbers or isinstance(points.values, list):
        return None
    dtype = np.float64 if kind is BlockType.FLOAT else np.int64
    values: Values = points.values.astype(dtype)
    return SeriesPoints(points.key, kind, points.times, values)
