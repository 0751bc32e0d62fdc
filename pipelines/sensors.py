"""What starts work by itself: sensors, switched on and off in the UI."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

import dagster as dg

from assets.adopting import adopt
from assets.facts.values import for_people
from assets.family import Family
from assets.judging import Judge
from assets.ledger import Ledger
from assets.pacing import Pace, pace
from assets.reaching import reached
from assets.standing import Standing
from assets.ticks import TickMemory, spoken
from assets.watching import report_changes
from resources.backup_repository import BackupRepositoryResource
from resources.clients.cluster import Cluster as OpenCluster
from resources.clients.server import Server
from resources.cluster import ClustersResource
from resources.collector import collector_at_rest
from resources.config.values import Cluster
from resources.engine.backup.watch import Glance, glance
from resources.engine.events import Event
from resources.engine.options import BackupOptions
from resources.repository.watched import WatchedRepository

MISSED_EVERY_S = 60
SILENCE_S = 15.0
"""How long a source may be silent to a sensor, which asks again soon."""


BackUpJobs: TypeAlias = "Sequence[dg.UnresolvedAssetJobDefinition]"
"""Of one cluster: the one that is asked for first. It copies what the others select, too.

Dagster lists a sensor on the pages of those assets alone that its jobs select.
"""


def sensors(
    family: Family, settings: Cluster, back_up_jobs: BackUpJobs
) -> list[dg.SensorDefinition]:
    """Those of one cluster that ask for its runs, or record them."""
    return [
        watch_sensor(family, settings, back_up_jobs),
        missed_sensor(family, settings, back_up_jobs),
        adopt_sensor(family, settings),
    ]


def watch_sensor(
    family: Family, settings: Cluster, back_up_jobs: BackUpJobs
) -> dg.SensorDefinition:
    memory = TickMemory()
    judge = Judge(family, settings.objectives)

    @dg.sensor(
        name=f"watch_{family.name}",
        jobs=back_up_jobs,
        minimum_interval_seconds=int(settings.watch_every),
        default_status=_status(settings, "watch"),
        description="Look whether any shard, database or user has changed since its backup, and "
        f"if so ask for one run of the backup job; if nothing has for half of "
        f"{for_people(settings.objectives.recovery_point)}, ask for one all the same, so that the "
        "newest restore point stays young. After a run of its own failed it waits a minute, then "
        "two, up to an hour.",
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
            return dg.SkipReason(_waiting(now, family))
        ledger = Ledger.outside(context.instance, family)
        with spoken():
            with reached(ledger, family):
                source, seen = _glance(memory, family, clusters, internal=settings.internal)
            watched, shards = memory.directory(repository, family.name), len(seen.marks)
            if context.cursor == seen.digest and not now.failures:
                return _at_rest(family, settings, watched, f"none of {shards} shards has changed")
            _, watcher = memory.of(watched.plain)
            options = BackupOptions(peek=True, internal=settings.internal)
            with reached(ledger, family):
                found = memory.patience.wait_for(
                    f"comparing the shards of {family.name}",
                    lambda: watcher.look(source, seen, options, tell=_quiet),
                )
            if found.something:
                report_changes(ledger, judge, watched, found)
                count = len(found.changed)
                what = f"{count} shard{'s' * (count != 1)} changed" if count else "settings changed"
                return _ask(family, what.replace(" ", "-"))
            if found.left:
                return dg.SkipReason(f"{found.left} of {shards} shards are yet to be compared")
            context.update_cursor(seen.digest)
            return _at_rest(family, settings, watched, f"{shards} shards are as in their archives")

    return watch


def _glance(
    memory: TickMemory, family: Family, clusters: ClustersResource, *, internal: bool
) -> tuple[Server | OpenCluster, Glance]:
    """Raises: ShardkeeperError: nobody answers there, or not within the time of a tick."""

    def ask() -> tuple[Server | OpenCluster, Glance]:
        source = clusters.open(family.name, silence_s=SILENCE_S)
        return source, glance(source, internal=internal)

    return memory.patience.wait_for(f"a look at {family.name}", ask)


def _at_rest(
    family: Family, settings: Cluster, watched: WatchedRepository, why_not: str
) -> dg.SensorResult | dg.SkipReason:
    """That nothing has changed is worth a restore point before the newest one is too old."""
    newest, goal_s = watched.last_whole, settings.objectives.recovery_point
    if newest is not None and time.time() - newest.started_at.timestamp() > goal_s / 2:
        return _ask(family, "nothing-changed-for-long")
    return dg.SkipReason(why_not)


def missed_sensor(
    family: Family, settings: Cluster, back_up_jobs: BackUpJobs
) -> dg.SensorDefinition:
    memory = TickMemory()
    objectives = settings.objectives
    asks = objectives.missed == "request"
    judge = Judge(family, objectives)
    goal = for_people(objectives.recovery_point)

    @dg.sensor(
        name=f"missed_{family.name}",
        jobs=back_up_jobs,
        minimum_interval_seconds=MISSED_EVERY_S,
        default_status=_status(settings, "missed"),
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
            return dg.SkipReason(f"{text}; {_waiting(now, family)}")
        if standing.looks < 2:  # another sensor may have asked in this very moment
            return dg.SkipReason(f"{text}; asks for one at the next look")
        return _ask(family, "missed")

    return missed


def adopt_sensor(family: Family, settings: Cluster) -> dg.SensorDefinition:
    memory = TickMemory()
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


def _ask(family: Family, why: str) -> dg.SensorResult:
    tags = {**family.tags, "shardkeeper/why": why}
    return dg.SensorResult(run_requests=[dg.RunRequest(job_name=family.back_up_job, tags=tags)])


def _waiting(now: Pace, family: Family) -> str:
    what = (
        "somebody has terminated the last run that was asked for"
        if now.terminated
        else f"the last {now.failures} backups failed"
        if now.failures > 1
        else "the last backup failed"
    )
    at = datetime.fromtimestamp(now.wait_until_s, UTC).strftime("%H:%M:%S UTC")
    return f"{what}; looks again at {at}, or once {family.back_up_job} was launched and succeeded"


def _status(settings: Cluster, name: str) -> dg.DefaultSensorStatus:
    on = name in settings.running
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED


def _quiet(_event: Event) -> None:
    """A sensor looks every few seconds; the run that follows says it all."""
