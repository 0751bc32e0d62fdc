"""May a run be requested now? Not beside another one, and after failures ever later.

Only runs that a sensor or a schedule requested show whether backups work. A run that a user
launched, mistyped or terminated shows nothing of the kind and delays nothing, unless it succeeded:
then the cause of earlier failures is gone. Held by tests/pipelines/sensors/test_backoff.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from assets.keys import ClusterAssets

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
_MAX_COUNTED = 8
SENSOR, SCHEDULE = "dagster/sensor_name", "dagster/schedule_name"
"""Tags that Dagster gives to a run that one of them requested."""


@dataclass(frozen=True)
class BackOff:
    """The conclusions from earlier backup runs for the next one."""

    going: str
    """The job of a queued or running run; empty if there is none."""
    failures: int
    """Consecutive failures up to now, of runs that were not launched by hand."""
    wait_until_s: float
    """Seconds since 1970."""
    terminated: bool = False
    """Whether the last of them was terminated, which is no failure."""


def back_off(instance: dg.DagsterInstance, cluster_assets: ClusterAssets) -> BackOff:
    """Evaluate the runs of a cluster's backup jobs."""
    going = ""
    for job in (cluster_assets.back_up_job, cluster_assets.back_up_full_job):
        unfinished = dg.RunsFilter(job_name=job, statuses=list(_UNFINISHED))
        if instance.get_run_ids(unfinished, limit=1):
            going = job
    good_s = _last_success(instance, cluster_assets)
    failures, last_s, terminated = 0, 0.0, False
    for record in _ended_by_themselves(instance, cluster_assets):
        status, ended_s = record.dagster_run.status, record.end_time or 0.0
        if status is dg.DagsterRunStatus.SUCCESS or ended_s <= good_s:
            break
        if status is dg.DagsterRunStatus.FAILURE:
            failures += 1
        elif not last_s:
            terminated = True
        last_s = last_s or ended_s
    if not last_s:
        return BackOff(going, 0, 0.0)
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** max(0, failures - 1))
    return BackOff(going, failures, last_s + (FIRST_PAUSE_S if terminated else pause), terminated)


def _last_success(instance: dg.DagsterInstance, cluster_assets: ClusterAssets) -> float:
    """When a run of the job last succeeded, however it was launched; 0: never."""
    wanted = dg.RunsFilter(
        job_name=cluster_assets.back_up_job, statuses=[dg.DagsterRunStatus.SUCCESS]
    )
    records = instance.get_run_records(wanted, limit=1)
    return (records[0].end_time or 0.0) if records else 0.0


def _ended_by_themselves(
    instance: dg.DagsterInstance, cluster_assets: ClusterAssets
) -> list[dg.RunRecord]:
    """Ended runs that a sensor or a schedule requested, newest first.

    A run that was executed again has the tags of the first one, and is left out.
    """
    found: list[dg.RunRecord] = []
    for tags in _asked_by(cluster_assets):
        wanted = dg.RunsFilter(
            job_name=cluster_assets.back_up_job, statuses=list(_ENDED), tags=tags
        )
        records = instance.get_run_records(wanted, limit=_MAX_COUNTED)
        found += [record for record in records if record.dagster_run.parent_run_id is None]
    return sorted(found, key=lambda record: record.end_time or 0.0, reverse=True)


def _asked_by(cluster_assets: ClusterAssets) -> list[dict[str, str | list[str]]]:
    sensors = [f"watch_{cluster_assets.name}", f"missed_{cluster_assets.name}"]
    return [{SENSOR: sensors}, {SCHEDULE: f"incremental_{cluster_assets.name}"}]


_ENDED = (
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.SUCCESS,
)
_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
