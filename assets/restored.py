"""`restored_meta` and `restored_shards`: what was brought back, and where to."""

import warnings
from collections.abc import Iterator

import dagster as dg

from assets.config import RestoreConfig
from assets.facts.restores import restore_facts, restore_plan_facts, to_launch
from assets.failures import explained
from assets.family import KINDS, Family
from assets.launching import refuse_plain_secrets, say_when
from assets.ledger import Ledger
from assets.recording import record_restore
from assets.telling import telling
from assets.wording import what_happened
from resources.backup_repository import BackupRepositoryResource
from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.cluster import TargetResource
from resources.engine.restore.as_of import backup_as_of
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore_into import prepare_restore_into, restore_into
from resources.errors import ShardkeeperError
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository

META_DESCRIPTION = """
What was restored: where to, and the proof.

Databases and policies brought back on a target, with all their shards. Every archive is checked
before the target is touched, and every shard is read back from it afterwards. If anything fails,
what this restore created is dropped again, and nothing else is.

The job `{job}` makes it, and nothing else does. Its plan, with `dry_run`, and a restore that failed
are observations of this asset; neither takes away what the last good one left. *Observe* tells
which restore points are newer than the one that was restored, and changes nothing.
"""
SHARDS_DESCRIPTION = """
The shards that were restored and read back.

They hold what their archive holds. Partitions are named after the shard they came from. Made by the
job `{job}`, through `restored_meta`.
"""


def build_restored_meta(family: Family) -> dg.AssetsDefinition:
    """Observed, not made: an asset that is made is red after any run that failed.

    So no button restores, and neither a wrong click nor a mistyped plan hides the last restore.
    """
    with warnings.catch_warnings():
        # Dagster marks the decorator beta; which of its features to use is our choice.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.multi_observable_source_asset(
            name=f"observe_{family.name}_restored_meta",
            specs=[
                dg.AssetSpec(
                    family.restored_meta,
                    deps=[family.backup_set],
                    description=META_DESCRIPTION.format(job=family.restore_job),
                    skippable=True,
                    group_name=family.name,
                    kinds=KINDS,
                    tags=family.tags,
                )
            ],
        )
        def restored_meta(
            context: dg.AssetExecutionContext, repository: BackupRepositoryResource
        ) -> Iterator[dg.ObserveResult]:
            event = context.instance.get_latest_materialization_event(family.restored_meta)
            last = event.asset_materialization if event else None
            try:
                names = repository.open(family.name).store.names()
            except ShardkeeperError as error:  # a click that only asks fails nothing
                context.log.warning(what_happened(error))
                return
            points = sorted(n.removesuffix(".manifest") for n in names if n.endswith(".manifest"))
            restored = str(last.metadata["restore_point"].value) if last else ""
            newer = [point for point in points if point > restored]
            context.log.info(f"to restore, launch the job {family.restore_job}")
            yield dg.ObserveResult(
                asset_key=family.restored_meta,
                metadata={
                    "restored": restored or "nothing yet",
                    "restore_points_since": len(newer),
                    "newest_restore_point": points[-1] if points else "none",
                },
            )

        return restored_meta


def build_restore_op(family: Family) -> dg.OpDefinition:
    """The step of the restore job; what it did is an event of `restored_meta`."""

    @dg.op(
        name=family.restore_op,
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
            refuse_plain_secrets(context.run.run_config)
            options = config.options
            backups = repository.open(family.name)
            say_when(context.log, config.as_of)
            backup = backup_as_of(backups, config.as_of)
            point = backup.newest.file_name.removesuffix(".manifest")
            context.log.info(f"from the restore point {point}")
            server = target.open()
            if config.dry_run:
                plan = prepare_restore_into(server, backups, backup, options)
                planned = restore_plan_facts(plan, server.address)
                planned["to_restore"] = to_launch(
                    context.run.run_config, family.restore_op, config, {"as_of": point}
                )
                context.log_event(dg.AssetObservation(family.restored_meta, metadata=planned))
                context.log.warning(
                    "nothing is restored: this was the plan; launch with dry_run: false to restore"
                )
            else:
                _restore(context, family, server, backups, backup, options)

    return restore_backup


def _restore(
    context: dg.OpExecutionContext,
    family: Family,
    server: Server | Cluster,
    backups: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
) -> None:
    """Raises: ShardkeeperError: as `restore_into`, and as `check_complete` of its report."""
    try:
        report = restore_into(server, backups, backup, options, tell=telling(context.log))
    except ShardkeeperError as error:
        failed = {"outcome": "failed", "target": server.address, "why": what_happened(error)}
        context.log_event(dg.AssetObservation(family.restored_meta, metadata=failed))
        raise
    record_restore(Ledger.of_run(context, family), report, server.address)
    context.log_event(
        dg.AssetMaterialization(
            family.restored_meta, metadata=restore_facts(report, server.address)
        )
    )
    report.check_complete()


def build_restored_shards(family: Family) -> dg.AssetSpec:
    return dg.AssetSpec(
        family.restored_shards,
        deps=[family.shard_backup, family.restored_meta],
        description=SHARDS_DESCRIPTION.format(job=family.restore_job),
        partitions_def=family.partitions,
        group_name=family.name,
        kinds=KINDS,
        tags=family.tags,
    )
