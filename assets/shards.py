"""`shards`: the server's shards as they are, one partition each."""

import warnings
from collections.abc import Iterator

import dagster as dg

from assets.evaluation import CheckEvaluator
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.recording import record_scan
from assets.keys import KINDS, ClusterAssets
from assets.scan import scan
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource

DESCRIPTION = """
The shards that the cluster has now.

A partition is `database/retention policy/shard id`. Shardkeeper only observes shards: a new data
version means that the shard holds something that its newest archive does not. An observation scans
all shards, whichever partition was chosen.

A shard that was dropped or has expired keeps its partition and history if it has an archive, and
its page shows since when it is gone. The scan of the cluster, `meta_snapshot`, lists all of them.
"""


def build_shards(cluster_assets: ClusterAssets) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        # Dagster marks the decorator beta; which of its features to use is our choice.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.multi_observable_source_asset(
            name=f"observe_{cluster_assets.name}_shards",
            specs=[
                dg.AssetSpec(
                    cluster_assets.shards,
                    deps=[cluster_assets.meta_snapshot],
                    description=DESCRIPTION,
                    partitions_def=cluster_assets.partitions,
                    skippable=True,
                    group_name=cluster_assets.name,
                    kinds=KINDS,
                    tags=cluster_assets.tags,
                )
            ],
        )
        def shards(
            context: dg.AssetExecutionContext,
            clusters: ClustersResource,
            repository: BackupRepositoryResource,
        ) -> Iterator[dg.ObserveResult]:
            history = AssetHistory.of_run(context, cluster_assets)
            with explained():
                seen = scan(cluster_assets, clusters, repository, context.log, history)
            record_scan(history, seen.plan, seen.cached.archives)
            history.record_checks(
                CheckEvaluator(cluster_assets, seen.objectives).after_scan(history, seen)
            )
            yield from ()

        return shards
