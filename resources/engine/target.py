"""What a restore does to the metastore of a single server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from resources.clients.server import Server
from resources.engine.events import Tell, Warned
from resources.engine.restore_plan import NOT_EMPTY, DatabaseRestore
from resources.errors import (
    BadReply,
    PeerRefused,
    PlanError,
    ShardkeeperError,
    TargetNotEmpty,
    WireError,
    shown,
)
from resources.model import RetentionPolicyInfo, ShardID
from resources.protocol.influxql import quote_identifier
from resources.protocol.meta import trimmed

OLD_IMPORT_BYTES = 60_000
"""Servers before 1.8 read an import at once: up to here it arrives whole (measured: 95 kB
did over loopback, 160 kB never)."""


def create_database(
    server: Server, meta: bytes, database: DatabaseRestore
) -> dict[ShardID, ShardID]:
    """Create one database with its policies and empty shards; says which shard became which.

    Raises:
        TargetNotEmpty: it appeared meanwhile.
        PlanError: its metadata is too large for this server. These two: nothing was changed.
        PeerRefused: with shards: nothing was changed; without: it may be there in part.
        WireError: the server broke off, perhaps after it had created the database.
    """
    if not database.shards:
        _create_empty(server, database)
        return {}
    facts, _ = server.facts()
    version = version_tuple(facts.version)
    only = database.policies[0].name if database.new_policy else None
    payload = trimmed(
        meta,
        database=database.source.name,
        policies=[rp.name for rp in database.policies],
        shards=[shard.place.shard_id for shard in database.shards],
        durations=database.durations,
        keep_write_limits=version >= (1, 12),
    )
    if version < (1, 8) and len(payload) > OLD_IMPORT_BYTES:
        raise PlanError(
            f"{len(payload)} bytes of metadata for {shown(database.source.name)} are more than "
            f"InfluxDB {facts.version or 'before 1.8'} takes at once ({OLD_IMPORT_BYTES})",
            hint="restore policy by policy (-rp with -newdb), or into InfluxDB 1.8 or later",
        )
    _refuse_if_there(server, database.new_name)
    ids = server.tcp.import_metastore(
        database.source.name,
        database.new_name,
        only or "",
        database.new_policy,
        payload,
    )
    _check_ids(server, database, ids)
    return ids


def _check_ids(server: Server, database: DatabaseRestore, ids: Mapping[ShardID, ShardID]) -> None:
    """A wrong number in the answer would send an archive into somebody else's shard."""
    _, now = server.metastore()
    made = {
        place.shard_id: (place.policy, place.group.start_time_ns)
        for place in now.places()
        if place.database == database.new_name
    }
    for shard in database.shards:
        new_id = ids.get(shard.place.shard_id)
        expected = (shard.new_policy, shard.place.group.start_time_ns)
        if new_id is None or made.get(new_id) != expected:
            raise BadReply(
                f"{server.address}: says that shard {shard.place.shard_id} became shard {new_id}, "
                f"which is not in {shown(database.new_name)}.{shown(shard.new_policy)}",
                hint="look at the network and at the server's log, then restore again",
            )


def _refuse_if_there(server: Server, name: str) -> None:
    _, now = server.metastore()
    if now.database(name) is not None:
        raise TargetNotEmpty(
            NOT_EMPTY, hint=f"{server.address} has {shown(name)}; it was created a moment ago"
        )


def _create_empty(server: Server, database: DatabaseRestore) -> None:
    """A database without shards cannot be imported, so it is created by statements."""
    if server.http is None:
        raise PlanError(
            f"{shown(database.source.name)} is empty and can only be created over HTTP",
            hint="name the server's HTTP address with -http",
        )
    _refuse_if_there(server, database.new_name)
    name = quote_identifier(database.new_name)
    server.http.query(f"CREATE DATABASE {name}")
    default = database.source.default_retention_policy
    _, now = server.metastore()
    made = now.database(database.new_name)
    there = {rp.name for rp in made.retention_policies} if made else set[str]()
    for rp in database.policies:
        statement = _policy_statement(name, rp, database, there, is_default=rp.name == default)
        server.http.query(statement)
    kept = {database.new_policy or rp.name for rp in database.policies}
    for made_by_server in sorted(there - kept):  # autogen, if it is set to make that
        server.http.query(f"DROP RETENTION POLICY {quote_identifier(made_by_server)} ON {name}")


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


def influxql_duration(duration_ns: int) -> str:
    """A duration literal of InfluxQL; 0 means for ever (INF).

    Whole seconds only: the server keeps policies to the second.
    """
    return "INF" if duration_ns == 0 else f"{duration_ns // 1_000_000_000}s"


def run_queries(server: Server, statements: Iterable[str], *, tell: Tell) -> None:
    """Create continuous queries; one that fails is reported and does not undo the restore."""
    for statement in statements:
        try:
            if server.http is None:
                raise PeerRefused("no HTTP address is known")
            server.http.query(statement)
        except ShardkeeperError as error:
            tell(
                Warned(
                    f"a continuous query could not be created ({error.what}); run it by hand: "
                    f"{statement}"
                )
            )


def drop_database(server: Server, name: str) -> None:
    """DROP DATABASE.

    Raises:
        WireError: the server could not be reached or refused.
    """
    if server.http is None:
        raise WireError("no HTTP address is known", hint="name it with -http")
    server.http.query(f"DROP DATABASE {quote_identifier(name)}")


def version_tuple(version: str) -> tuple[int, int]:
    """`1.8.10` → (1, 8); an unknown version counts as the oldest we support."""
    parts = version.lstrip("v").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (1, 5)
