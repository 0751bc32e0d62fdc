"""`missed_…`: evaluates the recovery point objective while the cluster may be away."""

from __future__ import annotations

import time

import dagster as dg

from assets.evaluation import Judge
from assets.history.asset_history import Ledger
from assets.keys import Family
from assets.metadata.common import for_people
from pipelines.sensors.backoff import pace
from pipelines.sensors.cursor import Standing
from pipelines.sensors.requests import BackUpJobs, default_status, request_backup, why_waiting
from pipelines.sensors.ticks import TickMemory, spoken
from resources.backup_repository import BackupRepositoryResource
from resources.collector import collector_at_rest
from resources.config.values import Cluster

MISSED_EVERY_S = 60


def rpo_sensor(family: Family, settings: Cluster, back_up_jobs: BackUpJobs) -> dg.SensorDefinition:
    memory = TickMemory()
    objectives = settings.objectives
    asks = objectives.missed == "request"
    judge = Judge(family, objectives)
    goal = for_people(objectives.recovery_point)

    @dg.sensor(
        name=f"missed_{family.name}",
        jobs=back_up_jobs,
        minimum_interval_seconds=MISSED_EVERY_S,
        default_status=default_status(settings, "missed"),
        description=f"Look for shards that no backup of the last {goal} covers; the check "
        "within_objective lists them"
        + (", and a backup is asked for. " if asks else ". ")
        + "The cluster is not asked, so it judges while the cluster is away, too.",
    )
    @collector_at_rest()
    def missed(
        context: dg.SensorEvaluationContext, repository: BackupRepositoryResource
    ) -> dg.SensorResult | dg.SkipReason:
        with spoken():
            watched = memory.directory(repository, family.name)
            places = watched.covered()
            ledger = Ledger.outside(context.instance, family)
            standing = Standing.of(context.cursor)
            standing = standing.look(judge, ledger, watched, watched.metastore(), places)
        context.update_cursor(standing.cursor)
        if standing.passed:
            return dg.SkipReason(f"{len(places)} shards are in a backup that is young enough")
        text = f"{standing.late} of {len(places)} shards are in no backup of the last {goal}"
        if watched.newest is None:
            text = "there is no backup yet"
        if not asks:
            return dg.SkipReason(text)
        now = pace(context.instance, family)
        if now.going:
            return dg.SkipReason(f"{text}; {now.going} is at work")
        if time.time() < now.wait_until_s:
            return dg.SkipReason(f"{text}; {why_waiting(now, family)}")
        if standing.looks < 2:  # another sensor may have asked in this very moment
            return dg.SkipReason(f"{text}; asks for one at the next look")
        return request_backup(family, "missed")

    return missed
