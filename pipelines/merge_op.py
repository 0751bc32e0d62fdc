"""Merge a backup into a live database, as the step of a job."""

import dagster as dg

from assets.failures import explained
from assets.keys import ClusterAssets
from assets.metadata.common import Metadata
from assets.metadata.restores import merge_facts, merge_plan_facts, to_launch
from assets.run_config import MergeConfig
from assets.run_log import emit_to
from pipelines.launch_checks import require_no_plain_secrets, say_when
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import TargetResource
from resources.engine.events import Run
from resources.engine.merge.abandon import abandon_merge
from resources.engine.merge.merge_run import merge, prepare_merge
from resources.errors import UsageError


def build_merge_op(cluster_assets: ClusterAssets) -> dg.OpDefinition:
    """The step; its result is an observation of `restored_meta`."""

    @dg.op(
        name=f"{cluster_assets.name}_merge_backup",
        out=dg.Out(dg.Nothing),
        description="Restore beside the live database, copy its points, verify every one, and drop "
        "the restored database. The next run with these settings continues an interrupted merge.",
    )
    def merge_backup(
        context: dg.OpExecutionContext,
        config: MergeConfig,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> None:
        with explained():
            require_no_plain_secrets(context.run.run_config)
            options = config.options
            if config.abandon and config.dry_run:
                raise UsageError(
                    "abandon drops the temporary database, and dry_run changes nothing",
                    hint="set dry_run: false to abandon the merge",
                )
            if not config.abandon:
                options.check()
            reading = repository.reading()
            backups, live = repository.open(cluster_assets.name, reading), target.open(reading)
            run = Run(emit_to(context.log))
            if config.abandon:
                dropped = abandon_merge(live, backups, run)
                found: Metadata = {"target": live.address, "abandoned": dropped}
            elif config.dry_run:
                say_when(context.log, config.as_of)
                plan = prepare_merge(live, backups, options)
                found = merge_plan_facts(plan, live.address)
                found["to_merge"] = to_launch(context.run.run_config, context.op.name, config, {})
                context.log.warning("nothing was merged: this is the plan; dry_run: false merges")
            else:
                found = merge_facts(merge(live, backups, options, run), live.address)
        context.log_event(dg.AssetObservation(cluster_assets.restored_meta, metadata=found))

    return merge_backup
