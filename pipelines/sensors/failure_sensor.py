"""`tell_of_failures`: posts failed runs of all clusters to webhooks."""

from __future__ import annotations

import time

import dagster as dg

from pipelines.sensors.failed_runs import FailedRuns
from pipelines.sensors.requests import running_if
from pipelines.sensors.ticks import spoken
from resources.cluster import ClustersResource
from resources.config.values import Configuration


def failure_sensor(configuration: Configuration, url: str) -> dg.SensorDefinition:
    """Report failed runs to the configured webhooks."""

    @dg.sensor(
        name="tell_of_failures",
        minimum_interval_seconds=15,
        default_status=running_if(bool(configuration.notify)),
        description="Post to the webhooks under notify in shardkeeper.yaml when a run fails, "
        "however it was launched; it posts again what a webhook did not accept.",
    )
    def tell_of_failures(
        context: dg.SensorEvaluationContext, clusters: ClustersResource
    ) -> dg.SkipReason:
        now_s = time.time()
        with spoken():
            current = clusters.reading().configuration
        before = FailedRuns.of(context.cursor, now_s)
        after = before.advance(context.instance, current, now_s, url)
        context.update_cursor(after.cursor)
        for error in after.outbox.errors:
            context.log.error(str(error))
        waiting = len(after.outbox.messages)
        return dg.SkipReason(
            f"{waiting} messages are not delivered yet: {after.outbox.errors[0]}"
            if waiting and after.outbox.errors
            else "every failed run is reported"
        )

    return tell_of_failures
