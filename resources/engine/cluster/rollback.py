"""Undo a restore into a cluster: take away what its journal names, and only that."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from resources.clients.cluster import Cluster
from resources.engine.cluster.journal import Journal, JournalFile
from resources.engine.events import PROGRESS_EVERY_S, OwnersGiven, RolledBack, Tell, Warned
from resources.engine.restore.lease import holding_lease
from resources.engine.threads import running
from resources.errors import (
    PeerRefused,
    PeerUnreachable,
    PlanError,
    RestoreFailed,
    UnknownOutcome,
    WireError,
    shown,
)
from resources.failpoints import passing
from resources.model import DatabaseInfo, Metastore, NodeID, ShardID
from resources.protocol.commands import Command, CopyShardOwner, DropDatabase
from resources.repository.repository import BackupRepository

ATTEMPTS = 8
PAUSE_S = 1.0
COMMANDS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Undone:
    """What is gone again, and what is not.

    Attributes:
        dropped: databases.
        foreign: databases that are left, because somebody else has made shards in them.
        unreached: data nodes that may still have copies, and why.
    """

    dropped: tuple[str, ...]
    foreign: tuple[str, ...]
    unreached: tuple[str, ...]

    def left(self) -> list[str]:
        """One sentence for each thing that stays."""
        return [
            *(
                f"database {shown(name)} was created and is left there: it holds shards that are "
                "not ours; look at it, then drop it"
                for name in self.foreign
            ),
            *(f"copies of restored shards may be left: {why}" for why in self.unreached),
        ]


def undo(cluster: Cluster, journal: Journal) -> Undone:
    """Drop the databases of a journal from the metastore, then its shards from the nodes.

    A database stays if any shard in it is not the journal's; a shard stays if the metastore
    knows it afterwards.

    Raises:
        WireError: the meta nodes could not be asked.
    """
    _, now = cluster.metastore()
    dropped: list[str] = []
    foreign: list[str] = []
    for name, ids in journal.databases.items():
        there = now.database(name)
        if there is None:
            continue
        if journal.by_command and not ids:
            ours = _is_without_data(cluster, now, there)
        else:
            ours = _ours(there, ids)
        if not ours:
            foreign.append(name)
            continue
        persistently(cluster, DropDatabase(name))
        dropped.append(name)
    passing("cluster.mid-rollback")
    _, after = cluster.metastore()
    known = {shard for database in after.databases for shard in shards_of(database)}
    members = {node.tcp_addr for node in after.data_nodes}
    unreached: list[str] = []
    for node in sorted({node for nodes in journal.copies.values() for node in nodes} & members):
        here = {shard_id for shard_id, nodes in journal.copies.items() if node in nodes}
        try:
            _remove(cluster, node, here - known)
        except WireError as error:
            unreached.append(error.what)
    return Undone(tuple(dropped), tuple(foreign), tuple(unreached))


def _remove(cluster: Cluster, node: str, ids: Collection[ShardID]) -> None:
    client = cluster.coordinator(node)
    for shard_id in sorted(client.list_shards().keys() & ids):
        client.remove_shard(shard_id)
    still = sorted(client.list_shards().keys() & ids)
    if still:
        raise PeerRefused(f"{node}: still has shard {still[0]} after it was removed")


def undo_interrupted(
    cluster: Cluster, repository: BackupRepository, *, tell: Tell, stop: threading.Event
) -> None:
    """Deal with what a killed restore from this repository left in this cluster.

    While nothing has owners, nobody can have used it, and it is taken away. Owners are made
    only when every copy was proved, so once there are some the rest is made too.

    Raises:
        RestoreFailed: it is not done yet; a node may be down.
        TargetBusy: that restore is still at work.
        WireError, RepositoryError
    """
    _, now = cluster.metastore()
    file = JournalFile(repository.store, now.cluster_id)
    if file.read() is None:
        return
    with holding_lease(cluster.meta, repository.store, stop, stop.set, tell=tell):
        journal = file.read()
        if journal is None:
            return
        _, now = cluster.metastore()
        if not journal.by_command and _adopted(now, journal):
            _finish(cluster, journal, now, tell)
            names = ", ".join(shown(name) for name in journal.databases)
            tell(
                Warned(
                    f"an earlier restore of {names} was killed when all its shards were there; it "
                    "is complete now, but for continuous queries"
                )
            )
        else:
            _take_away(cluster, journal, tell)
        file.remove()


def _take_away(cluster: Cluster, journal: Journal, tell: Tell) -> None:
    tell(
        Warned("an earlier restore from here was not finished; what it created is taken away first")
    )
    undone = undo(cluster, journal)
    for text in undone.left():
        tell(Warned(text))
    if undone.dropped:
        tell(RolledBack(undone.dropped))
    if undone.unreached:
        raise RestoreFailed(
            f"an interrupted restore is not undone yet: {undone.unreached[0]}",
            hint="start that data node, then run restore again",
        )


def _adopted(now: Metastore, journal: Journal) -> bool:
    return any(place.shard.owners for place in now.places() if place.shard_id in journal.copies)


def _finish(cluster: Cluster, journal: Journal, now: Metastore, tell: Tell) -> None:
    node_ids = {node.tcp_addr: node.id for node in now.data_nodes}
    give_owners(
        cluster,
        [
            (place.shard_id, node_ids[node])
            for place in now.places()
            for node in journal.copies.get(place.shard_id, ())
            if node in node_ids
        ],
        tell=tell,
    )


def give_owners(cluster: Cluster, owners: Sequence[tuple[ShardID, NodeID]], *, tell: Tell) -> None:
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
    done, told_at = 0, time.monotonic()
    with work as ended:
        for one in ended:
            if one is not None:
                one[1].result()
                done += 1
            if time.monotonic() - told_at >= PROGRESS_EVERY_S:
                tell(OwnersGiven(done, len(owners)))
                told_at = time.monotonic()


def persistently(cluster: Cluster, command: Command, stop: threading.Event | None = None) -> int:
    """Have a command applied that does no harm twice, through a change of the leader too.

    Args:
        stop: set when nobody waits for it any more; it is not tried again then.

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


def _ours(there: DatabaseInfo, ids: Collection[ShardID]) -> bool:
    shards = shards_of(there)
    # One that was to hold shards and has none is somebody else's of the same name.
    return shards <= set(ids) and bool(shards) == bool(ids)


def _is_without_data(cluster: Cluster, now: Metastore, there: DatabaseInfo) -> bool:
    """Whether no data node has anything of a database whose shards the record does not know."""
    holdings = cluster.holdings(now)
    return not holdings.silent and not shards_of(there) & holdings.copies.keys()


def shards_of(database: DatabaseInfo) -> set[ShardID]:
    """Those of deleted groups too."""
    groups = (group for rp in database.retention_policies for group in rp.shard_groups)
    return {shard.id for group in groups for shard in group.shards}
