"""Scan a cluster: compare what it has with its backups; nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.reachability import reached
from assets.run_log import emit_to
from resources.backup_repository import BackupRepositoryResource
from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.cluster import ClustersResource
from resources.config.opening import open_cluster
from resources.config.values import Objectives
from resources.engine.backup.plan import BackupPlan, plan_backup
from resources.engine.options import BackupOptions
from resources.repository.manifest_cache import ManifestCache


@dataclass(frozen=True, slots=True)
class Scan:
    """The scanned source, its backups, and the result."""

    source: Server | Cluster
    cached: ManifestCache
    plan: BackupPlan
    objectives: Objectives
    """The objectives as configured now."""


def scan(
    cluster_assets: ClusterAssets,
    clusters: ClustersResource,
    repository: BackupRepositoryResource,
    log: dg.DagsterLogManager,
    history: AssetHistory,
) -> Scan:
    """Determine which shards differ from their archives.

    Raises:
        ShardkeeperError: the cluster or its backups cannot be read.
    """
    with reached(history, cluster_assets):
        reading = clusters.reading()
        settings = reading.cluster(cluster_assets.name)
        source = open_cluster(reading, cluster_assets.name)
    cached = ManifestCache(repository.open(cluster_assets.name, reading))
    options = BackupOptions(parallel=settings.limits.parallel, internal=settings.internal)
    with reached(history, cluster_assets):
        plan = plan_backup(source, cached.repository, options, emit=emit_to(log), cache=cached)
    return Scan(source, cached, plan, settings.objectives)
