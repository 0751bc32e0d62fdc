"""The assets of one cluster: their keys, and their common properties."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from resources.config.values import NAME
from resources.errors import UsageError, shown

KINDS = {"influxdb"}
TAG = "shardkeeper/cluster"
"""The tag of a cluster's assets and runs; its value is the cluster's name."""
CODE_VERSION = "1"
"""The version of the archive format. Raising it makes every backup stale in Dagster."""


@dataclass(frozen=True)
class ClusterAssets:
    """The assets that belong to one cluster or single server.

    Args:
        name: prefix of its assets, and part of the names of its jobs.

    Raises:
        UsageError: Dagster does not accept the name.
    """

    name: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UsageError(
                f"{shown(self.name)} cannot name a cluster's assets",
                hint="use letters, digits and underscores",
            )

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.name, name])

    @cached_property
    def meta_snapshot(self) -> dg.AssetKey:
        return self.key("meta_snapshot")

    @cached_property
    def shards(self) -> dg.AssetKey:
        return self.key("shards")

    @cached_property
    def shard_backup(self) -> dg.AssetKey:
        return self.key("shard_backup")

    @cached_property
    def backup_set(self) -> dg.AssetKey:
        return self.key("backup_set")

    @cached_property
    def restored_meta(self) -> dg.AssetKey:
        return self.key("restored_meta")

    @cached_property
    def restored_shards(self) -> dg.AssetKey:
        return self.key("restored_shards")

    @cached_property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """One partition for each shard that exists or has an archive.

        The name is global in a Dagster instance.
        """
        return dg.DynamicPartitionsDefinition(name=f"{self.name}/shards")

    @property
    def gone(self) -> str:
        """The name of a set that Dagster stores: the partitions whose shards are gone."""
        return f"{self.name}/shards gone"

    @property
    def back_up_job(self) -> str:
        return f"back_up_{self.name}"

    @property
    def back_up_full_job(self) -> str:
        return f"back_up_{self.name}_full"

    @property
    def back_up_shards_job(self) -> str:
        return f"back_up_{self.name}_shards"

    @property
    def merge_job(self) -> str:
        return f"merge_{self.name}"

    @property
    def verify_job(self) -> str:
        return f"verify_{self.name}"

    @property
    def restore_job(self) -> str:
        return f"restore_{self.name}"

    @property
    def restore_op(self) -> str:
        return self.restored_meta.to_python_identifier()

    @property
    def pool(self) -> str:
        """The pool of the steps that write into its directory of backups; one runs at a time."""
        return f"{self.name}_backups"

    @property
    def tags(self) -> dict[str, str]:
        return {TAG: self.name}
