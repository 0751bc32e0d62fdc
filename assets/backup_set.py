"""`backup_set`: a restore point of the whole server."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.keys import KINDS, ClusterAssets
from assets.metadata.backups import set_facts
from assets.run_backup import run_backup
from assets.run_config import BackUpConfig
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Objectives
from resources.engine.verify.backup_diff import Succession

DESCRIPTION = """
A restore point of the whole cluster.

It has the metastore and the newest archive of every shard, listed in a manifest. The job `{job}`
makes one in two steps. The first step copies the shards that changed, checks them and commits the
manifest; if a shard cannot be copied, the others are saved and the run fails. The second step
reports what the manifest lists.

"Unsynced" means that the cluster has changed since, or that the last run was limited to a part of
it. If the last run failed, open that run: what it saved is restorable.
"""


def build_backup_set(cluster_assets: ClusterAssets, objectives: Objectives) -> dg.AssetsDefinition:
    """Build the asset as a graph of two steps.

    Dagster takes the versions of a step's inputs when the step starts. If one step made new
    versions of its inputs and recorded the asset, the asset would be stale at once.
    """
    copy_changed_shards, report_manifest = _copying(cluster_assets), _reporting(cluster_assets)

    @dg.config_mapping
    def for_the_copies(config: BackUpConfig) -> dict[str, Any]:
        values = {**config.model_dump(), "verify": config.verify.name}
        chosen = {name: value for name, value in values.items() if value is not None}
        return {copy_changed_shards.name: {"config": chosen}}

    @dg.graph_asset(
        key=cluster_assets.backup_set,
        ins={
            "snapshot": dg.AssetIn(cluster_assets.meta_snapshot, dagster_type=dg.Nothing),
            "shard_backups": dg.AssetIn(cluster_assets.shard_backup, dagster_type=dg.Nothing),
        },
        description=DESCRIPTION.format(job=cluster_assets.back_up_job),
        config=for_the_copies,
        group_name=cluster_assets.name,
        kinds=KINDS,
        tags=cluster_assets.tags,
    )
    def backup_set(snapshot: Any, shard_backups: Any) -> Any:
        return report_manifest(copy_changed_shards(snapshot=snapshot, shard_backups=shard_backups))

    policy = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(seconds=objectives.recovery_point),
        warn_window=timedelta(seconds=warn_s) if (warn_s := objectives.warn_after_s) else None,
    )
    return backup_set.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=policy))


def _copying(cluster_assets: ClusterAssets) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_copy_changed_shards",
        ins={"snapshot": dg.In(dg.Nothing), "shard_backups": dg.In(dg.Nothing)},
        out=dg.Out(str, description="The name of the manifest."),
        pool=cluster_assets.pool,
        description="Copy the shards that changed, check them, and commit them with a manifest.",
    )
    def copy_changed_shards(
        context: dg.OpExecutionContext,
        config: BackUpConfig,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> str:
        return run_backup(context, cluster_assets, config, clusters, repository).manifest_file

    return copy_changed_shards


def _reporting(cluster_assets: ClusterAssets) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_report_manifest",
        out=dg.Out(dg.Nothing, is_required=False),
        description="Report what the manifest lists; from here on the restore point exists.",
    )
    def report_manifest(
        context: dg.OpExecutionContext, repository: BackupRepositoryResource, manifest_file: str
    ) -> Iterator[Any]:
        with explained():
            backups = repository.open(cluster_assets.name)
            stored = backups.manifest(manifest_file)
            kept = len(backups.current().archives)
            changes = Succession(backups).changes(stored)
        history = AssetHistory.of_run(context, cluster_assets)
        found = set_facts(stored, backups.location, kept, changes, history.source_version())
        if stored.manifest.limited:
            history.limited_set(found)
        else:
            yield dg.Output(None, metadata=found)

    return report_manifest
