"""Undo a restore into a cluster: take away what its journal names, and only that."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from resources.clients.cluster import Cluster
from resources.engine.cluster.metastore_reading import confirmed_reading, databases_of, nodes_of
from resources.engine.cluster.own_shards import more_than_sent, not_ours, shards_of
from resources.engine.cluster.restore_journal import Journal, JournalFile
from resources.engine.events import PROGRESS_EVERY_S, Emit, OwnersGiven, RolledBack, Run, Warned
from resources.engine.restore.lease import holding_lease
from resources.engine.restore.target import NotOurs
from resources.errors import (
    PeerRefused,
    PeerUnreachable,
    PlanError,
    RestoreFailed,
    UnknownOutcome,
    WireError,
    shown,
)
from resources.model import Metastore, NodeID, ShardID
from resources.protocol.commands import Command, CopyShardOwner, DropDatabase
from resources.repository.repository import BackupRepository
from resources.runtime.failpoints import passing
from resources.runtime.workers import running

ATTEMPTS = 8
PAUSE_S = 1.0
COMMANDS_AT_ONCE = 4


class Undone(Struct, frozen=True):
    """What is gone again, and what is not.

    Attributes:
        dropped: databases.
        left: databases that stay, and why: another client has changed them, or may have.
        kept: copies that stay on their nodes though no database has them any more, and why.
        unreached: which copies data nodes may still have, and why, in a sentence each.
    """

    dropped: tuple[str, ...]
    left: Mapping[str, NotOurs]
    kept: tuple[str, ...]
    unreached: tuple[str, ...]

    @property
    def unsure(self) -> list[str]:
        """What another run may find out."""
        doubts = [
            f"database {shown(name)}: {why.why}" for name, why in self.left.items() if not why.known
        ]
        return [*doubts, *self.unreached]

    def notes(self) -> list[str]:
        """One sentence for each thing that stays."""
        return [
            *(
                f"database {shown(name)} was created by a restore that did not end, and is left "
                f"there: {why.why}; what is missing in it shardkeeper merge can bring"
                for name, why in self.left.items()
            ),
            *map(describe_kept, self.kept),
            *self.unreached,
        ]


def describe_kept(why: str) -> str:
    return (
        f"{why}, so it is left there although no database has it any more; influxd backup -host "
        "of that node with -shard saves its points"
    )


def undo(cluster: Cluster, journal: Journal) -> Undone:
    """Drop the databases of a journal from the metastore, then its shards from the nodes.

    A database stays if anything in it may be another client's; a shard stays if the metastore
    knows it afterwards, or if it holds more than was sent.

    Raises:
        WireError: the meta nodes could not be asked.
    """
    now = confirmed_reading(cluster, about=databases_of(journal.databases)).metastore
    dropped: list[str] = []
    left: dict[str, NotOurs] = {}
    reached = 0
    for name in journal.databases:
        there = now.database(name)
        if there is None:
            continue
        why = not_ours(cluster, now, there, journal)
        if why is not None:
            left[name] = why
            continue
        reached = persistently(cluster, DropDatabase(name))
        dropped.append(name)
    passing("cluster.mid-rollback")
    kept, unreached = _clear(cluster, journal, at_least=reached)
    return Undone(tuple(dropped), left, tuple(kept), tuple(unreached))


def _clear(cluster: Cluster, journal: Journal, *, at_least: int = 0) -> tuple[list[str], list[str]]:
    """Remove copies that no database has any more; returns why some stay, and who is not reached.

    Raises:
        WireError: the meta nodes could not be asked.
    """

    def about(metastore: Metastore) -> object:
        return nodes_of(metastore), _known(metastore) & journal.copies.keys()

    now = confirmed_reading(cluster, about=about, at_least=at_least).metastore
    members = {node.tcp_addr for node in now.data_nodes}
    kept: list[str] = []
    unreached: list[str] = []
    for node in sorted({node for nodes in journal.copies.values() for node in nodes} & members):
        here = {shard_id for shard_id, nodes in journal.copies.items() if node in nodes}
        ids = here - _known(now)
        try:
            kept += _remove(cluster, node, ids, journal)
        except WireError as error:
            numbers = ", ".join(map(str, sorted(ids)[:10])) + (" …" if len(ids) > 10 else "")
            unreached.append(f"copies of shards {numbers} may be left: {error.what}")
    return kept, unreached


def _known(metastore: Metastore) -> set[ShardID]:
    return {shard for database in metastore.databases for shard in shards_of(database)}


def _remove(cluster: Cluster, node: str, ids: Collection[ShardID], journal: Journal) -> list[str]:
    """Returns why some stay: clients have written to them since the database was checked."""
    client = cluster.coordinator(node)
    had_owners = journal.by_command or journal.proved is not False
    kept: dict[ShardID, str] = {}
    for shard_id in sorted(client.list_shards().keys() & ids):
        more = None
        if had_owners:
            more = more_than_sent(cluster, node, shard_id, journal.sent.get(shard_id, ()))
        if more is not None:
            kept[shard_id] = more.why
            continue
        client.remove_shard(shard_id)
    still = sorted((client.list_shards().keys() & ids) - kept.keys())
    if still:
        raise PeerRefused(f"{node}: still has shard {still[0]} after it was removed")
    return list(kept.values())


def undo_interrupted(cluster: Cluster, repository: BackupRepository, run: Run) -> None:
    """Deal with what a killed restore from this repository left in this cluster.

    If every copy was proved, this finishes the restore. Otherwise this removes what the restore
    created, except what another client has changed.

    Raises:
        RestoreFailed: it is not done yet; a node may be down.
        TargetBusy: that restore is still at work.
        WireError, RepositoryError: a node or the repository failed.
    """
    cluster_id = confirmed_reading(cluster, about=nodes_of).metastore.cluster_id
    file = JournalFile(repository.store, cluster_id)
    if file.read() is None:
        return
    with holding_lease(cluster.meta, repository.store, run):
        journal = file.read()
        if journal is None:
            return
        now = confirmed_reading(cluster, about=databases_of(journal.databases)).metastore
        if journal.proved or (journal.proved is None and _activated(now, journal)):
            _finish(cluster, journal, now, run.emit)
        else:
            take_away(cluster, journal, run.emit)
        file.remove()


def take_away(cluster: Cluster, journal: Journal, emit: Emit) -> None:
    """Remove what a killed run created, except what another client has changed.

    Raises:
        RestoreFailed: a node may be down.
        WireError: a node does not answer, or refuses.
    """
    emit(
        Warned(
            "an earlier restore from this directory was not finished; what it created is removed "
            "first"
        )
    )
    undone = undo(cluster, journal)
    for text in undone.notes():
        emit(Warned(text))
    if undone.dropped:
        emit(RolledBack(undone.dropped))
    if undone.unsure:
        raise RestoreFailed(
            f"an interrupted restore is not undone yet: {undone.unsure[0]}",
            hint="start that data node, then run restore again",
        )


def _activated(now: Metastore, journal: Journal) -> bool:
    """Of a record that does not say whether every copy was proved."""
    return not journal.by_command and any(
        place.shard.owners for place in now.places() if place.shard_id in journal.copies
    )


def _finish(cluster: Cluster, journal: Journal, now: Metastore, emit: Emit) -> None:
    node_ids = {node.tcp_addr: node.id for node in now.data_nodes}
    places = [
        place
        for place in now.places()
        if place.shard_id in journal.databases.get(place.database, ())
    ]
    if not journal.by_command:
        owners = [
            (place.shard_id, node_ids[node])
            for place in places
            for node in journal.copies.get(place.shard_id, ())
            if node in node_ids
        ]
        give_owners(cluster, owners, emit=emit)
    inventory = cluster.inventory(now)
    for error in inventory.silent.values():
        raise RestoreFailed(
            f"an interrupted restore is not finished yet: {error.what}",
            hint="start that data node, then run restore again",
        )
    for place in places:
        there = {copy.node for copy in inventory.copies.get(place.shard_id, ())}
        for node in sorted(set(journal.copies.get(place.shard_id, ())) & node_ids.keys() - there):
            emit(
                Warned(
                    f"shard {place.shard_id} of database {shown(place.database)} is not on {node} "
                    "any more, which owns it; influxd-ctl copy-shard brings it from another owner"
                )
            )
    gone = {name for name, ids in journal.databases.items() if ids}
    gone -= {place.database for place in places}
    if gone:
        kept, _ = _clear(cluster, journal)
        for why in kept:
            emit(Warned(describe_kept(why)))
    for name in journal.databases:
        outcome = "it is complete now, but for continuous queries"
        if name in gone:
            outcome = "it is not there any more, since it was dropped"
        emit(
            Warned(
                f"an earlier restore of {shown(name)} was killed when all its shards were there; "
                f"{outcome}"
            )
        )


def give_owners(cluster: Cluster, owners: Sequence[tuple[ShardID, NodeID]], *, emit: Emit) -> None:
    """Make nodes owners of shards; those that are already stay so.

    Each takes the meta nodes a round through their log, which they make for several at once.

    Raises:
        WireError: one of them could not be made so; of the others some were.
    """
    stop = threading.Event()

    def give(owner: tuple[ShardID, NodeID]) -> None:
        persistently(cluster, CopyShardOwner(*owner), stop)
        passing("cluster.mid-adoption")

    work = running(
        give,
        owners,
        parallel=COMMANDS_AT_ONCE,
        name="adopt",
        every_s=PROGRESS_EVERY_S,
        give_up=stop.set,
    )
    done, reported_at = 0, time.monotonic()
    with work as ended:
        for one in ended:
            if one is not None:
                one[1].result()
                done += 1
            if time.monotonic() - reported_at >= PROGRESS_EVERY_S:
                emit(OwnersGiven(done, len(owners)))
                reported_at = time.monotonic()


def persistently(cluster: Cluster, command: Command, stop: threading.Event | None = None) -> int:
    """Have a command applied that does no harm twice, through a change of the leader too.

    Args:
        stop: set when the caller has gone; then there is no further attempt.

    Raises:
        WireError: it did not work out in the end.
    """
    stop = stop or threading.Event()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return cluster.meta.execute(command)
        except (PeerUnreachable, UnknownOutcome):
            if attempt == ATTEMPTS or stop.wait(PAUSE_S):
                raise
    raise PlanError("no attempt was allowed")
