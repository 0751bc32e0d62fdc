"""May a run be asked for now? Not beside another one, and after failures ever later.

Only runs that a sensor or a schedule asked for tell how backups fare. What somebody launched,
mistyped or terminated by hand says nothing of the kind, so it holds nothing up; one that
succeeded does: whatever was wrong is not any more. Held by tests/pipelines/sensors/test_backoff.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from assets.keys import ClusterAssets

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
_MAX_COUNTED = 8
SENSOR, SCHEDULE = "dagster/sensor_name", "dagster/schedule_name"
"""Tags that Dagster gives a run that one of them asked for."""


@dataclass(frozen=True)
class BackOff:
    """What earlier backup runs say about the next one."""

    going: str
    """The job of one that is queued or at work; empty if none is."""
    failures: int
    """In a row, up to now, of runs that nobody launched by hand."""
    wait_until_s: float
    """Seconds since 1970."""
    terminated: bool = False
    """Whether somebody has stopped the last of them, which is no failure."""


def back_off(instance: dg.DagsterInstance, cluster_assets: ClusterAssets) -> BackOff:
    """Look at the runs of a cluster's backup jobs."""
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
    """When a run of the job last succeeded, whoever launched it; 0: never."""
    wanted = dg.RunsFilter(
        job_name=cluster_assets.back_up_job, statuses=[dg.DagsterRunStatus.SUCCESS]
    )
    records = instance.get_run_records(wanted, limit=1)
    return (records[0].end_time or 0.0) if records else 0.0


def _ended_by_themselves(
    instance: dg.DagsterInstance, cluster_assets: ClusterAssets
) -> list[dg.RunRecord]:
    """Newest first, those that a sensor or a schedule asked for.

    A run that somebody executed again carries the tags of the first.
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
