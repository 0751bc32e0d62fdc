"""`shard_backup`: the newest archive of each shard, one partition each."""

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.keys import CODE_VERSION, KINDS, ClusterAssets
from assets.run_backup import run_backup
from assets.run_config import CopyConfig
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource

DESCRIPTION = """
The newest archive of each shard.

Each archive was checked while it was made. A partition is `database/retention policy/shard id`. It
is stale when its shard holds something that the archive does not.

Use the job `{job}` to copy all stale shards in a single run. Materialize partitions here to copy
only those shards, for example to fill missing ones; an unchanged shard is not copied again unless
`full` is set.
"""
MAX_IN_ONE_RUN = 500


def build_shard_backup(cluster_assets: ClusterAssets) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        # backfill_policy is marked beta; the alternative is one run for each of 10,000 shards.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(
            key=cluster_assets.shard_backup,
            deps=[cluster_assets.shards],
            description=DESCRIPTION.format(job=cluster_assets.back_up_job),
            partitions_def=cluster_assets.partitions,
            backfill_policy=dg.BackfillPolicy.multi_run(MAX_IN_ONE_RUN),
            code_version=CODE_VERSION,
            output_required=False,
            pool=cluster_assets.pool,
            group_name=cluster_assets.name,
            kinds=KINDS,
            tags=cluster_assets.tags,
        )
        def shard_backup(
            context: dg.AssetExecutionContext,
            config: CopyConfig,
            clusters: ClustersResource,
            repository: BackupRepositoryResource,
        ) -> Iterator[Any]:
            keys = list(context.partition_keys)
            run_backup(context, cluster_assets, config, clusters, repository, partitions=keys)
            yield from ()

        return shard_backup
