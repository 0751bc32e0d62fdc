"""`missed_…`: evaluates the recovery point objective, also while the cluster is away."""

from __future__ import annotations

import time

import dagster as dg

from assets.evaluation import CheckEvaluator
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.metadata.common import for_people
from pipelines.sensors.backoff import back_off
from pipelines.sensors.cursor import SensorCursor
from pipelines.sensors.requests import BackUpJobs, default_status, request_backup, why_waiting
from pipelines.sensors.ticks import TickMemory, spoken
from resources.backup_repository import BackupRepositoryResource
from resources.config.values import Cluster
from resources.errors import counted
from resources.runtime.gc_pause import gc_paused

MISSED_EVERY_S = 60


def rpo_sensor(
    cluster_assets: ClusterAssets, settings: Cluster, back_up_jobs: BackUpJobs
) -> dg.SensorDefinition:
    memory = TickMemory()
    objectives = settings.objectives
    asks = objectives.missed == "request"
    evaluator = CheckEvaluator(cluster_assets, objectives)
    goal = for_people(objectives.recovery_point)

    @dg.sensor(
        name=f"missed_{cluster_assets.name}",
        jobs=back_up_jobs,
        minimum_interval_seconds=MISSED_EVERY_S,
        default_status=default_status(settings, "missed"),
        description=f"Find shards that no backup of the last {goal} covers; the check "
        "within_objective lists them"
        + (", and the sensor requests a backup. " if asks else ". ")
        + "The sensor does not contact the cluster, so it also works while the cluster is away.",
    )
    @gc_paused()
    def missed(
        context: dg.SensorEvaluationContext, repository: BackupRepositoryResource
    ) -> dg.SensorResult | dg.SkipReason:
        with spoken():
            cached = memory.directory(repository, cluster_assets.name)
            places = cached.covered()
            history = AssetHistory.outside(context.instance, cluster_assets)
            cursor = SensorCursor.of(context.cursor)
            cursor = cursor.advance(evaluator, history, cached, cached.metastore(), places)
        context.update_cursor(cursor.cursor)
        if cursor.passed:
            return dg.SkipReason(
                f"{counted(len(places), 'shard is', 'shards are')} in a recent enough backup"
            )
        all_ = f"of {counted(len(places), 'shard')}"
        which = counted(cursor.late, f"{all_} is", f"{all_} are")
        text = f"{which} in no backup of the last {goal}"
        if cached.newest is None:
            text = "there is no backup yet"
        if not asks:
            return dg.SkipReason(text)
        now = back_off(context.instance, cluster_assets)
        if now.going:
            return dg.SkipReason(f"{text}; {now.going} is running")
        if time.time() < now.wait_until_s:
            return dg.SkipReason(f"{text}; {why_waiting(now, cluster_assets)}")
        if cursor.looks < 2:  # another sensor may have requested one at this moment
            return dg.SkipReason(f"{text}; the next tick requests one")
        return request_backup(cluster_assets, "missed")

    return missed
