"""`fail_lost_runs`: fails a run whose process is gone, so that no later run waits for it.

Runs are processes beside the code server, unless dagster.yaml names another launcher. The code
server fails a run whose process died, unless it was killed along with it, or the database was away
in that moment. Dagster's run monitoring checks the health of runs of other launchers only. Without
this sensor, such a run would be "started" for ever, and since one backup of a cluster runs at a
time, all later ones would wait for it.

A sensor ticks beside these processes, so it sees them. The run's log has the process's number. The
first tick that sees a run remembers when its process started, since numbers are used again: in
particular by the processes of a container that was started again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

import dagster as dg

from resources.repository.storage.lock_record import ProcessIdentity

BESIDE_CODE_SERVER = ".dagster/grpc_info"
"""The tag that Dagster's default launcher gives to its runs; those of others lack it."""
CLOCK_S = 1.0
"""How exactly the system knows when a process started."""
WHY = (
    "The process of this run is gone: it was killed, or the code server was. What it had stored is "
    "kept, and the next run goes on from there."
)


def lost_runs_sensor() -> dg.SensorDefinition:
    """Fail the runs of this code location whose processes are gone."""

    @dg.sensor(
        name="fail_lost_runs",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fail runs whose process is gone because the code server was killed, so that "
        "they hold up no later run. It fails no run of another launcher.",
    )
    def fail_lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if not ProcessIdentity.mine().machine:
            return dg.SkipReason("this system does not show which processes run")
        before, after, lost = _seen(context.cursor), dict[str, list[str | int]](), list[str]()
        origin = context.code_location_origin
        here = origin.location_name if origin else None
        for run in context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            of = run.remote_job_origin
            if BESIDE_CODE_SERVER not in run.tags or (of.location_name if of else None) != here:
                continue
            process = before.get(run.run_id) or _first_seen(context.instance, run.run_id)
            if process is None:
                continue
            if process == ProcessIdentity.of(process.pid):
                after[run.run_id] = [process.machine, process.pid, process.started]
            elif not _ended(context.instance, run.run_id):
                context.instance.report_run_failed(run, WHY)
                lost.append(run.run_id)
        context.update_cursor(json.dumps(after))
        if lost:
            return dg.SkipReason(f"failed, since their processes are gone: {', '.join(lost)}")
        return dg.SkipReason("every run that has started has a process")

    return fail_lost_runs


def _seen(cursor: str | None) -> Mapping[str, ProcessIdentity]:
    """The processes of runs that earlier ticks saw."""
    try:
        return {
            run_id: ProcessIdentity(str(machine), int(pid), int(started))
            for run_id, (machine, pid, started) in json.loads(cursor or "{}").items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _first_seen(instance: dg.DagsterInstance, run_id: str) -> ProcessIdentity | None:
    """The process that the log names, even if it is gone; None if the log names none."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    for record in records:
        event = record.event_log_entry.dagster_event
        named = event.engine_event_data.metadata.get("pid") if event else None
        if isinstance(named, dg.TextMetadataValue) and (named.text or "").isdigit():
            pid = int(named.text or 0)
            found = ProcessIdentity.of(pid)
            # The process wrote the entry. One that started later has only its number.
            if found and _started_at_s(found) <= record.event_log_entry.timestamp + CLOCK_S:
                return found
            return ProcessIdentity("", pid, 0)
    return None


def _started_at_s(process: ProcessIdentity) -> float:
    """When a process of this machine started, by today's clock."""
    after_boot_s = process.started / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + after_boot_s


def _ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run ended while its process was looked for."""
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished
