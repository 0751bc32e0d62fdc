"""May a run be asked for now? Not beside another one, and after failures ever later."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from assets.family import Family

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
_MOST_COUNTED = 8


@dataclass(frozen=True)
class Pace:
    """What earlier backup runs say about the next one."""

    going: str
    """The job of one that is queued or at work; empty if none is."""
    failures: int
    """In a row, up to now; a run that somebody cancelled counts."""
    wait_until_s: float
    """Seconds since 1970."""


def pace(instance: dg.DagsterInstance, family: Family) -> Pace:
    """Look at the runs of a cluster's backup jobs."""
    going = ""
    for job in (family.back_up_job, family.back_up_full_job):
        unfinished = dg.RunsFilter(job_name=job, statuses=list(_UNFINISHED))
        if instance.get_run_ids(unfinished, limit=1):
            going = job
    records = instance.get_run_records(
        dg.RunsFilter(
            job_name=family.back_up_job, statuses=[*_FAILED, dg.DagsterRunStatus.SUCCESS]
        ),
        limit=_MOST_COUNTED,
    )
    failures = 0
    for record in records:
        if record.dagster_run.status not in _FAILED:
            break
        failures += 1
    ended = (records[0].end_time or 0.0) if failures else 0.0
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (failures - 1)) if failures else 0.0
    return Pace(going, failures, ended + pause)


_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
