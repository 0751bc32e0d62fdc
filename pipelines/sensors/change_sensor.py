"""`watch_…`: requests a backup as soon as a cluster differs from its archives."""

from __future__ import annotations

import time

import dagster as dg

from assets.evaluation import CheckEvaluator
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.metadata.common import for_people
from assets.reachability import reached
from pipelines.sensors.backoff import back_off
from pipelines.sensors.report_changes import report_changes
from pipelines.sensors.requests import BackUpJobs, default_status, request_backup, why_waiting
from pipelines.sensors.ticks import TickMemory, spoken
from resources.backup_repository import BackupRepositoryResource
from resources.clients.cluster import Cluster as OpenCluster
from resources.clients.server import Server
from resources.cluster import ClustersResource
from resources.config.opening import open_cluster
from resources.config.values import Cluster
from resources.engine.backup.poll import SourceFingerprint, fingerprint
from resources.engine.events import Event
from resources.engine.options import BackupOptions
from resources.errors import counted
from resources.repository.manifest_cache import ManifestCache
from resources.runtime.gc_pause import gc_paused

SILENCE_S = 15.0
"""How long a source may be silent to this sensor, which polls again soon."""


def change_sensor(
    cluster_assets: ClusterAssets, settings: Cluster, back_up_jobs: BackUpJobs
) -> dg.SensorDefinition:
    memory = TickMemory()
    evaluator = CheckEvaluator(cluster_assets, settings.objectives)

    @dg.sensor(
        name=f"watch_{cluster_assets.name}",
        jobs=back_up_jobs,
        minimum_interval_seconds=int(settings.watch_every),
        default_status=default_status(settings, "watch"),
        description=_description(settings),
    )
    @gc_paused()
    def poll(
        context: dg.SensorEvaluationContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.SensorResult | dg.SkipReason:
        now = back_off(context.instance, cluster_assets)
        if now.going:
            return dg.SkipReason(f"{now.going} is running")
        if time.time() < now.wait_until_s:
            return dg.SkipReason(why_waiting(now, cluster_assets))
        history = AssetHistory.outside(context.instance, cluster_assets)
        with spoken():
            with reached(history, cluster_assets):
                source, seen = _fingerprint(
                    memory, cluster_assets, clusters, internal=settings.internal
                )
            cached, shards = memory.directory(repository, cluster_assets.name), len(seen.marks)
            if context.cursor == seen.digest and not now.failures:
                return _at_rest(
                    cluster_assets,
                    settings,
                    cached,
                    f"none of {counted(shards, 'shard')} has changed",
                )
            _, poller = memory.of(cached.repository)
            options = BackupOptions(peek=True, internal=settings.internal)
            with reached(history, cluster_assets):
                found = memory.patience.wait_for(
                    f"comparing the shards of {cluster_assets.name}",
                    lambda: poller.poll(source, seen, options, emit=_quiet),
                )
            if found.something:
                report_changes(history, evaluator, cached, found)
                return request_backup(cluster_assets, _what_changed(len(found.changed)))
            if found.left:
                return dg.SkipReason(f"{found.left} of {counted(shards, 'shard')} still to compare")
            context.update_cursor(seen.digest)
            return _at_rest(
                cluster_assets,
                settings,
                cached,
                f"{counted(shards, 'shard equals its archive', 'shards equal their archives')}",
            )

    return poll


def _description(settings: Cluster) -> str:
    return (
        "Poll whether any shard, database or user has changed since its backup, and if so request "
        "one run of the backup job. If nothing has changed for half of "
        f"{for_people(settings.objectives.recovery_point)}, request one as well, so that the "
        "newest restore point stays recent. After a run that it requested has failed, the sensor "
        "waits a minute, then two, up to an hour."
    )


def _what_changed(n_shards: int) -> str:
    """What a request is called, as part of a run's key."""
    return (
        f"{counted(n_shards, 'shard')} changed".replace(" ", "-")
        if n_shards
        else "settings-changed"
    )


def _fingerprint(
    memory: TickMemory, cluster_assets: ClusterAssets, clusters: ClustersResource, *, internal: bool
) -> tuple[Server | OpenCluster, SourceFingerprint]:
    """Read the source's fingerprint.

    Raises:
        ShardkeeperError: the source does not answer, or not within the time of a tick.
    """

    def ask() -> tuple[Server | OpenCluster, SourceFingerprint]:
        source = open_cluster(clusters.reading(), cluster_assets.name, silence_s=SILENCE_S)
        return source, fingerprint(source, internal=internal)

    return memory.patience.wait_for(f"a poll of {cluster_assets.name}", ask)


def _at_rest(
    cluster_assets: ClusterAssets, settings: Cluster, cached: ManifestCache, why_not: str
) -> dg.SensorResult | dg.SkipReason:
    """Request a backup of an unchanged cluster before its newest restore point is too old."""
    newest, goal_s = cached.last_whole, settings.objectives.recovery_point
    if newest is not None and time.time() - newest.started_at.timestamp() > goal_s / 2:
        return request_backup(cluster_assets, "nothing-changed-for-long")
    return dg.SkipReason(why_not)


def _quiet(_event: Event) -> None:
    """Drop events: a sensor polls every few seconds, and the run that follows reports them."""
