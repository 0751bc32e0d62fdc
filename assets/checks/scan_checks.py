"""What must hold between a cluster and its backups: the checks that a look evaluates."""

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
    """The checks that a look evaluates, so executing one takes a look."""
    objective = f"the recovery point objective, {span(objectives)}"
    return [
        _scan(
            cluster_assets,
            cluster_assets.shard_backup,
            EVERY_SHARD_CURRENT,
            "Every shard of the cluster is in its archive as it is now. If not, the shards to back "
            "up are listed; the job that backs up the cluster copies them. Evaluated by each look "
            "at the cluster and after each backup.",
        ),
        _scan(
            cluster_assets,
            cluster_assets.backup_set,
            WITHIN_OBJECTIVE,
            "Every shard of the cluster was saved or found unchanged by a backup that is younger "
            f"than {objective}. Evaluated after each backup and by the sensors.",
        ),
        _scan(
            cluster_assets,
            cluster_assets.backup_set,
            LITTLE_TO_LOSE,
            "If the cluster were lost now, nothing would be lost with it that was written before "
            f"{objective}, began. Tells for how long there has been something to lose, and by "
            "policy the newest point in the backups and at the source. Evaluated by each look, "
            "after each backup and by the sensors.",
        ),
        _scan(
            cluster_assets,
            cluster_assets.shards,
            COPIES_AGREE,
            "The copies of each shard are as large on all of its owners, once nobody writes to "
            "them. Evaluated by each look.",
        ),
    ]


def _scan(
    cluster_assets: ClusterAssets, asset: dg.AssetKey, check: str, description: str
) -> dg.AssetChecksDefinition:
    """A check that a look evaluates."""

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
