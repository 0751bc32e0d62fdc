"""All assets of one cluster."""

from __future__ import annotations

import dagster as dg

from assets.backup_set import build_backup_set
from assets.keys import Family
from assets.meta_snapshot import build_meta_snapshot
from assets.restored_meta import build_restored_meta
from assets.restored_shards import build_restored_shards
from assets.shard_backup import build_shard_backup
from assets.shards import build_shards
from resources.config.values import Cluster


def build_assets(family: Family, settings: Cluster) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The chain from a look at the cluster to shards that are restored from its backups."""
    return [
        build_meta_snapshot(family),
        build_shards(family),
        build_shard_backup(family),
        build_backup_set(family, settings.objectives),
        build_restored_meta(family),
        build_restored_shards(family),
    ]
