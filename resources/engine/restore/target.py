"""What a restore does to the metastore of a single server."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from resources.clients.server import Server
from resources.engine.events import Emit, Warned
from resources.engine.restore.made import imported, require_as_expected, stated
from resources.engine.restore.plan import NOT_EMPTY, DatabaseRestore
from resources.engine.restore.same_server import check_shards
from resources.errors import (
    BadReply,
    ConnectionCut,
    PlanError,
    ShardkeeperError,
    TargetNotEmpty,
    shown,
)
from resources.model import DatabaseInfo, Metastore, RetentionPolicyInfo, ShardID
from resources.protocol.influxql import check_continuous_query, quote_identifier
from resources.protocol.meta import decode_metastore, trimmed

OLD_IMPORT_BYTES = 60_000
"""Servers before 1.8 read an import at once: up to here it arrives whole (measured: 95 kB
did over loopback, 160 kB never)."""


DROPS = 4
DROP_SHOWS_S = 0.3
"""How long a DROP DATABASE whose answer was lost may take to show."""
LIMITS_SINCE = (1, 12)
"""The first version that knows write limits."""


def create_database(
    server: Server,
    meta: bytes,
    database: DatabaseRestore,
    version: str,
    ids: dict[ShardID, ShardID],
) -> None:
    """Create one database with its policies and empty shards, and see whether it is as sent.

    Args:
        version: the server's, empty if it does not say.
        ids: takes which shard became which as soon as the server says it, also if it is wrong.

    Raises:
        BadReply: it is there, or something else is, and differs from what was sent.
        TargetNotEmpty: it appeared meanwhile.
        PlanError: its metadata is too large for this server. These two: nothing was changed.
        PeerRefused: with shards: nothing was changed; without: it may be there in part.
        WireError: the server broke off, perhaps after it had created the database.
    """
    if not database.shards:
        _create_empty(server, database, version)
        return require_made(server, server.metastore()[1], meta, database, version, ids)
    only = database.policies[0].name if database.new_policy else None
    payload = _import_of(meta, database)
    if version_tuple(version) < (1, 8) and len(payload) > OLD_IMPORT_BYTES:
        old = f"InfluxDB {version}" if version else "a server that may be older than 1.8"
        raise PlanError(
            f"{len(payload)} bytes of metadata for {shown(database.source.name)} are more than "
            f"{old} takes at once ({OLD_IMPORT_BYTES})",
            hint="restore into InfluxDB 1.8 or later, or part by part: -rp with -newdb, or -shard"
            + ("" if version else "; -http, -user and -pwd-file let the server tell its version"),
        )
    _require_absent(server, database.new_name)
    ids |= server.tcp.import_metastore(
        database.source.name,
        database.new_name,
        only or "",
        database.new_policy,
        payload,
    )
    _, now = server.metastore()
    _check_ids(server, now, database, ids)
    return require_made(server, now, meta, database, version, ids)


def require_made(
    server: Server,
    now: Metastore,
    meta: bytes,
    database: DatabaseRestore,
    version: str,
    ids: Mapping[ShardID, ShardID],
) -> None:
    """Insist that a database is there as a restore makes it.

    Args:
        now: the server's metastore.
        ids: which shard became which.

    Raises:
        BadReply: it is not.
    """
    limits = version_tuple(version) >= LIMITS_SINCE
    if database.shards:
        sent = decode_metastore(_import_of(meta, database))
        expected = imported(sent, database, limits=limits)
    else:
        expected = stated(database, limits=limits)
    require_as_expected(expected, now, ids, server.address)


def ids_there(
    there: DatabaseInfo, meta: bytes, database: DatabaseRestore
) -> dict[ShardID, ShardID] | None:
    """Which shard became which in a database that an import has made, whose answer is lost.

    None if it does not have exactly the shard groups that were sent, or two of them look alike.
    """
    sent = decode_metastore(_import_of(meta, database)).database(database.source.name)
    assert sent is not None  # noqa: S101 - that is what was kept
    wanted = _by_shape(sent, database.new_policy)
    found = _by_shape(there, "")
    if wanted is None or found is None or wanted.keys() != found.keys():
        return None
    return {
        old: new for key, olds in wanted.items() for old, new in zip(olds, found[key], strict=True)
    }


_Shape = tuple[str, int, int, int]


def _by_shape(there: DatabaseInfo, new_policy: str) -> dict[_Shape, list[ShardID]] | None:
    groups = [
        ((new_policy or rp.name, group.start_time_ns, group.end_time_ns, len(group.shards)), group)
        for rp in there.retention_policies
        for group in rp.shard_groups
    ]
    shapes = {key: [shard.id for shard in group.shards] for key, group in groups}
    return shapes if len(shapes) == len(groups) else None


def _import_of(meta: bytes, database: DatabaseRestore) -> bytes:
    return trimmed(
        meta,
        database=database.source.name,
        policies=[rp.name for rp in database.policies],
        shards=[shard.place.shard_id for shard in database.shards],
        durations=database.durations,
    )


def _check_ids(
    server: Server, now: Metastore, database: DatabaseRestore, ids: dict[ShardID, ShardID]
) -> None:
    """A wrong number in the answer would send an archive into somebody else's shard.

    Numbers that are not the database's are forgotten: it is known by its groups then.
    """
    made = {
        place.shard_id: (place.policy, place.group.start_time_ns)
        for place in now.places()
        if place.database == database.new_name
    }
    for shard in database.shards:
        new_id = ids.get(shard.place.shard_id)
        expected = (shard.new_policy, shard.place.group.start_time_ns)
        if new_id is None or made.get(new_id) != expected:
            if made and set(ids.values()) != made.keys():
                ids.clear()
            raise BadReply(
                f"{server.address}: says that shard {shard.place.shard_id} became shard {new_id}, "
                f"which is not in {shown(database.new_name)}.{shown(shard.new_policy)}",
                hint="look at the network and at the server's log, then restore again",
            )


def _require_absent(server: Server, name: str) -> None:
    _, now = server.metastore()
    if now.database(name) is not None:
        raise TargetNotEmpty(
            NOT_EMPTY, hint=f"{server.address} has {shown(name)}; it was created a moment ago"
        )


def _create_empty(server: Server, database: DatabaseRestore, version: str) -> None:
    """A database without shards cannot be imported, so it is created by statements."""
    if server.http is None:
        raise PlanError(
            f"{shown(database.source.name)} is empty and can only be created over HTTP",
            hint="name the server's HTTP address with -http",
        )
    _require_absent(server, database.new_name)
    name = quote_identifier(database.new_name)
    server.http.query(f"CREATE DATABASE {name}", again=True)
    default = database.source.default_retention_policy
    _, now = server.metastore()
    made = now.database(database.new_name)
    if made is None:
        raise server.other_server(f"database {shown(database.new_name)} was created there")
    there = {rp.name for rp in made.retention_policies}
    for rp in database.policies:
        statement = _policy_statement(name, rp, database, there, is_default=rp.name == default)
        if version_tuple(version) >= LIMITS_SINCE:
            statement += _write_limits(rp)
        server.http.query(statement, again=True)
    kept = {database.new_policy or rp.name for rp in database.policies}
    for made_by_server in sorted(there - kept):  # autogen, if it is set to make that
        drop = f"DROP RETENTION POLICY {quote_identifier(made_by_server)} ON {name}"
        server.http.query(drop, again=True)


def _policy_statement(
    name: str,
    rp: RetentionPolicyInfo,
    database: DatabaseRestore,
    there: Collection[str],
    *,
    is_default: bool,
) -> str:
    duration_ns = database.durations.get(rp.name, rp.duration_ns)
    new_name = database.new_policy or rp.name
    verb = "ALTER" if new_name in there else "CREATE"
    replication = f" REPLICATION {max(1, rp.replica_n)}"
    return (
        f"{verb} RETENTION POLICY {quote_identifier(new_name)} ON {name} "
        f"DURATION {influxql_duration(duration_ns)}{replication} "
        f"SHARD DURATION {influxql_duration(rp.shard_group_duration_ns)}"
        + (" DEFAULT" if is_default else "")
    )


def _write_limits(rp: RetentionPolicyInfo) -> str:
    limits = (("FUTURE", rp.future_write_limit_ns), ("PAST", rp.past_write_limit_ns))
    return "".join(f" {word} LIMIT {influxql_duration(ns)}" for word, ns in limits if ns)


def influxql_duration(duration_ns: int) -> str:
    """A duration literal of InfluxQL; 0 means for ever (INF).

    Whole seconds only: the server keeps policies to the second.
    """
    return "INF" if duration_ns == 0 else f"{duration_ns // 1_000_000_000}s"


def run_queries(
    server: Server, database: DatabaseRestore, ids: Mapping[ShardID, ShardID], *, emit: Emit
) -> None:
    """Create continuous queries; one that fails is reported and does not undo the restore.

    Their text comes from a file, so only what is one CREATE CONTINUOUS QUERY is sent.
    """
    for statement in database.continuous_queries:
        try:
            check_continuous_query(statement)
            check_shards(server, database.new_name, ids.values())
            assert server.http is not None  # noqa: S101 - check_shards asked it
            server.http.query(statement, again=True)
        except ShardkeeperError as error:
            emit(
                Warned(
                    f"a continuous query could not be created ({error.what}); run it by hand: "
                    f"{statement}"
                )
            )


def drop_database(server: Server, name: str, ids: Collection[ShardID]) -> None:
    """DROP DATABASE, if it has exactly these shards, and a look whether it is gone.

    Raises:
        UsageError: HTTP leads to another server, or the database is not ours.
        WireError: the server could not be reached or refused.
    """
    for attempt in range(1, DROPS + 1):
        check_shards(server, name, ids)
        assert server.http is not None  # noqa: S101 - check_shards asked it
        try:
            server.http.query(f"DROP DATABASE {quote_identifier(name)}")
        except ConnectionCut:
            if attempt == DROPS:
                raise
            time.sleep(DROP_SHOWS_S)
            if server.metastore()[1].database(name) is None:
                return
            continue  # whether it is still ours is looked at again
        if server.metastore()[1].database(name) is not None:
            raise server.other_server(f"{shown(name)} was dropped there and is still here")
        return


def version_tuple(version: str) -> tuple[int, int]:
    """`1.8.10` → (1, 8); an unknown version counts as the oldest we support."""
    parts = version.lstrip("v").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (1, 5)
