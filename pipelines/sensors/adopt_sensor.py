"""`adopt_…`: records backups that were made on the command line."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from assets.evaluation import Judge
from assets.history.asset_history import Ledger
from assets.keys import Family
from pipelines.sensors.adopt_backups import adopt
from pipelines.sensors.backoff import pace
from pipelines.sensors.cursor import Standing
from pipelines.sensors.requests import default_status
from pipelines.sensors.ticks import TickMemory, spoken
from resources.backup_repository import BackupRepositoryResource
from resources.collector import collector_at_rest
from resources.config.values import Cluster


def adopt_sensor(family: Family, settings: Cluster) -> dg.SensorDefinition:
    memory = TickMemory()
    judge = Judge(family, settings.objectives)

    @dg.sensor(
        name=f"adopt_{family.name}",
        minimum_interval_seconds=int(settings.watch_every),
        default_status=default_status(settings, "adopt"),
        description="Look into the directory of backups: record those that were made on the "
        "command line, with their own time and provenance, and turn checks when the newest one "
        "becomes too old. The cluster is not asked.",
    )
    @collector_at_rest()
    def adopting(
        context: dg.SensorEvaluationContext, repository: BackupRepositoryResource
    ) -> dg.SensorResult | dg.SkipReason:
        now = pace(context.instance, family)
        if now.going:
            return dg.SkipReason(f"{now.going} is at work")
        with spoken():
            watched = memory.directory(repository, family.name)
            ledger, standing = Ledger.outside(context.instance, family), Standing.of(context.cursor)
            adopted = adopt(ledger, watched, standing.adopted)
            if adopted.something:
                ledger.judge(judge.after_adoption(ledger, watched))
            else:
                ledger.judge(judge.anew(ledger, watched))
            standing = standing.look(judge, ledger, watched, watched.metastore(), watched.covered())
        context.update_cursor(replace(standing, adopted=adopted.cursor).cursor)
        return dg.SkipReason(adopted.text)

    return adopting
