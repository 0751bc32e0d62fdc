"""Restore from the backups of a cluster, as the step of a job."""

import dagster as dg
from msgspec.structs import replace

from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.recording import record_restore
from assets.keys import ClusterAssets
from assets.messages import what_happened
from assets.metadata.restores import restore_facts, restore_plan_facts, to_launch
from assets.run_config import RestoreConfig
from assets.run_log import emit_to
from pipelines.launch_checks import require_no_plain_secrets, say_when
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import TargetResource
from resources.engine.events import Run
from resources.engine.restore.as_of import backup_as_of
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.run import restore
from resources.engine.restore.target import RestoreTarget
from resources.engine.restore_target import restore_target
from resources.errors import ShardkeeperError
from resources.repository.backup_set import BackupSet


def build_restore_op(cluster_assets: ClusterAssets, workers: int) -> dg.OpDefinition:
    """The step of the restore job; what it did is an event of `restored_meta`.

    Args:
        workers: `limits.workers`.
    """

    @dg.op(
        name=cluster_assets.restore_op,
        out=dg.Out(dg.Nothing),
        description="Check every archive, restore, read every shard back; undo all of it on an "
        "error. With dry_run, which is the default, show the plan.",
    )
    def restore_backup(
        context: dg.OpExecutionContext,
        config: RestoreConfig,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> None:
        with explained():
            require_no_plain_secrets(context.run.run_config)
            options = replace(config.options, workers=workers)
            reading = repository.reading()
            backups = repository.open(cluster_assets.name, reading)
            say_when(context.log, config.as_of)
            backup = backup_as_of(backups, config.as_of)
            point = backup.newest.file_name.removesuffix(".manifest")
            context.log.info(f"from the restore point {point}")
            into = restore_target(
                target.open(reading), backups, Run(emit_to(context.log)), options.new_shard_id
            )
            if config.dry_run:
                plan = into.plan(backup, options)
                planned = restore_plan_facts(plan, into.connection.address)
                planned["to_restore"] = to_launch(
                    context.run.run_config, cluster_assets.restore_op, config, {"as_of": point}
                )
                context.log_event(
                    dg.AssetObservation(cluster_assets.restored_meta, metadata=planned)
                )
                context.log.warning(
                    "nothing is restored: this was the plan; launch with dry_run: false to restore"
                )
            else:
                _restore(context, cluster_assets, into, backup, options)

    return restore_backup


def _restore(
    context: dg.OpExecutionContext,
    cluster_assets: ClusterAssets,
    into: RestoreTarget,
    backup: BackupSet,
    options: RestoreOptions,
) -> None:
    """Restore, and record the outcome.

    Raises:
        ShardkeeperError: as `restore`, and as `check_complete` of its report.
    """
    address = into.connection.address
    try:
        report = restore(into, backup, options)
    except ShardkeeperError as error:
        failed = {"outcome": "failed", "target": address, "why": what_happened(error)}
        context.log_event(dg.AssetObservation(cluster_assets.restored_meta, metadata=failed))
        raise
    record_restore(AssetHistory.of_run(context, cluster_assets), report, address)
    context.log_event(
        dg.AssetMaterialization(
            cluster_assets.restored_meta, metadata=restore_facts(report, address)
        )
    )
    report.check_complete()
