"""Create the databases of a restore on a single server, or find those that a killed run created."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from msgspec.structs import replace

from resources.clients.server import Server
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.leftovers import shape
from resources.engine.restore.made import imported, require_as_expected, stated
from resources.engine.restore.plan import NOT_EMPTY_SERVER, DatabaseRestore
from resources.engine.restore.record import CreatedDatabase
from resources.engine.restore.rollback import POLL_S, SETTLED_WITHIN_S
from resources.engine.restore.server_databases import LIMITS_SINCE, version_tuple
from resources.engine.restore.server_journal import JournalWriter
from resources.errors import (
    BadReply,
    ConnectionCut,
    DatabaseExists,
    LockLost,
    PeerClosedEarly,
    PeerRefused,
    PlanError,
    TargetNotEmpty,
    WireError,
    shown,
)
from resources.model import DatabaseInfo, Metastore, RetentionPolicyInfo, ShardID
from resources.protocol.influxql import quote_identifier
from resources.protocol.meta import decode_metastore, trimmed
from resources.repository.formats.details import FileID
from resources.runtime.failpoints import passing

OLD_IMPORT_BYTES = 60_000
"""Servers before 1.8 read an import at once: up to here it arrives whole (measured: 95 kB
did over loopback, 160 kB never)."""
IMPORTS = 4
"""How often a database is sent, while the connection is cut before the answer."""


class ServerCreation:
    """Creates the databases of a plan, each on record before it may be on the server.

    Args:
        version: the server's, empty if it does not say.
        there: what a killed run has created, which is not created again: by database, which shard
            became which.

    Attributes:
        created: which shard became which, of each database that is there, or may be.
    """

    def __init__(
        self,
        server: Server,
        checked: CheckedRestore,
        version: str,
        journal: JournalWriter,
        there: Mapping[str, Mapping[ShardID, ShardID]],
    ) -> None:
        self.created: list[tuple[DatabaseRestore, dict[ShardID, ShardID]]] = []
        self._server = server
        self._plan = checked.plan
        self._version = version
        self._contents = checked.contents
        self._journal = journal
        self._there = there
        self._sent = ""
        """The database that was sent last, or is about to be."""

    def make(self) -> dict[ShardID, ShardID]:
        """Which shard became which."""
        for database in self._plan.databases:
            self._create(database)
            passing("restore.after-metadata")
        return self.ids

    @property
    def ids(self) -> dict[ShardID, ShardID]:
        """Which shard became which, of all databases."""
        return {old: new for _, ids in self.created for old, new in ids.items()}

    def _create(self, database: DatabaseRestore) -> None:
        groups = sorted({(s.policy, *shape(s.place.group)) for s in database.shards})
        made = CreatedDatabase(tuple(groups), None if database.shards else {})
        ids: dict[ShardID, ShardID] = {}
        self._journal.add(database.name, made)
        self.created.append((database, ids))
        try:
            self._journal.check_still_ours()
            if database.name in self._there:
                ids |= self._there[database.name]
            else:
                self._import(database, ids)
        except (LockLost, PlanError, PeerRefused) as error:
            if not isinstance(error, PeerRefused) or database.shards:
                self.created.pop()  # nothing was changed; a database that has the name now stays
                self._journal.forget(database.name)
            raise
        except BaseException:
            if not ids and self._sent != database.name:  # as by a signal
                self.created.pop()
                self._journal.forget(database.name)
            raise
        finally:
            if ids:  # as the server said, even if what it made is not what was sent
                files = {
                    new: frozenset(f.id for f in self._contents[old].files)
                    if old in self._contents
                    else frozenset[FileID]()
                    for old, new in ids.items()
                }
                self._journal.add(database.name, replace(made, shards=files, ids=ids))

    def _import(self, database: DatabaseRestore, ids: dict[ShardID, ShardID]) -> None:
        """Create it; an answer that is lost is found in what is there, and else it is sent again.

        Raises:
            ShardkeeperError: as `create_database`.
        """
        lost: WireError | None = None
        self._sent = database.name
        for attempt in range(1, IMPORTS + 1):
            try:
                create_database(self._server, self._plan.meta, database, self._version, ids)
                return
            except (ConnectionCut, PeerClosedEarly) as error:
                if ids or not database.shards or attempt == IMPORTS:
                    raise
                lost = error
            except (PeerRefused, TargetNotEmpty):
                if lost is None:
                    raise  # what is there was not sent by us
            found = self._made(database)
            if found is not None:
                ids |= found
                return
        assert lost is not None  # noqa: S101 - else it has returned or raised
        raise lost

    def _made(self, database: DatabaseRestore) -> Mapping[ShardID, ShardID] | None:
        """Which shards an import has made whose answer was lost; None if it has made none."""
        until = time.monotonic() + SETTLED_WITHIN_S
        while time.monotonic() < until:
            _, now = self._server.metastore()
            there = now.database(database.name)
            if there is not None:
                ids = ids_there(there, self._plan.meta, database)
                if ids is None or self._journal.is_anothers(there.name, ids.values()):
                    return None
                if set(ids.values()) <= self._server.shards_on_disk():
                    require_made(self._server, now, self._plan.meta, database, self._version, ids)
                    return ids
                until = time.monotonic() + SETTLED_WITHIN_S  # it is at work
            time.sleep(POLL_S)
        return None


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
    _require_absent(server, database.name)
    ids |= server.tcp.import_metastore(
        database.source.name,
        database.name,
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
    """The new numbers of shards in a database that an import created, when its answer was lost.

    None if it does not have exactly the shard groups that were sent, or two of them are the same.
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
    """A wrong number in the answer would send an archive into another database's shard.

    Numbers that are not the database's are forgotten: it is known by its groups then.
    """
    made = {
        place.shard_id: (place.policy, place.group.start_time_ns)
        for place in now.places()
        if place.database == database.name
    }
    for shard in database.shards:
        new_id = ids.get(shard.place.shard_id)
        expected = (shard.policy, shard.place.group.start_time_ns)
        if new_id is None or made.get(new_id) != expected:
            if made and set(ids.values()) != made.keys():
                ids.clear()
            raise BadReply(
                f"{server.address}: says that shard {shard.place.shard_id} became shard {new_id}, "
                f"which is not in {shown(database.name)}.{shown(shard.policy)}",
                hint="look at the network and at the server's log, then restore again",
            )


def _require_absent(server: Server, name: str) -> None:
    _, now = server.metastore()
    if now.database(name) is not None:
        raise DatabaseExists(
            NOT_EMPTY_SERVER,
            hint=f"{server.address} has {shown(name)}; it was created a moment ago",
        )


def _create_empty(server: Server, database: DatabaseRestore, version: str) -> None:
    """A database without shards cannot be imported, so it is created by statements."""
    if server.http is None:
        raise PlanError(
            f"{shown(database.source.name)} is empty and can only be created over HTTP",
            hint="name the server's HTTP address with -http",
        )
    _require_absent(server, database.name)
    name = quote_identifier(database.name)
    server.http.query(f"CREATE DATABASE {name}", again=True)
    default = database.source.default_retention_policy
    _, now = server.metastore()
    made = now.database(database.name)
    if made is None:
        raise server.other_server(f"database {shown(database.name)} was created there")
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
    policy = database.new_policy or rp.name
    verb = "ALTER" if policy in there else "CREATE"
    replication = f" REPLICATION {max(1, rp.replica_n)}"
    return (
        f"{verb} RETENTION POLICY {quote_identifier(policy)} ON {name} "
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
