"""The checks that a scan of the cluster evaluates: its shards compared with their backups."""

import dagster as dg

from assets.checks.result import result_of
from assets.evaluation import (
    COPIES_AGREE,
    EVERY_SHARD_CURRENT,
    LITTLE_TO_LOSE,
    WITHIN_OBJECTIVE,
    CheckEvaluator,
    span,
)
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.recording import record_scan
from assets.keys import ClusterAssets
from assets.scan import scan
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Objectives


def build_scan_checks(
    cluster_assets: ClusterAssets, objectives: Objectives
) -> list[dg.AssetChecksDefinition]:
    """The checks that a scan evaluates; executing one of them runs a scan."""
    goal = span(objectives)
    return [
        _scan(
            cluster_assets,
            cluster_assets.shard_backup,
            EVERY_SHARD_CURRENT,
            "The archive of every shard of the cluster is up to date. If this fails, the table "
            "lists the shards to back up; the job that backs up the cluster copies them. Evaluated "
            "by each scan of the cluster and after each backup.",
        ),
        _scan(
            cluster_assets,
            cluster_assets.backup_set,
            WITHIN_OBJECTIVE,
            "Every shard of the cluster was saved or found unchanged by a backup that is younger "
            f"than the recovery point objective, {goal}. Evaluated after each backup and by the "
            "sensors.",
        ),
        _scan(
            cluster_assets,
            cluster_assets.backup_set,
            LITTLE_TO_LOSE,
            f"If the cluster were lost now, only points of the last {goal}, the recovery point "
            "objective, would be lost. Reports for how long there have been points to lose, and "
            "for each policy the newest point in the backups and at the source. Evaluated by each "
            "scan, after each backup and by the sensors.",
        ),
        _scan(
            cluster_assets,
            cluster_assets.shards,
            COPIES_AGREE,
            "All owners of a shard report the same size, if nothing is writing to the shard. "
            "Evaluated by each scan.",
        ),
    ]


def _scan(
    cluster_assets: ClusterAssets, asset: dg.AssetKey, check: str, description: str
) -> dg.AssetChecksDefinition:
    """A check that a scan evaluates."""

    @dg.asset_check(asset=asset, name=check, description=description)
    def scanned(
        context: dg.AssetCheckExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.AssetCheckResult:
        history = AssetHistory.of_run(context.op_execution_context, cluster_assets)
        with explained():
            seen = scan(cluster_assets, clusters, repository, context.log, history)
            record_scan(history, seen.plan, seen.cached.archives)
            found = CheckEvaluator(cluster_assets, seen.objectives).after_scan(history, seen)
        history.record_checks(
            one for one in found if (one.asset_key, one.check_name) != (asset, check)
        )
        return result_of(found, check)

    return scanned
