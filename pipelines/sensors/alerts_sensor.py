"""`alerts_…`: posts to webhooks what is wrong with the backups of a cluster, until it is over."""

from __future__ import annotations

import time

import dagster as dg

from assets.history.asset_history import Ledger
from assets.keys import Family
from pipelines.sensors.alerts import Alerts
from pipelines.sensors.requests import running_if
from pipelines.sensors.ticks import TickMemory, spoken
from pipelines.sensors.troubles import troubles
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.collector import collector_at_rest
from resources.config.values import Cluster, Configuration
from resources.errors import ShardkeeperError
from resources.repository.watched import WatchedRepository


def alerts_sensor(
    family: Family, settings: Cluster, configuration: Configuration, url: str
) -> dg.SensorDefinition:
    """Tell the teams that asked for it of what is wrong without a run having failed."""
    memory = TickMemory()

    @dg.sensor(
        name=f"alerts_{family.name}",
        minimum_interval_seconds=int(settings.watch_every),
        default_status=running_if(
            any(not one.clusters or family.name in one.clusters for one in configuration.notify)
        ),
        description="Post to the webhooks under notify in shardkeeper.yaml when the recovery point "
        "objective is missed, the cluster has not answered for a minute, the directory of backups "
        "cannot be read or a check of what is stored has failed, and again when it is over. The "
        "cluster is not asked; what nobody has heard is said again.",
    )
    @collector_at_rest()
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
            watched: WatchedRepository | ShardkeeperError
            watched = memory.directory(repository, family.name)
        except ShardkeeperError as error:
            watched = error
        ledger = Ledger.outside(context.instance, family)
        found = troubles(ledger, family, settings.objectives, watched, first_s=before.first_s)
        link = f"{url}/assets/{'/'.join(family.backup_set.path)}" if url else ""
        after = before.look(current, [family.name], list(found), now_s, link)
        context.update_cursor(after.cursor)
        for error in after.outbox.errors:
            context.log.error(str(error))
        return dg.SkipReason(after.summary)

    return alerts
