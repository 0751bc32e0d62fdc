"""A look at a cluster: what it has, held against its backups; nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from assets.history.asset_history import Ledger
from assets.keys import Family
from assets.reachability import reached
from assets.run_log import telling
from resources.backup_repository import BackupRepositoryResource
from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.cluster import ClustersResource
from resources.config.opening import open_cluster
from resources.config.values import Objectives
from resources.engine.backup.plan import BackupPlan, plan_backup
from resources.engine.options import BackupOptions
from resources.repository.watched import WatchedRepository


@dataclass(frozen=True, slots=True)
class Look:
    """Who was looked at, beside what, and what was found."""

    source: Server | Cluster
    watched: WatchedRepository
    plan: BackupPlan
    objectives: Objectives
    """As they are configured now."""


def look(
    family: Family,
    clusters: ClustersResource,
    repository: BackupRepositoryResource,
    log: dg.DagsterLogManager,
    ledger: Ledger,
) -> Look:
    """Find out which shards differ from their archives.

    Raises:
        ShardkeeperError: the cluster or its backups cannot be read.
    """
    with reached(ledger, family):
        reading = clusters.reading()
        settings = reading.cluster(family.name)
        source = open_cluster(reading, family.name)
    watched = WatchedRepository(repository.open(family.name, reading))
    options = BackupOptions(parallel=settings.limits.parallel, internal=settings.internal)
    with reached(ledger, family):
        plan = plan_backup(source, watched, options, tell=telling(log))
    return Look(source, watched, plan, settings.objectives)
