"""A restore into a single server that was killed continues when it is started again.

Its record names what it had created. Nothing is believed of it but what is there: each database
must be the very one that the restore would make, with the shards that the record names; a shard
is passed over if the record says that it was read back and the server's own figures say that it is
still just that, and else it is read. If a database is otherwise, all of it is taken back, and the
restore begins anew. Held by tests/faults/test_goes_on.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.server import Server
from resources.engine.restore.leftovers import shards_of
from resources.engine.restore.plan import DatabaseRestore, RestorePlan
from resources.engine.restore.read_back import SentFile
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.record import ServerJournal
from resources.engine.restore.server_creation import ids_there, require_made
from resources.engine.restore.server_journal import (
    LOCK,
    SUFFIX,
    KeptJournal,
    left_journals,
    raw_journal,
)
from resources.engine.restore.step_run import close_records, proofs_left
from resources.errors import BadReply, RepositoryLocked, StoreFailed, WireError
from resources.model import Metastore, ShardID
from resources.protocol.server_vars import ServerVars, ShardStats
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import Store


class Unfinished(Struct, frozen=True):
    """What a killed run has left, and the one that goes on finds there.

    Attributes:
        kept: its record, under lock.
        plan: what both restore.
        ids: of each database that is there, which shard became which.
        reported: what the server told of itself a moment ago, or nothing.
    """

    kept: KeptJournal
    plan: RestorePlan
    ids: Mapping[str, Mapping[ShardID, ShardID]]
    reported: ServerVars | None

    @property
    def shard_ids(self) -> frozenset[ShardID]:
        return frozenset(new for ids in self.ids.values() for new in ids.values())


def left_over(stack: ExitStack, server: Server, store: Store) -> list[KeptJournal]:
    """The records of killed runs that may be gone on with; their locks are held until the end.

    Raises:
        WireError: the server does not answer.
        ManifestUnreadable: a record is damaged.
    """
    found: list[KeptJournal] = []
    for name in left_journals(store, server.metastore()[1].cluster_id):
        try:
            lock = StoreLock.acquire(
                store, command="restore", name=name.removesuffix(SUFFIX) + LOCK
            )
        except (RepositoryLocked, StoreFailed):
            continue  # it is at work, or nothing can be written here
        stack.enter_context(lock)
        proofs = proofs_left(store, lock.stale)
        close_records(store, lock.stale)
        raw = raw_journal(store, name)
        journal = ServerJournal.decode(raw, name) if raw is not None else None
        if raw is None or journal is None or journal.complete or journal.taken_back:
            continue
        if journal.plan and journal.databases:
            found.append(KeptJournal(name, raw, _with_proofs(journal, proofs), lock))
    return found


def _with_proofs(
    journal: ServerJournal, proofs: Mapping[ShardID, Sequence[Receipt]]
) -> ServerJournal:
    """A record with what other steps of its run have proved, which they do not write there."""
    started_ns = journal.server_started_ns
    if started_ns is None:
        return journal
    proved = {
        shard_id: started_ns
        for shard_id, receipts in proofs.items()
        if receipts and all(receipt.how == "identical" for receipt in receipts)
    }
    return replace(journal, proved={**proved, **journal.proved})


def what_is_there(
    server: Server, kept: KeptJournal, plan: RestorePlan, version: str
) -> Unfinished | None:
    """What of a plan is there, as the record says; None if anything is otherwise.

    Raises:
        WireError: a node does not answer, or refuses.
    """
    _, now = server.metastore()
    databases = kept.journal.databases
    if not databases.keys() <= {database.name for database in plan.databases}:
        return None
    ids: dict[str, Mapping[ShardID, ShardID]] = {}
    for database in plan.databases:
        found = _ids(server, kept.journal, now, plan.meta, database, version)
        if found is None:
            return None
        if now.database(database.name) is not None:
            ids[database.name] = found
    unfinished = Unfinished(kept, plan, ids, reported(server))
    return None if _was_written_to(unfinished) else unfinished


def reported(server: Server) -> ServerVars | None:
    """When the server began to count what is written, and its figures; None if it does not say."""
    try:
        return None if server.http is None else server.http.server_vars()
    except WireError:
        return None


def _was_written_to(unfinished: Unfinished) -> bool:
    """Whether the server has counted points of others, in the life that it made the shards in."""
    now = unfinished.reported
    if now is None or now.started_ns != unfinished.kept.journal.server_started_ns:
        return False  # each shard is read
    shards = (now.shards.get(shard_id) for shard_id in unfinished.shard_ids)
    return any(stats is not None and stats.write_points_ok for stats in shards)


def _ids(
    server: Server,
    journal: ServerJournal,
    now: Metastore,
    meta: bytes,
    database: DatabaseRestore,
    version: str,
) -> Mapping[ShardID, ShardID] | None:
    """Nothing if the database is still to be made; None if it is not what the record says."""
    made, there = journal.databases.get(database.name), now.database(database.name)
    if made is None or there is None:
        gone = made is not None and made.ids
        return {} if there is None and not gone else None
    ids = made.ids if made.shards else ids_there(there, meta, database) if database.shards else {}
    if ids is None or set(ids.values()) != shards_of(there):
        return None
    try:
        if not set(ids.values()) <= server.shards_on_disk():
            return None  # the server is still at work on it
        require_made(server, now, meta, database, version, ids)
    except BadReply:
        return None
    return ids


def untouched(
    now: ServerVars | None,
    journal: ServerJournal,
    files: Mapping[ShardID, Collection[SentFile]],
) -> frozenset[ShardID]:
    """Shards that the killed run read back and that certainly have not changed since.

    The server has not restarted, and its figures show that no client has written to them, that
    nothing of them is in memory or in the log, and that their files are as many and as large.

    Args:
        now: what the server tells, or nothing.
        files: what each is to hold.
    """
    if now is None:
        return frozenset()
    return frozenset(
        shard_id
        for shard_id, wanted in files.items()
        if wanted
        and now.started_ns is not None
        and journal.proved.get(shard_id) == now.started_ns
        and (stats := now.shards.get(shard_id)) is not None
        and _is_at_rest(stats)
        and stats.num_files == len(wanted)
        and stats.disk_bytes == sum(file.size_bytes for file in wanted)
    )


def still_empty(
    now: ServerVars | None, journal: ServerJournal, shard_ids: Collection[ShardID]
) -> frozenset[ShardID]:
    """Shards that nothing has come into, as the server tells in the life that it made them in."""
    if now is None or now.started_ns is None or now.started_ns != journal.server_started_ns:
        return frozenset()
    return frozenset(
        shard_id
        for shard_id in shard_ids
        if (stats := now.shards.get(shard_id)) is not None
        and _is_at_rest(stats)
        and not stats.num_files
        and not stats.disk_bytes
    )


def _is_at_rest(stats: ShardStats) -> bool:
    cache = stats.cache
    return (
        cache is not None
        and not cache.memory_bytes
        and not cache.is_snapshotting
        and not stats.write_points_ok
        and not stats.wal_writes
        and not stats.wal_bytes
    )
