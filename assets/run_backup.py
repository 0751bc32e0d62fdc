"""A backup as a step of a run: the common part of `shard_backup` and `backup_set`."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from assets.evaluation import CheckEvaluator
from assets.failures import explained
from assets.history.asset_history import AssetHistory
from assets.history.public_calls import Context
from assets.history.recording import record_backup, server_version, shard_keys
from assets.keys import ClusterAssets
from assets.metadata.backups import copied_facts, failed_table
from assets.reachability import reached
from assets.run_config import CopyConfig
from assets.run_log import emit_to
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.opening import open_cluster
from resources.engine.backup.run import BackupReport, back_up
from resources.engine.events import Run
from resources.repository.manifest_cache import ManifestCache


def run_backup(
    context: Context,
    cluster_assets: ClusterAssets,
    config: CopyConfig,
    clusters: ClustersResource,
    repository: BackupRepositoryResource,
    *,
    partitions: Sequence[str] | None = None,
) -> BackupReport:
    """Copy what changed, record it, evaluate the checks.

    Args:
        partitions: keys of the shards to copy; None: all that changed within `config.limits`.

    Raises:
        dg.Failure: something was not saved; the rest is committed and recorded.
    """
    history = AssetHistory.of_run(context, cluster_assets)
    with explained() as more:
        keys = None if partitions is None else shard_keys(partitions)
        only = None if keys is None else frozenset(key.location for key in keys.values())
        with reached(history, cluster_assets):
            reading = clusters.reading()
            settings = reading.cluster(cluster_assets.name)
            source = open_cluster(reading, cluster_assets.name)
        backups = repository.open(cluster_assets.name, reading)
        cached = ManifestCache(backups)
        seen_before = history.observed()
        report = back_up(
            source,
            backups,
            config.options(
                settings,
                reading.repository(cluster_assets.name).lock_wait,
                only=only,
                remembered=history.remembered(backups.location),
            ),
            Run(emit_to(context.log)),
            command=f"dagster run {context.run.run_id}",
            cache=cached,
        )
        record_backup(
            history,
            report,
            cached,
            archives=cached.archives,
            seen_before=seen_before,
            planned=only is not None,
        )
        if only is None and not config.limits:
            _record_source(history, report)
        evaluator = CheckEvaluator(cluster_assets, settings.objectives)
        history.record_checks(evaluator.after_backup(history, cached, source, report))
        more |= _failures(report, backups.location)
        report.check_complete()
        if only is not None:
            report.check_covers(only)
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
