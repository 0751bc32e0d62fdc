"""Restore into whatever the target is: a cluster or a single server."""

from __future__ import annotations

import threading

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.restore import prepare_cluster_restore, restore_into_cluster
from resources.engine.cluster.rollback import undo_interrupted
from resources.engine.events import Tell
from resources.engine.restore.fill_shard import restore_into_shard
from resources.engine.restore.leftovers import take_back_interrupted
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.run import RestoreReport, prepare_restore, restore
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
    tell: Tell,
    stop: threading.Event | None = None,
) -> RestoreReport:
    """Plan a restore and carry it out, after undoing one from here that was interrupted.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    if isinstance(target, Cluster):
        undo_interrupted(target, repository, tell=tell, stop=stop or threading.Event())
    else:
        take_back_interrupted(target, repository, tell=tell)
    plan = prepare_restore_into(target, repository, backup, options)
    if plan.into is not None:
        return restore_into_shard(target, repository, plan, options, tell=tell, stop=stop)
    if isinstance(target, Cluster):
        return restore_into_cluster(target, repository, plan, options, tell=tell, stop=stop)
    return restore(target, repository, plan, options, tell=tell, stop=stop)
