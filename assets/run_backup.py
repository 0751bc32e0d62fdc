"""A backup as steps of a run: the common part of `shard_backup` and `backup_set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg
from msgspec.structs import replace

from assets.evaluation import CheckEvaluator
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.public_calls import Context
from assets.history.recording import record_backup, server_version, shard_keys
from assets.keys import ClusterAssets
from assets.metadata.backups import copied_facts, failed_table
from assets.reachability import reached
from assets.run_config import CopyConfig
from assets.run_locks import command_of, has_ended
from assets.run_log import emit_to
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.opening import open_cluster
from resources.engine.backup.batch import BatchDone
from resources.engine.backup.run import BackupReport
from resources.engine.backup.steps import (
    BackupInSteps,
    batch_step,
    commit_step,
    plan_step,
)
from resources.engine.events import Run
from resources.engine.workers.steps import StepSettings
from resources.repository.manifest_cache import ManifestCache
from resources.repository.storage.lock import give_up_ended


class BackupStep:
    """A step of a backup: its cluster and repository, and what it records.

    Raises:
        ShardkeeperError: one of them cannot be opened.
    """

    def __init__(
        self,
        context: Context,
        cluster_assets: ClusterAssets,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> None:
        self._context = context
        self._cluster_assets = cluster_assets
        self._history = AssetHistory.of_run(context, cluster_assets)
        with reached(self._history, cluster_assets):
            self._reading = clusters.reading()
            self._settings = self._reading.cluster(cluster_assets.name)
            self._source = open_cluster(self._reading, cluster_assets.name)
        self._backups = repository.open(cluster_assets.name, self._reading)
        self._cached = ManifestCache(self._backups)
        gap_s = self._reading.repository(cluster_assets.name).run_lease
        self._steps = StepSettings(0, gap_s, command_of(context))
        self._seen_before: Mapping[str, str] = {}
        self._run = Run(emit_to(context.log))

    def plan(
        self, config: CopyConfig, partitions: Sequence[str] | None = None, *, batch_bytes: int = 0
    ) -> BackupReport | BackupInSteps:
        """Plan, and carry out what is small.

        Args:
            partitions: keys of the shards to copy; None: all that changed within `config.limits`.
            batch_bytes: what makes a batch worth a step; 0: nothing does.
        """
        self._seen_before = self._history.observed()
        keys = None if partitions is None else shard_keys(partitions)
        only = None if keys is None else frozenset(key.location for key in keys.values())
        lock_wait_s = self._reading.repository(self._cluster_assets.name).lock_wait
        remembered = self._history.remembered(self._backups.location)
        options = config.options(self._settings, lock_wait_s, only=only, remembered=remembered)
        settings = replace(self._steps, batch_bytes=batch_bytes)
        give_up_ended(self._backups.store, has_ended(self._context.instance))
        return plan_step(self._source, self._backups, options, self._run, settings, self._cached)

    def batch(self, step: str) -> BatchDone:
        """Do a batch."""
        return batch_step(self._source, self._backups, step, self._steps, self._run)

    def newest_observation(self) -> int:
        """To be passed from the step that plans to the one that commits."""
        return self._history.newest_observation()

    def commit(self, backup: str, key: str, newest_observation: int) -> BackupReport | None:
        """Commit what the batches did; None: that was done before."""
        self._seen_before = self._history.observed_until(newest_observation)
        return commit_step(self._source, self._backups, backup, key, self._steps, self._run)

    def record(
        self, report: BackupReport, more: dict[str, dg.MetadataValue], *, planned: bool = False
    ) -> None:
        """Record a backup, and evaluate the checks.

        Args:
            more: gets what a run's page shows beside its error, if shards failed.
            planned: whether Dagster expects an event for each shard of the run.

        Raises:
            BackupPartial: something was not saved; the rest is committed and recorded.
        """
        history, cached = self._history, self._cached
        record_backup(
            history,
            report,
            cached,
            archives=cached.archives,
            seen_before=self._seen_before,
            planned=planned,
        )
        if not planned and not report.manifest.limits:
            _record_source(history, report)
        evaluator = CheckEvaluator(self._cluster_assets, self._settings.objectives)
        history.record_checks(evaluator.after_backup(history, cached, self._source, report))
        more |= _failures(report, self._backups.location)
        report.check_complete()


def run_backup(
    context: Context,
    cluster_assets: ClusterAssets,
    config: CopyConfig,
    clusters: ClustersResource,
    repository: BackupRepositoryResource,
    *,
    partitions: Sequence[str],
) -> BackupReport:
    """Copy shards that changed, record it, evaluate the checks, all in one step.

    Args:
        partitions: keys of the shards.

    Raises:
        dg.Failure: something was not saved; the rest is committed and recorded.
    """
    with explained() as more:
        step = BackupStep(context, cluster_assets, clusters, repository)
        report = step.plan(config, partitions)
        assert isinstance(report, BackupReport)  # noqa: S101 - no batch is a step
        step.record(report, more, planned=True)
        report.check_covers([key.location for key in shard_keys(partitions).values()])
    return report


def _failures(report: BackupReport, location: str) -> dict[str, dg.MetadataValue]:
    """What a run's page shows beside its error, if shards failed."""
    if not report.failed:
        return {}
    manifest = dg.MetadataValue.path(f"{location}/{report.manifest_file}")
    return {"failed": failed_table(report.failed), "manifest": manifest}


def _record_source(history: AssetHistory, report: BackupReport) -> None:
    """Record the state of the whole server, if the backup saw one that was not known."""
    version = server_version(history, report.metastore)
    if version != history.source_version():
        history.see_source(version, copied_facts(report, history.gone()))
