"""Restore from the backups of a cluster, as the steps of a job."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from msgspec.structs import replace

from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.recording import record_restore
from assets.keys import ClusterAssets
from assets.messages import what_happened
from assets.metadata.backups import batch_sizes
from assets.metadata.restores import (
    filled_facts,
    restore_facts,
    restore_plan_facts,
    to_launch,
)
from assets.run_config import RestoreConfig
from assets.run_locks import command_of, has_ended
from assets.run_log import emit_to
from pipelines.launch_checks import require_no_plain_secrets, say_when
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import TargetResource
from resources.config.values import ClusterLimits, Executor
from resources.engine.events import Run
from resources.engine.restore.as_of import backup_as_of
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import restore_or_leave
from resources.engine.restore.step_run import RestoreInSteps
from resources.engine.restore_steps import (
    RestoreGivenUp,
    activate_step,
    batch_step,
    may_pass,
)
from resources.engine.restore_target import restore_target
from resources.engine.workers.steps import StepSettings
from resources.errors import LockLost, ShardkeeperError, StoreFailed
from resources.repository.storage.lock import give_up_ended

RETRIES, RETRY_DELAY_S = 2, 5


class _Step:
    """A step of a restore: its repository and target, and what it records.

    Raises:
        ShardkeeperError: one of them cannot be opened.
    """

    def __init__(
        self,
        context: dg.OpExecutionContext,
        cluster_assets: ClusterAssets,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> None:
        self._context = context
        self._cluster_assets = cluster_assets
        reading = repository.reading()
        self.backups = repository.open(cluster_assets.name, reading)
        self.target = target.open(reading)
        self.run = Run(emit_to(context.log))
        self._gap_s = reading.repository(cluster_assets.name).run_lease

    def settings(self, batch_bytes: int = 0) -> StepSettings:
        return StepSettings(batch_bytes, self._gap_s, command_of(self._context))

    def plan(
        self, config: RestoreConfig, options: RestoreOptions, batch_bytes: int
    ) -> RestoreReport | RestoreInSteps | None:
        """Plan, and carry out what is small; None: nothing but a plan was wanted.

        Raises:
            ShardkeeperError: as `restore_or_leave`.
        """
        log = self._context.log
        backup = backup_as_of(self.backups, config.as_of)
        point = backup.newest.file_name.removesuffix(".manifest")
        log.info(f"from the restore point {point}")
        into = restore_target(self.target, self.backups, self.run, options.new_shard_id)
        if not config.dry_run:
            give_up_ended(self.backups.store, has_ended(self._context.instance))
            settings = self.settings(batch_bytes) if batch_bytes else None
            return restore_or_leave(into, backup, options, settings)
        planned = restore_plan_facts(into.plan(backup, options), self.target.address)
        planned["to_restore"] = to_launch(
            self._context.run.run_config, self._cluster_assets.restore_op, config, {"as_of": point}
        )
        self._observe(planned)
        log.warning("nothing is restored: this was the plan; launch with dry_run: false to restore")
        return None

    def record(self, report: RestoreReport) -> None:
        """Record what was restored.

        Raises:
            RestorePartial: something was damaged at the source, and so left out.
        """
        address, assets = self.target.address, self._cluster_assets
        record_restore(AssetHistory.of_run(self._context, assets), report, address)
        self._context.log_event(
            dg.AssetMaterialization(assets.restored_meta, metadata=restore_facts(report, address))
        )
        report.check_complete()

    def record_failure(self, error: ShardkeeperError) -> None:
        """Record that the restore failed, and why."""
        why = what_happened(error)
        self._observe({"outcome": "failed", "target": self.target.address, "why": why})

    def _observe(self, facts: Mapping[str, Any]) -> None:
        asset = self._cluster_assets.restored_meta
        self._context.log_event(dg.AssetObservation(asset, metadata=facts))


def build_restore_steps(
    cluster_assets: ClusterAssets, limits: ClusterLimits, executor: Executor
) -> Callable[[], None]:
    """The steps of the restore job; what they did is an event of `restored_meta`.

    Returns their composition, to be called in the job.
    """
    nodes = [f"node_{number}" for number in range(1, executor.nodes + 1)]
    plan_restore = _planning(cluster_assets, limits, nodes, executor.step_bytes)
    fillings = {node: _filling(cluster_assets, node, executor.step_bytes) for node in nodes}
    activate_restore = _activating(cluster_assets, nodes)

    def steps() -> None:
        planned: Any = plan_restore()
        done = {node: _each(fillings[node], getattr(planned, node)) for node in nodes}
        activate_restore(planned=planned.planned, **done)

    return steps


def _each(fill: dg.OpDefinition, batches: Any) -> Any:
    return batches.map(lambda batch: fill(batch=batch)).collect()


def _planning(
    cluster_assets: ClusterAssets, limits: ClusterLimits, nodes: Sequence[str], batch_bytes: int
) -> dg.OpDefinition:
    @dg.op(
        name=cluster_assets.restore_op,
        out={
            "planned": dg.Out(
                str, is_required=False, description="The restore that other steps complete."
            ),
            # Required, though there may be none: see assets/backup_set.py.
            **{node: dg.DynamicOut(dg.Nothing) for node in nodes},
        },
        description="Check every archive and create the databases. What one step can restore is "
        "restored and read back at once; otherwise the steps that follow do that, in batches. All "
        "of it is undone on an error. With dry_run, which is the default, show the plan.",
    )
    def plan_restore(
        context: dg.OpExecutionContext,
        config: RestoreConfig,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> Iterator[Any]:
        with explained():
            require_no_plain_secrets(context.run.run_config)
            options = replace(config.options, workers=limits.workers)
            say_when(context.log, config.as_of)
            step = _Step(context, cluster_assets, repository, target)
            try:
                planned = step.plan(config, options, batch_bytes)
            except ShardkeeperError as error:
                if not config.dry_run:
                    step.record_failure(error)
                raise
            if isinstance(planned, RestoreReport):
                step.record(planned)
        if not isinstance(planned, RestoreInSteps):
            return
        facts = {"batches": len(planned.batches), **batch_sizes(planned.batches)}
        yield dg.Output(planned.key, "planned", metadata=facts)
        for batch in planned.batches:
            yield dg.DynamicOutput(
                None,
                mapping_key=batch.name,
                output_name=nodes[batch.node % len(nodes)],
                metadata=batch_sizes([batch]),
            )

    return plan_restore


def _filling(cluster_assets: ClusterAssets, node: str, batch_bytes: int) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_fill_{node}",
        ins={"batch": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        # Where no batch is a step, a pool would only have restores wait for each other.
        pool=f"{cluster_assets.name}_restore_{node}" if batch_bytes else None,
        retry_policy=dg.RetryPolicy(max_retries=RETRIES, delay=RETRY_DELAY_S),
        description="Send the shards of one batch, and read them back. If that fails for good, the "
        "other batches end, and what the restore created is taken back.",
    )
    def fill_batch(
        context: dg.OpExecutionContext,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> Iterator[Any]:
        is_last = context.retry_number >= RETRIES
        with explained(again=StoreFailed):
            step = _Step(context, cluster_assets, repository, target)
            name, settings = context.get_mapping_key() or "", step.settings()
            try:
                done = batch_step(
                    step.target, step.backups, name, settings, step.run, is_last=is_last
                )
            except (LockLost, RestoreGivenUp):
                raise
            except ShardkeeperError as error:
                if is_last or not may_pass(error):
                    step.record_failure(error)
                raise
        yield dg.Output(None, metadata=filled_facts(done))

    return fill_batch


def _activating(cluster_assets: ClusterAssets, nodes: Sequence[str]) -> dg.OpDefinition:
    @dg.op(
        name=f"{cluster_assets.name}_activate_restore",
        ins={"planned": dg.In(str), **{node: dg.In(dg.Nothing) for node in nodes}},
        out=dg.Out(dg.Nothing),
        retry_policy=dg.RetryPolicy(max_retries=RETRIES, delay=RETRY_DELAY_S),
        description="Check that every shard was read back, give them their readers, and report. On "
        "an error, what the restore created is taken back.",
    )
    def activate_restore(
        context: dg.OpExecutionContext,
        repository: BackupRepositoryResource,
        target: TargetResource,
        planned: str,
    ) -> None:
        with explained(again=StoreFailed):
            step = _Step(context, cluster_assets, repository, target)
            try:
                report = activate_step(
                    step.target, step.backups, planned, step.settings(), step.run
                )
            except LockLost:
                raise
            except ShardkeeperError as error:
                step.record_failure(error)
                raise
            step.record(report)

    return activate_restore
