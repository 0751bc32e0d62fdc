"""`alerts_…`: posts troubles with the backups of a cluster to webhooks, until they are over."""

from __future__ import annotations

import time

import dagster as dg

from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from pipelines.sensors.alerts import Alerts
from pipelines.sensors.requests import running_if
from pipelines.sensors.ticks import TickMemory, spoken
from pipelines.sensors.troubles import troubles
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.config.values import Cluster, Configuration
from resources.errors import ShardkeeperError
from resources.repository.manifest_cache import ManifestCache
from resources.runtime.gc_pause import gc_paused


def alerts_sensor(
    cluster_assets: ClusterAssets, settings: Cluster, configuration: Configuration, url: str
) -> dg.SensorDefinition:
    """Report troubles without a failed run to the webhooks that are configured for the cluster."""
    memory = TickMemory()

    @dg.sensor(
        name=f"alerts_{cluster_assets.name}",
        minimum_interval_seconds=int(settings.watch_every),
        default_status=running_if(
            any(
                not one.clusters or cluster_assets.name in one.clusters
                for one in configuration.notify
            )
        ),
        description="Post to the webhooks under notify in shardkeeper.yaml when the recovery point "
        "objective is missed, the cluster has not answered for a minute, the directory of backups "
        "cannot be read or a check of stored backups has failed, and again when that is over. The "
        "sensor does not contact the cluster; it posts again what a webhook did not accept.",
    )
    @gc_paused()
    def alerts(
        context: dg.SensorEvaluationContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.SkipReason:
        now_s = time.time()
        before = Alerts.of(context.cursor, now_s)
        with spoken():
            current = clusters.reading().configuration
        try:
            cached: ManifestCache | ShardkeeperError
            cached = memory.directory(repository, cluster_assets.name)
        except ShardkeeperError as error:
            cached = error
        history = AssetHistory.outside(context.instance, cluster_assets)
        found = troubles(
            history, cluster_assets, settings.objectives, cached, first_s=before.first_s
        )
        link = f"{url}/assets/{'/'.join(cluster_assets.backup_set.path)}" if url else ""
        after = before.advance(current, [cluster_assets.name], list(found), now_s, link)
        context.update_cursor(after.cursor)
        for error in after.outbox.errors:
            context.log.error(str(error))
        return dg.SkipReason(after.summary)

    return alerts
