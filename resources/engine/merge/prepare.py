"""Plan a merge against a target as it is now; nothing is changed."""

from __future__ import annotations

import secrets
import time

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import Run
from resources.engine.merge.merge_plan import TEMPORARY, MergeOptions, MergePlan, plan_merge
from resources.engine.restore_target import restore_target
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository


def prepare_merge(
    target: Server | Cluster, repository: BackupRepository, options: MergeOptions
) -> MergePlan:
    """Plan a merge against the target as it is now; nothing is changed.

    Raises:
        ShardkeeperError: the backup or the target cannot be read, or as `plan_merge` and
            `plan_restore`.
    """
    options.check()
    backup = _backup(repository, options)
    beside = options.restore_options(TEMPORARY + secrets.token_hex(6))
    silent = Run(lambda _: None)
    return plan_merge(
        restore_target(target, repository, silent).plan(backup, beside),
        target.metastore()[1],
        options,
        now_ns=clock_ns(target),
        target_name=target.address,
    )


def clock_ns(target: Server | Cluster) -> int:
    """The target's time now; ours if it does not report one."""
    return target.about().clock_ns or time.time_ns()


def _backup(repository: BackupRepository, options: MergeOptions) -> BackupSet:
    if options.manifest:
        return repository.single(options.manifest)
    return repository.current(as_of=options.as_of)
