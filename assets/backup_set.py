"""`backup_set`: a restore point of the whole server."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.keys import KINDS, ClusterAssets
from assets.metadata.backups import batch_facts, batch_sizes, set_facts
from assets.run_backup import BackupStep
from assets.run_config import BackUpConfig
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Executor, Objectives
from resources.engine.backup.run import BackupReport
from resources.engine.verify.backup_diff import Succession
from resources.errors import StoreFailed

RETRIES, RETRY_DELAY_S = 2, 5
DESCRIPTION = """
A restore point of the whole cluster.

It has the metastore and the newest archive of every shard, listed in a manifest. The job `{job}`
makes one. Its first step plans. What is small it copies, checks and commits at once; a large backup
is copied in batches, each a step of its own, and committed when all are done. If a shard cannot be
copied, the others are saved and the run fails. The last step reports what the manifest lists.

"Unsynced" means that the cluster has changed since, or that the last run was limited to a part of
it. If the last run failed, open that run: what it saved is restorable.
"""


def build_backup_set(
    cluster_assets: ClusterAssets, objectives: Objectives, executor: Executor
) -> dg.AssetsDefinition:
    """Build the asset as a graph of steps.

    Dagster takes the versions of a step's inputs when the step starts. If one step made new
    versions of its inputs and recorded the asset, the asset would be stale at once. So the last
    step only reports.
    """
    nodes = [f"node_{number}" for number in range(1, executor.nodes + 1)]
    plan_backup = _planning(cluster_assets, nodes, executor.step_bytes)
    copies = {node: _copying(cluster_assets, node) for node in nodes}
    commit_backup = _committing(cluster_assets, nodes)
    report_manifest = _reporting(cluster_assets)

    @dg.config_mapping
    def for_the_plan(config: BackUpConfig) -> dict[str, Any]:
        values = {**config.model_dump(), "verify": config.verify.name}
        chosen = {name: value for name, value in values.items() if value is not None}
        return {plan_backup.name: {"config": chosen}}

    @dg.graph_asset(
        key=cluster_assets.backup_set,
        ins={
            "snapshot": dg.AssetIn(cluster_assets.meta_snapshot, dagster_type=dg.Nothing),
            "shard_backups": dg.AssetIn(cluster_assets.shard_backup, dagster_type=dg.Nothing),
        },
        description=DESCRIPTION.format(job=cluster_assets.back_up_job),
        config=for_the_plan,
        group_name=cluster_assets.name,
        kinds=KINDS,
        tags=cluster_assets.tags,
    )
    def backup_set(snapshot: Any, shard_backups: Any) -> Any:
        planned = plan_backup(snapshot=snapshot, shard_backups=shard_backups)
        done = {node: _each(copies[node], getattr(planned, node)) for node in nodes}
        committed = commit_backup(planned=planned.planned, **done)
        return report_manifest([planned.manifest, committed])

    policy = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(seconds=objectives.recovery_point),
        warn_window=timedelta(seconds=warn_s) if (warn_s := objectives.warn_after_s) else None,
    )
    return backup_set.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=policy))


def _each(copy: dg.OpDefinition, batches: Any) -> Any:
    return batches.map(lambda batch: copy(batch=batch)).collect()


def _planning(
    cluster_assets: ClusterAssets, nodes: Sequence[str], batch_bytes: int
) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_plan_backup",
        ins={"snapshot": dg.In(dg.Nothing), "shard_backups": dg.In(dg.Nothing)},
        out={
            "manifest": dg.Out(
                str, is_required=False, description="Its name, if the backup is complete."
            ),
            "planned": dg.Out(
                str, is_required=False, description="The backup that other steps make."
            ),
            # Required, though there may be none: an output that is not is left out with all that
            # follows, so a node without batches would take the commit with it.
            **{node: dg.DynamicOut(dg.Nothing) for node in nodes},
        },
        pool=cluster_assets.pool,
        description="Determine what changed. What one step can copy is copied, checked and "
        "committed at once; otherwise the steps that follow do that, in batches.",
    )
    def plan_backup(
        context: dg.OpExecutionContext,
        config: BackUpConfig,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> Iterator[Any]:
        with explained() as more:
            step = BackupStep(context, cluster_assets, clusters, repository)
            newest = step.newest_observation() if batch_bytes else 0
            planned = step.plan(config, batch_bytes=batch_bytes)
            if isinstance(planned, BackupReport):
                step.record(planned, more)
        if isinstance(planned, BackupReport):
            yield dg.Output(planned.manifest_file, "manifest")
            return
        facts = {"batches": len(planned.batches), **batch_sizes(planned.batches)}
        text = f"{planned.backup} {planned.key} {newest}"
        yield dg.Output(text, "planned", metadata=facts)
        for batch in planned.batches:
            yield dg.DynamicOutput(
                None,
                mapping_key=batch.name,
                output_name=nodes[batch.node % len(nodes)],
                metadata=batch_sizes([batch]),
            )

    return plan_backup


def _copying(cluster_assets: ClusterAssets, node: str) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_copy_{node}",
        ins={"batch": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool=f"{cluster_assets.name}_{node}",
        retry_policy=dg.RetryPolicy(max_retries=RETRIES, delay=RETRY_DELAY_S),
        description="Copy the shards of one batch, and check the copies.",
    )
    def copy_batch(
        context: dg.OpExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> Iterator[Any]:
        with explained(again=StoreFailed):
            step = BackupStep(context, cluster_assets, clusters, repository)
            done = step.batch(context.get_mapping_key() or "")
        yield dg.Output(None, metadata=batch_facts(done))

    return copy_batch


def _committing(cluster_assets: ClusterAssets, nodes: Sequence[str]) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_commit_backup",
        ins={"planned": dg.In(str), **{node: dg.In(dg.Nothing) for node in nodes}},
        out=dg.Out(str, description="The name of the manifest."),
        retry_policy=dg.RetryPolicy(max_retries=RETRIES, delay=RETRY_DELAY_S),
        description="Check that every batch is done, and commit them with a manifest.",
    )
    def commit_backup(
        context: dg.OpExecutionContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
        planned: str,
    ) -> str:
        backup, key, newest = planned.split()
        with explained(again=StoreFailed) as more:
            step = BackupStep(context, cluster_assets, clusters, repository)
            report = step.commit(backup, key, int(newest))
            if report is not None:
                step.record(report, more)
        return f"{backup}.manifest"

    return commit_backup


def _reporting(cluster_assets: ClusterAssets) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_report_manifest",
        out=dg.Out(dg.Nothing, is_required=False),
        description="Report what the manifest lists; from here on the restore point exists.",
    )
    def report_manifest(
        context: dg.OpExecutionContext, repository: BackupRepositoryResource, manifests: list[str]
    ) -> Iterator[Any]:
        [manifest_file] = manifests  # of the step that committed; the other one was left out
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
