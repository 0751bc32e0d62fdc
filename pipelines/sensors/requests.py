"""Common parts of the sensors that request backups: the request, why it waits, the status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import dagster as dg

from assets.keys import ClusterAssets
from pipelines.sensors.backoff import BackOff
from resources.config.values import Cluster
from resources.errors import counted

BackUpJobs: TypeAlias = "Sequence[dg.UnresolvedAssetJobDefinition]"
"""The backup jobs of a cluster; the sensor requests the first one, which covers the others.

Dagster lists a sensor only on the pages of assets that its jobs select.
"""


def request_backup(cluster_assets: ClusterAssets, why: str) -> dg.SensorResult:
    tags = {**cluster_assets.tags, "shardkeeper/why": why}
    return dg.SensorResult(
        run_requests=[dg.RunRequest(job_name=cluster_assets.back_up_job, tags=tags)]
    )


def why_waiting(now: BackOff, cluster_assets: ClusterAssets) -> str:
    what = (
        "the last requested run was terminated"
        if now.terminated
        else f"the last {counted(now.failures, 'backup')} failed"
        if now.failures > 1
        else "the last backup failed"
    )
    at = datetime.fromtimestamp(now.wait_until_s, UTC).strftime("%H:%M:%S UTC")
    return (
        f"{what}; the next attempt is at {at}, or once {cluster_assets.back_up_job} has been "
        "launched and has succeeded"
    )


def default_status(settings: Cluster, name: str) -> dg.DefaultSensorStatus:
    return running_if(name in settings.running)


def running_if(on: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if on else dg.DefaultSensorStatus.STOPPED
