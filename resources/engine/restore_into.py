"""Restore into whatever the target is: a cluster or a single server."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.node_copies import NodeCopies
from resources.engine.cluster.restore import prepare_cluster_restore, restore_into_cluster
from resources.engine.cluster.restore_journal import Journal, JournalFile
from resources.engine.cluster.rollback import undo_interrupted
from resources.engine.events import Emit, Warned
from resources.engine.restore.fill_shard import restore_into_shard
from resources.engine.restore.identity import identity_of
from resources.engine.restore.leftovers import take_back_interrupted
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import prepare_restore, restore
from resources.engine.restore.server_journal import take_over
from resources.engine.restore.target_copies import ServerCopies, TargetCopies
from resources.engine.restore.unfinished import Unfinished, left_over, what_is_there
from resources.errors import PeerAway, PeerSilent, PlanError, ShardHeld
from resources.model import ShardPlace
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository


def prepare_restore_into(
    target: Server | Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
) -> RestorePlan:
    """Plan a restore against the target as it is now; nothing is changed.

    Raises:
        UsageError: the options mean nothing, or nothing for a target of this kind.
        ShardkeeperError: what planning raises, and errors of reading the backup or the target.
    """
    if isinstance(target, Cluster):
        return prepare_cluster_restore(target, repository, backup, options)
    return prepare_restore(target, repository, backup, options)


def restore_into(
    target: Server | Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
    *,
    emit: Emit,
    stop: threading.Event | None = None,
) -> RestoreReport:
    """Plan a restore and carry it out; the same one that was killed is gone on with.

    What another one from here has left, when it was killed, is taken away first.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    try:
        gone_on = _gone_on(target, repository, backup, options, emit, stop)
    except ShardHeld as held:
        emit(
            Warned(f"{held.what}; what the killed restore left is taken away, and all begins anew")
        )
        try:
            return _restored_anew(target, repository, backup, options, emit, stop)
        except (PeerAway, PeerSilent):
            raise held from None  # it keeps more to itself than that shard
    if gone_on is not None:
        return gone_on
    return _restored_anew(target, repository, backup, options, emit, stop)


def _restored_anew(
    target: Server | Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
    emit: Emit,
    stop: threading.Event | None,
) -> RestoreReport:
    """Restore, once it is taken away what a killed run has left.

    Raises: as `restore_into`.
    """
    if isinstance(target, Cluster):
        undo_interrupted(target, repository, emit=emit, stop=stop or threading.Event())
    else:
        take_back_interrupted(target, repository, emit=emit)
    plan = prepare_restore_into(target, repository, backup, options)
    if plan.into is not None:
        return restore_into_shard(
            target,
            repository,
            plan,
            options,
            copies_on=lambda node, into: _copies_on(target, node, into),
            emit=emit,
            stop=stop,
        )
    if isinstance(target, Cluster):
        return restore_into_cluster(target, repository, plan, options, emit=emit, stop=stop)
    return restore(target, repository, plan, options, emit=emit, stop=stop)


def _gone_on(
    target: Server | Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
    emit: Emit,
    stop: threading.Event | None,
) -> RestoreReport | None:
    """Go on with this very restore, if a run of it was killed; None if there is none.

    Raises:
        ShardHeld: something else has one of its shards open; what was made is taken away, if it
            could be.
        ShardkeeperError: as `restore_into`.
    """
    if isinstance(target, Cluster):
        going_on = _left_in_cluster(target, repository, backup, options)
        if going_on is None:
            return None
        plan, left = going_on
        return restore_into_cluster(
            target, repository, plan, options, emit=emit, stop=stop, goes_on=left
        )
    with ExitStack() as stack:
        unfinished = _unfinished(stack, target, repository, backup, options)
        if unfinished is None:
            return None
        plan = unfinished.plan
        return restore(target, repository, plan, options, emit=emit, stop=stop, goes_on=unfinished)


def _copies_on(target: Server | Cluster, node: str, into: ShardPlace) -> TargetCopies:
    """Of a shard that has owners, and perhaps writers."""
    if isinstance(target, Server):
        return ServerCopies(target, None)
    places = {into.shard_id: (into.database, into.policy)}
    return NodeCopies(target, node, places, owned=True)


def _left_in_cluster(
    cluster: Cluster, repository: BackupRepository, backup: BackupSet, options: RestoreOptions
) -> tuple[RestorePlan, Journal] | None:
    """The plan that a killed run of this very restore had, and its record."""
    if options.new_shard_id is not None:
        return None
    _, now = cluster.metastore()
    left = JournalFile(repository.store, now.cluster_id).read()
    if left is None or not left.plan or left.proved is not False:
        return None
    if any(now.database(name) is None for name in left.databases):
        return None  # it was dropped; what its nodes have is to be taken away
    try:
        plan = prepare_cluster_restore(
            cluster, repository, backup, options, without=left.databases.keys()
        )
    except PlanError:
        return None  # it is in the way of something else
    return (plan, left) if identity_of(plan, options) == left.plan else None


def _unfinished(
    stack: ExitStack,
    server: Server,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
) -> Unfinished | None:
    """What a killed run of this very restore has left; its record is locked until the end."""
    if options.new_shard_id is not None:
        return None
    for kept in left_over(stack, server, repository.store):
        databases = kept.journal.databases.keys()
        try:
            plan = prepare_restore(server, repository, backup, options, without=databases)
        except PlanError:
            continue  # it is in the way of something else
        if identity_of(plan, options) == kept.journal.plan:
            found = what_is_there(server, kept, plan, server.about().version)
            mine = take_over(kept, repository.store) if found is not None else None
            if found is not None and mine is not None:
                return replace(found, kept=mine)
    return None
