"""What the sensors that ask for backups share: the request, why it waits, on or off at first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import dagster as dg

from assets.keys import ClusterAssets
from pipelines.sensors.backoff import BackOff
from resources.config.values import Cluster

BackUpJobs: TypeAlias = "Sequence[dg.UnresolvedAssetJobDefinition]"
"""Of one cluster: the one that is asked for first. It copies what the others select, too.

Dagster lists a sensor on the pages of those assets alone that its jobs select.
"""


def request_backup(cluster_assets: ClusterAssets, why: str) -> dg.SensorResult:
    tags = {**cluster_assets.tags, "shardkeeper/why": why}
    return dg.SensorResult(
        run_requests=[dg.RunRequest(job_name=cluster_assets.back_up_job, tags=tags)]
    )


def why_waiting(now: BackOff, cluster_assets: ClusterAssets) -> str:
    what = (
        "somebody has terminated the last run that was asked for"
        if now.terminated
        else f"the last {now.failures} backups failed"
        if now.failures > 1
        else "the last backup failed"
    )
    at = datetime.fromtimestamp(now.wait_until_s, UTC).strftime("%H:%M:%S UTC")
    return (
        f"{what}; looks again at {at}, or once {cluster_assets.back_up_job} was launched and "
        "succeeded"
    )


def default_status(settings: Cluster, name: str) -> dg.DefaultSensorStatus:
    return running_if(name in settings.running)


def running_if(on: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
