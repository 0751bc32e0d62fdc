"""`shard_backup`: the newest archive of each shard, one partition each."""

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.evaluation import Judge
from assets.failures import explained
from assets.history.asset_history import Ledger
from assets.history.recording import record_backup, shard_keys
from assets.keys import CODE_VERSION, KINDS, Family
from assets.metadata.backups import failed_table
from assets.reachability import reached
from assets.run_config import CopyConfig
from assets.run_log import telling
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.engine.backup.run import back_up
from resources.repository.watched import WatchedRepository

DESCRIPTION = """
The newest archive of each shard.

It was checked while it was made. A partition is `database/retention policy/shard id`, and stale
once its shard holds something that the archive does not.

The job `{job}` copies all stale shards in a single run and is the usual way. Materializing
partitions here copies those shards alone, which is how to fill what is missing; a shard that is
unchanged is not copied again unless `full` is set.
"""
MOST_IN_ONE_RUN = 500


def build_shard_backup(family: Family) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        # backfill_policy is marked beta; the alternative is one run for each of 10,000 shards.
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(
            key=family.shard_backup,
            deps=[family.shards],
            description=DESCRIPTION.format(job=family.back_up_job),
            partitions_def=family.partitions,
            backfill_policy=dg.BackfillPolicy.multi_run(MOST_IN_ONE_RUN),
            code_version=CODE_VERSION,
            output_required=False,
            pool=family.pool,
            group_name=family.name,
            kinds=KINDS,
            tags=family.tags,
        )
        def shard_backup(
            context: dg.AssetExecutionContext,
            config: CopyConfig,
            clusters: ClustersResource,
            repository: BackupRepositoryResource,
        ) -> Iterator[Any]:
            ledger = Ledger.of_run(context, family)
            with explained() as more:
                wanted = shard_keys(list(context.partition_keys))
                with reached(ledger, family):
                    settings, source = clusters.settings(family.name), clusters.open(family.name)
                backups = WatchedRepository(repository.open(family.name))
                only = frozenset(key.shard_id for key in wanted.values())
                seen_before = ledger.observed()
                report = back_up(
                    source,
                    backups,
                    config.options(
                        settings,
                        repository.lock_wait(family.name),
                        only=only,
                        remembered=ledger.remembered(backups.location),
                    ),
                    tell=telling(context.log),
                    command=f"dagster run {context.run.run_id}",
                )
                record_backup(
                    ledger,
                    report,
                    backups,
                    archives=backups.archives,
                    seen_before=seen_before,
                    planned=True,
                )
                judge = Judge(family, settings.objectives)
                ledger.judge(judge.after_backup(ledger, backups, source, report))
                if report.failed:
                    more["failed"] = failed_table(report.failed)
                report.check_complete()
                report.check_covers(only)
            yield from ()

        return shard_backup
