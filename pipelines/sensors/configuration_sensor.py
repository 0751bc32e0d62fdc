"""`check_configuration`: posts to webhooks what is wrong with shardkeeper.yaml."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg

from assets.left_out import is_left_out
from assets.messages import what_happened
from pipelines.sensors.alerts import Alerts, Trouble
from resources.config.reading import Problem, Reading, read_sound
from resources.errors import UsageError


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
        after = before.advance(now.configuration, [], found, now_s, url)
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
