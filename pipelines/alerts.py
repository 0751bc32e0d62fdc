"""What tells people: sensors that post to the webhooks of shardkeeper.yaml.

    alerts_eu             what is wrong with the backups of eu, and that it is over
    tell_of_failures      runs that failed, of all clusters
    check_configuration   what is wrong with shardkeeper.yaml

None of them asks a cluster, and each keeps what nobody has heard in its cursor.
"""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg

from assets.alerts import Alerts, Trouble
from assets.failed_runs import FailedRuns
from assets.family import Family
from assets.ledger import Ledger
from assets.left_out import is_left_out
from assets.ticks import TickMemory, spoken
from assets.troubles import troubles
from assets.wording import what_happened
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import ClustersResource
from resources.collector import collector_at_rest
from resources.config.reading import Problem, Reading, read_sound
from resources.config.values import Cluster, Configuration
from resources.errors import ShardkeeperError, UsageError
from resources.repository.watched import WatchedRepository


def alerts_sensor(
    family: Family, settings: Cluster, configuration: Configuration, url: str
) -> dg.SensorDefinition:
    """Tell the teams that asked for it of what is wrong without a run having failed."""
    memory = TickMemory()

    @dg.sensor(
        name=f"alerts_{family.name}",
        minimum_interval_seconds=int(settings.watch_every),
        default_status=_running(
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


def failure_sensor(configuration: Configuration, url: str) -> dg.SensorDefinition:
    """Tell the teams that asked for it when a run fails."""

    @dg.sensor(
        name="tell_of_failures",
        minimum_interval_seconds=15,
        default_status=_running(bool(configuration.notify)),
        description="Post to the webhooks under notify in shardkeeper.yaml when a run fails, "
        "whoever launched it; what a webhook did not take is posted again.",
    )
    def tell_of_failures(
        context: dg.SensorEvaluationContext, clusters: ClustersResource
    ) -> dg.SkipReason:
        now_s = time.time()
        with spoken():
            current = clusters.reading().configuration
        before = FailedRuns.of(context.cursor, now_s)
        after = before.look(context.instance, current, now_s, url)
        context.update_cursor(after.cursor)
        for error in after.outbox.errors:
            context.log.error(str(error))
        waiting = len(after.outbox.messages)
        return dg.SkipReason(
            f"{waiting} messages are not heard yet: {after.outbox.errors[0]}"
            if waiting and after.outbox.errors
            else "no run has failed that nobody was told of"
        )

    return tell_of_failures


def configuration_sensor(
    path: Path, loaded: Reading, problems: tuple[Problem, ...], url: str
) -> dg.SensorDefinition:
    """Tell of what is wrong with the file, which its own reload shows to nobody.

    Args:
        loaded: what the location was made of.
        problems: what was wrong then, also with what only Dagster can find wrong.
    """

    @dg.sensor(
        name="check_configuration",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Read shardkeeper.yaml: say what is wrong with it, here and to the webhooks, "
        "and whether it has changed since the code location was loaded.",
    )
    def check_configuration(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        now_s = time.time()
        try:
            now = read_sound(path)
            found = _of_file(now.problems)
        except UsageError as error:
            now, found = loaded, _of_file((Problem("", error),))
        else:
            seen = {one.error.what for one in now.problems}
            found += _of_file(tuple(one for one in problems if one.error.what not in seen))
        before = Alerts.of(context.cursor, now_s)
        for one in problems:
            if one.cluster and one.error.what not in before.known:
                event = is_left_out(one.cluster, what_happened(one.error))
                context.instance.report_runless_asset_event(event)
        after = before.look(now.configuration, [], found, now_s, url)
        context.update_cursor(after.cursor)
        changed = now.configuration != loaded.configuration
        note = "; it has changed: reload the code location (Deployment)" if changed else ""
        clusters = len(loaded.configuration.backed_up)
        fine = "1 cluster is" if clusters == 1 else f"{clusters} clusters are"
        what = after.summary if found else f"{fine} as the file says"
        return dg.SkipReason(what + note)

    return check_configuration


def _of_file(problems: tuple[Problem, ...]) -> list[Trouble]:
    """A cluster that is left out is not backed up, whatever else runs."""
    return [
        Trouble(
            one.error.what,
            (f"{one.cluster} is left out and not backed up: " if one.cluster else "")
            + what_happened(one.error),
        )
        for one in problems
    ]


def _running(on: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
