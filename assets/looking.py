"""A look at a cluster: what it has, held against its backups; nothing is copied."""

from __future__ import annotations

import dagster as dg

from assets.family import Family
from assets.telling import telling
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.engine.options import BackupOptions
from resources.engine.plan import BackupPlan, plan_backup


def look(
    family: Family,
    clusters: ClustersResource,
    repository: BackupRepositoryResource,
    log: dg.DagsterLogManager,
) -> BackupPlan:
    """Find out which shards differ from their archives.

    Raises:
        ShardkeeperError: the cluster or its backups cannot be read.
    """
    settings = clusters.settings(family.name)
    return plan_backup(
        clusters.open(family.name),
        repository.open(family.name),
        BackupOptions(parallel=settings.limits.parallel, internal=settings.internal),
        tell=telling(log),
    )
