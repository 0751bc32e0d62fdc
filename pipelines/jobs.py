"""The jobs that users, schedules and sensors launch: back up, verify, merge, restore."""

from __future__ import annotations

from typing import Any

import dagster as dg

from assets.evaluation import ARCHIVES_MATCH, NOTHING_MISSING
from assets.keys import ClusterAssets
from assets.run_config import BackUpConfig, MergeConfig, RestoreConfig, VerifyConfig
from pipelines.merge_op import build_merge_op
from pipelines.restore_op import build_restore_steps
from resources.config.values import Cluster, Executor

BACKUPS_FIRST = "1"
"""The priority of backups, so that a queue of restores does not delay the next restore point."""


def back_up_job(
    cluster_assets: ClusterAssets, executor: dg.ExecutorDefinition | None = None
) -> dg.UnresolvedAssetJobDefinition:
    """Scan, copy what changed, record the restore point; one run, whatever changed."""
    return _back_up_job(
        cluster_assets,
        cluster_assets.back_up_job,
        BackUpConfig(),
        "Back up the cluster: scan it, copy every shard that changed since its newest archive, "
        "check the copies, and make a restore point. For an unchanged cluster it only scans. Run "
        "it at least as often as your recovery point objective requires.",
        executor,
    )


def back_up_full_job(
    cluster_assets: ClusterAssets, executor: dg.ExecutorDefinition | None = None
) -> dg.UnresolvedAssetJobDefinition:
    """The same for every shard, changed or not."""
    return _back_up_job(
        cluster_assets,
        cluster_assets.back_up_full_job,
        BackUpConfig(full=True),
        "Back up every shard of the cluster, changed or not, check the copies, and make a restore "
        "point that needs no earlier archive.",
        executor,
    )


def back_up_shards_job(
    cluster_assets: ClusterAssets, executor: dg.ExecutorDefinition | None = None
) -> dg.UnresolvedAssetJobDefinition:
    """Copy the shards of the chosen partitions, and no others."""
    return dg.define_asset_job(
        cluster_assets.back_up_shards_job,
        selection=dg.AssetSelection.assets(cluster_assets.shard_backup).without_checks(),
        description="Back up only the chosen shards, for example to fill missing or failed ones. "
        f"{cluster_assets.back_up_job} copies all that changed and makes a restore point of the "
        "whole cluster.",
        executor_def=executor,
        tags={**cluster_assets.tags, "dagster/priority": BACKUPS_FIRST},
    )


def _back_up_job(
    cluster_assets: ClusterAssets,
    name: str,
    config: BackUpConfig,
    description: str,
    executor: dg.ExecutorDefinition | None,
) -> dg.UnresolvedAssetJobDefinition:
    assets = dg.AssetSelection.assets(cluster_assets.meta_snapshot, cluster_assets.backup_set)
    # The steps evaluate the other checks themselves; executed, each of them would run a scan.
    blocking = dg.AssetSelection.checks(
        dg.AssetCheckKey(cluster_assets.backup_set, NOTHING_MISSING)
    )
    return dg.define_asset_job(
        name,
        selection=assets.without_checks() | blocking,
        config=dg.RunConfig(ops={cluster_assets.backup_set.to_python_identifier(): config}),
        description=description,
        executor_def=executor,
        tags={**cluster_assets.tags, "dagster/priority": BACKUPS_FIRST},
    )


def merge_job(cluster_assets: ClusterAssets) -> dg.JobDefinition:
    """Merge into the cluster itself, unless the launch names another target."""
    step = build_merge_op(cluster_assets)

    @dg.job(
        name=cluster_assets.merge_job,
        config=_proposed(step.name, MergeConfig(), cluster_assets.name),
        description="Merge the points of a backup into a live database. Where both have a value "
        "for the same series, field and time, the backup's stays. Launched as proposed, the job "
        "only shows the plan; set dry_run: false to merge.",
        tags=cluster_assets.tags,
    )
    def merging() -> None:
        step()

    return merging


def verify_job(cluster_assets: ClusterAssets) -> dg.UnresolvedAssetJobDefinition:
    """Read the stored backups; `sample` reads a part."""
    key = dg.AssetCheckKey(cluster_assets.shard_backup, ARCHIVES_MATCH)
    asset = cluster_assets.shard_backup.to_python_identifier()
    return dg.define_asset_job(
        cluster_assets.verify_job,
        selection=dg.AssetSelection.checks(
            key, dg.AssetCheckKey(cluster_assets.backup_set, NOTHING_MISSING)
        ),
        config=dg.RunConfig(ops={f"{asset}_{ARCHIVES_MATCH}": VerifyConfig()}),
        description="Read every manifest, meta file and archive, or with sample a part of the "
        "archives, and compare them with the manifests. The job does not contact the cluster.",
        tags=cluster_assets.tags,
    )


def restore_job(
    cluster_assets: ClusterAssets,
    settings: Cluster,
    executor: Executor,
    definition: dg.ExecutorDefinition | None = None,
) -> dg.JobDefinition:
    """Restore into the target of a cluster's settings, unless the launch names another.

    Args:
        executor: where its batches are done.
        definition: the same for Dagster; None: that of all jobs.
    """
    steps = build_restore_steps(cluster_assets, settings.limits, executor)

    @dg.job(
        name=cluster_assets.restore_job,
        config=_proposed(cluster_assets.restore_op, RestoreConfig(), settings.target),
        executor_def=definition,
        description=f"Restore from the backups of {cluster_assets.name} into the target: "
        "everything, or a database, policy or shard, under its own name or a new one, in the "
        "latest state or that of a time. Launched as proposed, the job only shows the plan; set "
        "dry_run: false to restore. It never writes to existing databases.",
        tags=cluster_assets.tags,
    )
    def restoring() -> None:
        steps()

    return restoring


def _proposed(step: str, config: dg.Config, target: str) -> dict[str, Any]:
    """The launchpad's proposal: every field of the step, and of the target only its name."""
    return {
        "ops": {step: {"config": config.model_dump()}},
        "resources": {"target": {"config": {"cluster": target}}},
    }
