"""`restored_shards`: the shards that were restored and read back, one partition each."""

import dagster as dg

from assets.keys import KINDS, Family

DESCRIPTION = """
The shards that were restored and read back.

They hold what their archive holds. Partitions are named after the shard they came from. Made by the
job `{job}`, through `restored_meta`.
"""


def build_restored_shards(family: Family) -> dg.AssetSpec:
    return dg.AssetSpec(
        family.restored_shards,
        deps=[family.shard_backup, family.restored_meta],
        description=DESCRIPTION.format(job=family.restore_job),
        partitions_def=family.partitions,
        group_name=family.name,
        kinds=KINDS,
        tags=family.tags,
    )
