"""`restored_shards`: the shards that were restored and read back, one partition each."""

import dagster as dg

from assets.keys import KINDS, ClusterAssets

DESCRIPTION = """
The shards that were restored and read back.

They hold what their archives hold. A partition is named after the shard that it came from. The job
`{job}` materializes them, through `restored_meta`.
"""


def build_restored_shards(cluster_assets: ClusterAssets) -> dg.AssetSpec:
    return dg.AssetSpec(
        cluster_assets.restored_shards,
        deps=[cluster_assets.shard_backup, cluster_assets.restored_meta],
        description=DESCRIPTION.format(job=cluster_assets.restore_job),
        partitions_def=cluster_assets.partitions,
        group_name=cluster_assets.name,
        kinds=KINDS,
        tags=cluster_assets.tags,
    )
