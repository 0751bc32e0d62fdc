"""`check_configuration`: posts errors in shardkeeper.yaml to webhooks."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg

from assets.left_out import is_left_out
from assets.messages import what_happened
from pipelines.sensors.alerts import Alerts, Trouble
from resources.config.reading import Problem, Reading, read_sound
from resources.errors import UsageError, counted


def configuration_sensor(
    path: Path, loaded: Reading, problems: tuple[Problem, ...], url: str
) -> dg.SensorDefinition:
    """Report errors in the file, which a reload of the location does not report to the webhooks.

    Args:
        loaded: the configuration that the location was made of.
        problems: its errors then, including those that only Dagster finds.
    """

    @dg.sensor(
        name="check_configuration",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Read shardkeeper.yaml: report its errors here and to the webhooks, and "
        "whether it has changed since the code location was loaded.",
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
        after = before.advance(now.configuration, [], found, now_s, url)
        context.update_cursor(after.cursor)
        changed = now.configuration != loaded.configuration
        note = "; it has changed: reload the code location (Deployment)" if changed else ""
        clusters = len(loaded.configuration.backed_up)
        fine = counted(clusters, "cluster is", "clusters are")
        what = after.summary if found else f"{fine} configured as in the file"
        return dg.SkipReason(what + note)

    return check_configuration


def _of_file(problems: tuple[Problem, ...]) -> list[Trouble]:
    """The errors as troubles; a cluster that is left out is not backed up."""
    return [
        Trouble(
            one.error.what,
            (f"{one.cluster} is left out and not backed up: " if one.cluster else "")
            + what_happened(one.error),
        )
        for one in problems
    ]
