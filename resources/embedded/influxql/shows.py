"""Answers SHOW statements.

Source: influxdb coordinator/statement_executor.go; tsdb/store.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from resources.embedded.influxql import conditions, data
from resources.embedded.influxql.catalog import Catalog
from resources.embedded.influxql.conditions import UNKNOWN
from resources.embedded.influxql.data import Schema, series_name
from resources.embedded.influxql.results import Cell, Rows
from resources.embedded.influxql.statements import (
    ShowContinuousQueries,
    ShowDatabases,
    ShowGrants,
    ShowNames,
    ShowRetentionPolicies,
    ShowShardGroups,
    ShowShards,
    ShowUsers,
    Source,
)
from resources.embedded.server_errors import StatementFailed
from resources.model import DatabaseInfo, RetentionPolicyInfo, ShardGroupInfo
from resources.protocol.times import format_time

Show = (
    ShowDatabases
    | ShowRetentionPolicies
    | ShowShards
    | ShowShardGroups
    | ShowContinuousQueries
    | ShowUsers
    | ShowGrants
    | ShowNames
)

_PRIVILEGES = {0: "NO PRIVILEGES", 1: "READ", 2: "WRITE", 3: "ALL PRIVILEGES"}


def show_rows(show: Show, catalog: Catalog, database: str, now_ns: int) -> list[Rows]:
    """The rows of a SHOW statement.

    Raises:
        StatementFailed: the statement's error, in the server's words.
    """
    known = catalog.metastore()
    match show:
        case ShowDatabases():
            return [Rows(("name",), [[db.name] for db in known.databases], "databases")]
        case ShowRetentionPolicies(name):
            return [_policies(data.found_database(catalog, name or database))]
        case ShowShards():
            return [_shards(db) for db in known.databases]
        case ShowShardGroups():
            return [_groups(known.databases)]
        case ShowContinuousQueries():
            return [
                Rows(
                    ("name", "query"),
                    [[query.name, query.query] for query in db.continuous_queries],
                    db.name,
                )
                for db in known.databases
            ]
        case ShowUsers():
            return [Rows(("user", "admin"), [[user.name, user.admin] for user in known.users])]
        case ShowGrants(name):
            user = next((user for user in known.users if user.name == name), None)
            if user is None:
                raise StatementFailed("user not found")
            grants: list[list[Cell]] = [
                [grant.database, _PRIVILEGES.get(grant.privilege, "")] for grant in user.privileges
            ]
            return [Rows(("database", "privilege"), grants)]
        case ShowNames():
            return _names(show, catalog, database, now_ns)


def _policies(database: DatabaseInfo) -> Rows:
    columns = ("name", "duration", "shardGroupDuration", "replicaN", "default")
    return Rows(
        columns,
        [
            [
                policy.name,
                go_duration(policy.duration_ns),
                go_duration(policy.shard_group_duration_ns),
                policy.replica_n,
                policy.name == database.default_retention_policy,
            ]
            for policy in database.retention_policies
        ],
    )


def _shards(database: DatabaseInfo) -> Rows:
    columns = (
        *("id", "database", "retention_policy", "shard_group", "start_time", "end_time"),
        *("expiry_time", "owners"),
    )
    values: list[list[Cell]] = [
        [
            shard.id,
            database.name,
            policy.name,
            group.id,
            *_bounds(policy, group),
            ",".join(str(owner.node_id) for owner in shard.owners),
        ]
        for policy in database.retention_policies
        for group in policy.shard_groups
        if group.deleted_at_ns is None
        for shard in group.shards
    ]
    return Rows(columns, values, database.name)


def _groups(databases: Iterable[DatabaseInfo]) -> Rows:
    columns = ("id", "database", "retention_policy", "start_time", "end_time", "expiry_time")
    values: list[list[Cell]] = [
        [group.id, database.name, policy.name, *_bounds(policy, group)]
        for database in databases
        for policy in database.retention_policies
        for group in policy.shard_groups
        if group.deleted_at_ns is None
    ]
    return Rows(columns, values, "shard groups")


def _bounds(policy: RetentionPolicyInfo, group: ShardGroupInfo) -> list[Cell]:
    expiry_ns = group.end_time_ns + policy.duration_ns
    times = (group.start_time_ns, group.end_time_ns, expiry_ns)
    return [format_time(time_ns) for time_ns in times]


def _names(show: ShowNames, catalog: Catalog, database: str, now_ns: int) -> list[Rows]:
    name = show.database or database
    there = catalog.metastore().database(name)
    if there is None and show.what == "measurements" and name:
        return []
    there = there or data.found_database(catalog, name)
    where = conditions.where(show.condition, now_ns)
    shards = data.shards_of(there.retention_policies, where.min_time_ns, where.max_time_ns)
    found: list[Rows] = []
    for measurement, schema in data.schemas(catalog, shards).items():
        sources = show.sources or (Source(measurement),)
        if not any(measurement in data.matching(source, [measurement]) for source in sources):
            continue
        kept = [key for key in schema.series if _may_hold(show, where, schema, key)]
        if not kept:
            continue
        found.append(_of(show, measurement, schema, kept))
    if show.what in ("measurements", "series"):
        # All measurements share one list.
        values = _cut(show, [row for rows in found for row in rows.values])
        if not values:
            return []
        if show.what == "series":
            return [Rows(("key",), values)]
        return [Rows(("name",), values, "measurements")]
    return [
        Rows(rows.columns, values, rows.name)
        for rows in found
        if (values := _cut(show, rows.values))
    ]


def _of(show: ShowNames, measurement: str, schema: Schema, kept: list[bytes]) -> Rows:
    match show.what:
        case "measurements":
            return Rows(("name",), [[measurement]])
        case "series":
            keys: list[list[Cell]] = [[key.decode("utf-8", "surrogateescape")] for key in kept]
            return Rows(("key",), keys)
        case "field keys":
            types: list[list[Cell]] = [
                [name, kind.name.lower()] for name, kind in schema.fields.items()
            ]
            return Rows(("fieldKey", "fieldType"), types, measurement)
        case "tag keys":
            tags = sorted({tag for key in kept for tag in series_name(key).tags})
            return Rows(("tagKey",), [[tag] for tag in tags], measurement)
        case "tag values":
            pairs = sorted(
                {
                    (tag, value)
                    for key in kept
                    for tag, value in series_name(key).tags.items()
                    if tag in show.keys
                    or (show.key_pattern is not None and show.key_pattern.search(tag))
                }
            )
            return Rows(("key", "value"), [[tag, value] for tag, value in pairs], measurement)


def _may_hold(show: ShowNames, where: conditions.Where, schema: Schema, key: bytes) -> bool:
    """Whether a series may match, by its tags; a field has an unknown value.

    For SHOW MEASUREMENTS a field counts as a missing tag, as in the server.
    """
    fields = schema.fields if show.what != "measurements" else frozenset[str]()
    tags = series_name(key).tags
    held = conditions.holds(
        where.rest, lambda name: UNKNOWN if name in fields else tags.get(name, "")
    )
    return held is not False


def _cut(show: ShowNames, values: list[list[Cell]]) -> list[list[Cell]]:
    return values[show.offset : show.offset + show.limit if show.limit else None]


def go_duration(ns: int) -> str:
    """A duration in Go's format: `0s`, `168h0m0s`, `1.5s`."""
    if ns % 1_000_000_000:
        return f"{ns / 1e9:g}s" if ns >= 1_000_000_000 else f"{ns}ns"
    minutes, seconds = divmod(ns // 1_000_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
