"""What a killed restore left on a single server, dealt with before the next one begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from resources.clients.server import Server
from resources.engine.events import Emit, RolledBack, Warned
from resources.engine.lock_events import emit_waiting
from resources.engine.restore.read_back import files_there
from resources.engine.restore.record import CreatedDatabase, ServerJournal
from resources.engine.restore.server_databases import drop_database
from resources.engine.restore.server_journal import (
    LOCK,
    SUFFIX,
    claim_journal,
    close_stage,
    is_on_record_beside,
    key_of,
    left_names,
)
from resources.engine.restore.step_run import close_records
from resources.errors import LockLost, RepositoryLocked, ShardkeeperError, StoreFailed, shown
from resources.model import DatabaseInfo, ShardGroupInfo, ShardID
from resources.protocol.influxql import quote_identifier
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import Store


def take_back_interrupted(server: Server, repository: BackupRepository, *, emit: Emit) -> None:
    """Take away what killed restores from this repository left on this server.

    One that is at work is left alone. What cannot be taken away is said, and stays on record.

    Raises:
        WireError: the server could not be asked.
        ManifestUnreadable: a record cannot be read.
        LockLost: this run stood still meanwhile, and another one took its place in this.
    """
    store = repository.store
    for name in left_names(store, server.metastore()[1].cluster_id):
        try:
            lock = StoreLock.acquire(
                store,
                command="restore",
                name=name.removesuffix(SUFFIX) + LOCK,
                on_wait=emit_waiting(emit),
            )
        except (RepositoryLocked, StoreFailed):
            continue  # it is at work, or nothing can be written here
        with lock:  # whose file goes with it, also where no record was written beside it
            close_records(store, lock.stale)
            journal = claim_journal(store, name)
            if journal is not None and _is_dealt_with(server, store, name, journal, lock, emit):
                lock.check_still_mine()
                store.delete(name)
                close_stage(store, key_of(name))


def _is_dealt_with(
    server: Server, store: Store, record: str, journal: ServerJournal, lock: StoreLock, emit: Emit
) -> bool:
    """Whether nothing of it is left, or nothing that is a left-over."""
    done, dropped = True, list[str]()
    for name, made in journal.databases.items():
        _, now = server.metastore()
        there = now.database(name)
        if there is None or not _is_ours(there, made):
            continue
        if journal.complete:
            emit(Warned(f"an earlier restore of {shown(name)} was complete when it was killed"))
            continue
        try:
            sent = made.shards
            if sent is None:  # it was killed before it sent anything
                why = whose_else(server, store, record, journal, there)
                if why:
                    emit(Warned(describe_anothers(name, why)))
                    continue
                sent = dict.fromkeys(shards_of(there), frozenset[FileID]())
            why = holds_more(server, journal.server_started_ns, sent)
            if not why:
                lock.check_still_mine()
                drop_database(server, name, shards_of(there))
                dropped.append(name)
                continue
        except LockLost:
            raise
        except ShardkeeperError as failure:
            why = failure.what
        done = False
        emit(
            Warned(
                f"database {shown(name)} was left by a restore that was killed, and is not "
                f"complete; it stays: {why}; look at it, then run DROP DATABASE "
                f"{quote_identifier(name)}, or bring the rest in with shardkeeper merge"
            )
        )
    if dropped:
        emit(
            Warned(
                "an earlier restore from this directory was killed; "
                "what it created is removed first"
            )
        )
        emit(RolledBack(tuple(dropped)))
    return done


def whose_else(
    server: Server, store: Store | None, record: str, journal: ServerJournal, there: DatabaseInfo
) -> str:
    """Why a database may be another restore's, though it looks as the one that was asked for.

    Of a restore that does not know which shards it was given nothing is in them.

    Args:
        record: the name of its own record.

    Raises:
        WireError: a node does not answer, or refuses.
    """
    shards = shards_of(there)
    if store is not None and is_on_record_beside(
        store, record, journal.cluster_id, there.name, shards
    ):
        return "another restore has made it"
    if server.http is None:
        filled = [shard_id for shard_id in sorted(shards) if files_there(server, shard_id)]
    else:
        stats = server.http.server_vars().shards
        filled = [
            shard_id
            for shard_id in sorted(shards & stats.keys())
            if stats[shard_id].num_files or stats[shard_id].write_points_ok
        ]
    return f"shard {filled[0]} holds points that it has not sent" if filled else ""


def describe_anothers(name: str, why: str) -> str:
    return (
        f"a restore that did not end was about to create database {shown(name)}, and one of that "
        f"name is there: {why}, so it is left there"
    )


def holds_more(
    server: Server, started_ns: int | None, sent: Mapping[ShardID, Collection[FileID]]
) -> str:
    """Why shards may hold points that were not sent to them; empty if they do not.

    A server counts what is written to each shard, and begins anew when it starts. If it has
    been started since, the files are looked at.

    Args:
        started_ns: when the server had started, as it said before they were created.
        sent: the files that were sent to each shard, or were going to be.

    Raises:
        WireError: a node does not answer, or refuses.
    """
    if server.http is not None:
        now = server.http.server_vars()
        if started_ns is not None and now.started_ns == started_ns:
            written = [i for i in sent if (s := now.shards.get(i)) and s.write_points_ok]
            return f"points were written to shard {written[0]} since" if written else ""
    for shard_id, files in sent.items():
        if {file.id for file in files_there(server, shard_id)} - set(files):
            return f"shard {shard_id} holds files that were not sent, or were rewritten since"
    return ""


def _is_ours(there: DatabaseInfo, made: CreatedDatabase) -> bool:
    if made.shards is not None:
        return shards_of(there) <= set(made.shards)
    policies = there.retention_policies
    return {(rp.name, *shape(g)) for rp in policies for g in rp.shard_groups} == set(made.groups)


def shards_of(there: DatabaseInfo) -> set[ShardID]:
    """Those of deleted groups too."""
    groups = (g for rp in there.retention_policies for g in rp.shard_groups)
    return {shard.id for g in groups for shard in g.shards}


def shape(group: ShardGroupInfo) -> tuple[int, int, int]:
    """What tells a shard group from others before its number is known."""
    return group.start_time_ns, group.end_time_ns, len(group.shards)
