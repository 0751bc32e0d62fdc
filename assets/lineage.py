"""All assets of one cluster, and all their checks."""

from __future__ import annotations

import dagster as dg

from assets.backup_set import build_backup_set
from assets.checks.archives_match import build_archives_match
from assets.checks.nothing_missing import build_nothing_missing
from assets.checks.reachable import build_reachable
from assets.checks.scan_checks import build_scan_checks
from assets.checks.undamaged import build_undamaged
from assets.keys import ClusterAssets
from assets.meta_snapshot import build_meta_snapshot
from assets.restored_meta import build_restored_meta
from assets.restored_shards import build_restored_shards
from assets.shard_backup import build_shard_backup
from assets.shards import build_shards
from resources.config.values import Cluster, Executor, Objectives


def build_assets(
    cluster_assets: ClusterAssets, settings: Cluster, executor: Executor
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The chain from the scan of a cluster to the shards that are restored from its backups."""
    return [
        build_meta_snapshot(cluster_assets),
        build_shards(cluster_assets),
        build_shard_backup(cluster_assets),
        build_backup_set(cluster_assets, settings.objectives, executor),
        build_restored_meta(cluster_assets),
        build_restored_shards(cluster_assets),
    ]


def build_checks(
    cluster_assets: ClusterAssets, objectives: Objectives
) -> list[dg.AssetChecksDefinition]:
    """The conditions for usable backups.

    Runs and sensors evaluate them (`evaluation`); executing one runs a scan.
    """
    return [
        *build_scan_checks(cluster_assets, objectives),
        build_archives_match(cluster_assets),
        build_nothing_missing(cluster_assets),
        build_undamaged(cluster_assets),
        build_reachable(cluster_assets),
    ]
