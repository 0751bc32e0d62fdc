"""What starts work by itself, and what tells people: sensors, switched on and off in the UI."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from assets.adopting import adopt
from assets.family import Family
from assets.judging import Judge
from assets.ledger import Ledger
from assets.notifying import notify
from assets.pacing import pace
from assets.standing import Standing
from assets.watching import report_changes
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.collector import collector_at_rest
from resources.config.reading import read_configuration
from resources.config.values import Cluster, Configuration
from resources.engine.backup.watch import Watcher, glance
from resources.engine.events import Event
from resources.engine.options import BackupOptions
from resources.errors import ShardkeeperError
from resources.repository.repository import BackupRepository
from resources.repository.watched import WatchedRepository

MISSED_EVERY_S = 60


class _Memory:
    """What a sensor keeps in its process between its looks; losing it costs a longer look."""

    def __init__(self) -> None:
        self.repository: WatchedRepository | None = None
        self.watcher: Watcher | None = None

    def of(self, repository: BackupRepository) -> tuple[WatchedRepository, Watcher]:
        if (
            self.repository is None
            or self.watcher is None
            or self.repository.location != repository.location
        ):
            self.repository = WatchedRepository(repository)
            self.watcher = Watcher(self.repository)
        return self.repository, self.watcher


def sensors(family: Family, settings: Cluster) -> list[dg.SensorDefinition]:
    """Those of one cluster."""
    return [
        watch_sensor(family, settings),
        missed_sensor(family, settings),
        adopt_sensor(family, settings),
    ]


def watch_sensor(family: Family, settings: Cluster) -> dg.SensorDefinition:
    memory = _Memory()
    judge = Judge(family, settings.objectives)

    @dg.sensor(
        name=f"watch_{family.name}",
        job_name=family.back_up_job,
        minimum_interval_seconds=int(settings.watch_every),
        default_status=_status(settings, "watch"),
        description="Look whether any shard, database or user has changed since its backup, and "
        "if so ask for one run of the backup job. After a failed run it waits a minute, then two, "
        "up to an hour.",
    )
    @collector_at_rest()
    def watch(
        context: dg.SensorEvaluationContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.SensorResult | dg.SkipReason:
        now = pace(context.instance, family)
        if now.going:
            return dg.SkipReason(f"{now.going} is at work")
        if time.time() < now.wait_until_s:
            return dg.SkipReason(
                f"the last {now.failures} backups failed; looks again at {_utc(now.wait_until_s)}"
            )
        source = clusters.open(family.name)
        seen = glance(source, internal=settings.internal)
        if context.cursor == seen.digest and not now.failures:
            return dg.SkipReason(f"none of {len(seen.marks)} shards has changed")
        watched, watcher = memory.of(repository.open(family.name))
        options = BackupOptions(peek=True, internal=settings.internal)
        found = watcher.look(source, seen, options, tell=_quiet)
        if found.something:
            ledger = Ledger.outside(context.instance, family)
            report_changes(ledger, judge, watched, found)
            count = len(found.changed)
            what = f"{count} shard{'s' * (count != 1)} changed" if count else "settings changed"
            tags = {**family.tags, "shardkeeper/why": what.replace(" ", "-")}
            return dg.SensorResult(run_requests=[dg.RunRequest(tags=tags)])
        if found.left:
            return dg.SkipReason(f"{found.left} of {len(seen.marks)} shards are yet to be compared")
        context.update_cursor(seen.digest)
        return dg.SkipReason(f"{len(seen.marks)} shards are as in their archives")

    return watch


def missed_sensor(family: Family, settings: Cluster) -> dg.SensorDefinition:
    memory = _Memory()
    objectives = settings.objectives
    asks = objectives.missed == "request"
    judge = Judge(family, objectives)

    @dg.sensor(
        name=f"missed_{family.name}",
        job_name=family.back_up_job,
        minimum_interval_seconds=MISSED_EVERY_S,
        default_status=_status(settings, "missed"),
        description="Look for shards that no backup of the last "
        f"{timedelta(seconds=objectives.recovery_point)} covers; the check within_objective lists "
        "them, and " + ("a backup is asked for." if asks else "whoever is notified is told."),
    )
    @collector_at_rest()
    def missed(
        context: dg.SensorEvaluationContext,
        clusters: ClustersResource,
        repository: BackupRepositoryResource,
    ) -> dg.SensorResult | dg.SkipReason:
        watched, _ = memory.of(repository.open(family.name))
        watched.refresh()
        seen = glance(clusters.open(family.name), internal=settings.internal)
        standing = Standing.of(context.cursor)
        ledger = Ledger.outside(context.instance, family)
        standing = standing.look(judge, ledger, watched, seen.metastore, seen.places)
        if standing.passed:
            context.update_cursor(replace(standing, told=False).cursor)
            return dg.SkipReason(f"{len(seen.places)} shards are in a backup that is young enough")
        text = (
            f"{family.name}: {standing.late} of {len(seen.places)} shards are in no backup of the "
            f"last {timedelta(seconds=objectives.recovery_point)}"
        )
        if not asks:
            if not standing.told:
                told = notify(_configuration(clusters), family.name, text, {})
                _complain(context, told.failed)
                standing = replace(standing, told=not told.again)
            context.update_cursor(standing.cursor)
            return dg.SkipReason(text)
        context.update_cursor(standing.cursor)
        now = pace(context.instance, family)
        if now.going or time.time() < now.wait_until_s:
            return dg.SkipReason(f"{text}; {now.going or 'the last one failed, so it waits'}")
        tags = {**family.tags, "shardkeeper/why": "missed"}
        return dg.SensorResult(run_requests=[dg.RunRequest(tags=tags)])

    return missed


def adopt_sensor(family: Family, settings: Cluster) -> dg.SensorDefinition:
    memory = _Memory()
    judge = Judge(family, settings.objectives)

    @dg.sensor(
        name=f"adopt_{family.name}",
        minimum_interval_seconds=int(settings.watch_every),
        default_status=_status(settings, "adopt"),
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
        watched, _ = memory.of(repository.open(family.name))
        ledger, standing = Ledger.outside(context.instance, family), Standing.of(context.cursor)
        adopted = adopt(ledger, watched, standing.adopted)
        if adopted.something:
            ledger.judge(judge.after_adoption(ledger, watched))
        standing = standing.look(judge, ledger, watched, watched.metastore(), watched.covered())
        context.update_cursor(replace(standing, adopted=adopted.cursor).cursor)
        return dg.SkipReason(adopted.text)

    return adopting


def failure_sensor(configuration: Configuration) -> dg.SensorDefinition:
    """Tell the teams that asked for it when a run fails."""

    @dg.run_failure_sensor(
        name="tell_of_failures",
        default_status=(
            dg.DefaultSensorStatus.RUNNING
            if configuration.notify
            else dg.DefaultSensorStatus.STOPPED
        ),
        description="Post to the webhooks under notify in shardkeeper.yaml when a run fails.",
    )
    def tell_of_failures(context: dg.RunFailureSensorContext, clusters: ClustersResource) -> None:
        run = context.dagster_run
        steps = [
            str(data.user_failure_data.description or "")
            if (data := event.step_failure_data).user_failure_data
            else (data.error.message if data.error else "")
            for event in context.get_step_failure_events()
        ]
        cluster = run.tags.get("shardkeeper/cluster", "")
        why = "\n".join(step.strip() for step in steps if step) or context.failure_event.message
        text = f"{run.job_name} failed: {why}\nRun {run.run_id}"
        facts = {"job": run.job_name, "run": run.run_id, "why": why or ""}
        failed = notify(_configuration(clusters), cluster, text, facts).failed
        if failed:
            raise failed[0]

    return tell_of_failures


def _configuration(clusters: ClustersResource) -> Configuration:
    return read_configuration(Path(clusters.configuration))


def _complain(context: dg.SensorEvaluationContext, failed: Iterable[ShardkeeperError]) -> None:
    for error in failed:
        context.log.error(str(error))


def _status(settings: Cluster, name: str) -> dg.DefaultSensorStatus:
    on = name in settings.running
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")


def _quiet(_event: Event) -> None:
    """A sensor looks every few seconds; the run that follows says it all."""
