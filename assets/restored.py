"""`restored_meta` and `restored_shards`: what was brought back, and where to."""

from collections.abc import Iterator

import dagster as dg

from assets.config import RestoreConfig
from assets.facts.restores import restore_facts, restore_plan_facts
from assets.failures import explained
from assets.family import KINDS, Family
from assets.ledger import Ledger
from assets.recording import record_restore
from assets.telling import telling
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import TargetResource
from resources.engine.restore.as_of import backup_as_of
from resources.engine.restore_into import prepare_restore_into, restore_into
from resources.errors import UsageError

META_DESCRIPTION = """
What was restored: where to, and the proof.

Databases and policies brought back on a target, with all their shards. Every archive is checked
before the target is touched, and every shard is read back from it afterwards. If anything fails,
what this restore created is dropped again, and nothing else is.

Only the job `{job}` makes it; materializing assets never does. With `dry_run` it shows the plan: a
table on an observation of this asset. "Unsynced" means that there is a newer restore point than
the one that was restored.
"""
SHARDS_DESCRIPTION = """
The shards that were restored and read back.

They hold what their archive holds. Partitions are named after the shard they came from. Made by the
job `{job}`, through `restored_meta`.
"""


def build_restored_meta(family: Family) -> dg.AssetsDefinition:
    @dg.asset(
        key=family.restored_meta,
        deps=[family.backup_set],
        description=META_DESCRIPTION.format(job=family.restore_job),
        output_required=False,
        group_name=family.name,
        kinds=KINDS,
        tags=family.tags,
    )
    def restored_meta(
        context: dg.AssetExecutionContext,
        config: RestoreConfig,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> Iterator[dg.MaterializeResult]:
        with explained():
            if context.run.job_name != family.restore_job:
                together = len(context.run.asset_selection or ()) > 1
                if together or "dagster/backfill" in context.run.tags:  # "Materialize all"
                    context.log.warning(f"nothing restored: only {family.restore_job} does that")
                    return
                raise UsageError(
                    "a restore changes a server, so it is never part of materializing assets",
                    hint=f"launch the job {family.restore_job}; its dry_run only shows the plan",
                )
            options = config.options
            backups = repository.open(family.name)
            backup = backup_as_of(backups, config.as_of)
            server = target.open()
            if config.dry_run:
                plan = prepare_restore_into(server, backups, backup, options)
                planned = restore_plan_facts(plan, server.address)
                context.log_event(dg.AssetObservation(family.restored_meta, metadata=planned))
                context.log.warning(
                    "nothing is restored: this was the plan; launch with dry_run: false to restore"
                )
                return
            report = restore_into(server, backups, backup, options, tell=telling(context.log))
        record_restore(Ledger.of_run(context, family), report, server.address)
        yield dg.MaterializeResult(metadata=restore_facts(report, server.address))

    return restored_meta


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
