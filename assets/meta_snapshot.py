"""`meta_snapshot`: a scan of the cluster, before anything is copied."""

import dagster as dg

from assets.evaluation import CheckEvaluator
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.recording import record_scan
from assets.keys import KINDS, ClusterAssets
from assets.metadata.scans import scan_facts
from assets.scan import scan
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource

DESCRIPTION = """
A scan of the cluster: its shards and changes.

It reports databases, policies and shards, and which shards differ from their newest archive. A scan
copies nothing: materialize this asset whenever you want to know the state.

Its data version changes when anything worth backing up has changed, settings or points.
`backup_set` is "Unsynced" from then on. Each shard that changed gets a new observation on `shards`,
which makes its partition of `shard_backup` stale.
"""


def build_meta_snapshot(cluster_assets: ClusterAssets) -> dg.AssetsDefinition:
    @dg.asset(
        key=cluster_assets.meta_snapshot,
        description=DESCRIPTION,
        group_name=cluster_assets.name,
        kinds=KINDS,
        tags=cluster_assets.tags,
    )
    def meta_snapshot(
        context: dg.AssetExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.MaterializeResult:
        history = AssetHistory.of_run(context, cluster_assets)
        with explained():
            seen = scan(cluster_assets, clusters, repository, context.log, history)
        version, gone = record_scan(history, seen.plan, seen.cached.archives)
        history.record_checks(
            CheckEvaluator(cluster_assets, seen.objectives).after_scan(history, seen)
        )
        return dg.MaterializeResult(
            metadata=scan_facts(seen.plan, gone),
            data_version=dg.DataVersion(version),
        )

    return meta_snapshot
