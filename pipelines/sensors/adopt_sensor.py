"""`adopt_…`: records backups that were made on the command line."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from assets.evaluation import CheckEvaluator
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from pipelines.sensors.adopt_backups import adopt
from pipelines.sensors.backoff import back_off
from pipelines.sensors.cursor import SensorCursor
from pipelines.sensors.requests import default_status
from pipelines.sensors.ticks import TickMemory, spoken
from resources.backup_repository import BackupRepositoryResource
from resources.config.values import Cluster
from resources.runtime.gc_pause import gc_paused


def adopt_sensor(cluster_assets: ClusterAssets, settings: Cluster) -> dg.SensorDefinition:
    memory = TickMemory()
    evaluator = CheckEvaluator(cluster_assets, settings.objectives)

    @dg.sensor(
        name=f"adopt_{cluster_assets.name}",
        minimum_interval_seconds=int(settings.watch_every),
        default_status=default_status(settings, "adopt"),
        description="Scan the directory of backups: record backups that were made on the command "
        "line, with their own time and provenance, and update the checks when the newest one "
        "becomes too old. The sensor does not contact the cluster.",
    )
    @gc_paused()
    def adopting(
        context: dg.SensorEvaluationContext, repository: BackupRepositoryResource
    ) -> dg.SensorResult | dg.SkipReason:
        now = back_off(context.instance, cluster_assets)
        if now.going:
            return dg.SkipReason(f"{now.going} is running")
        with spoken():
            cached = memory.directory(repository, cluster_assets.name)
            history, cursor = (
                AssetHistory.outside(context.instance, cluster_assets),
                SensorCursor.of(context.cursor),
            )
            adopted = adopt(history, cached, cursor.adopted)
            if adopted.something:
                history.record_checks(evaluator.after_adoption(history, cached))
            else:
                history.record_checks(evaluator.anew(history, cached))
            cursor = cursor.advance(
                evaluator, history, cached, cached.metastore(), cached.covered()
            )
        context.update_cursor(replace(cursor, adopted=adopted.cursor).cursor)
        return dg.SkipReason(adopted.text)

    return adopting
