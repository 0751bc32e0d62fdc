"""Runs whose process is gone are failed, and no others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from pipelines.sensors.lost_runs import BESIDE_CODE_SERVER, WHY, lost_runs_sensor
from resources.repository.storage.lock_record import ProcessIdentity

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that the tests may kill."""
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        yield sleeping
        sleeping.kill()


def started(
    instance: dg.DagsterInstance, pid: int, tags: dict[str, str] | None = None
) -> dg.DagsterRun:
    """A run that has started, and whose log names a process."""
    tags = {BESIDE_CODE_SERVER: "{}"} if tags is None else tags
    run = create_run_for_test(instance, job_name="back_up_lab", status=STARTED, tags=tags)
    instance.report_engine_event("Started process.", run, EngineEventData.in_process(pid))
    return run


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str, str | None]:
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        found = lost_runs_sensor().evaluate_tick(context)
    return str(found.skip_message), found.cursor


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_a_run_is_failed_once_its_process_is_gone(
    instance: dg.DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    run = started(instance, process.pid)
    message, cursor = tick(instance)
    assert message == "every run that has started has a process"
    assert status(instance, run) is STARTED
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie runs no more, either
    message, cursor = tick(instance, cursor)
    assert run.run_id in message
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE
    of_run = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    events = [one.event_log_entry.dagster_event for one in of_run.records]
    assert [event.message for event in events if event] == [WHY]
    assert tick(instance, cursor)[0] == "every run that has started has a process"


def test_a_run_that_no_tick_saw_alive_is_failed_too(
    instance: dg.DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    run = started(instance, process.pid)
    process.kill()
    process.wait()
    tick(instance)
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE


def test_a_later_process_with_the_same_number_is_not_the_runs(
    instance: dg.DagsterInstance,
    process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, unseen = started(instance, process.pid), started(instance, process.pid)
    _, cursor = tick(instance)
    mine = ProcessIdentity.mine()
    later = ProcessIdentity(mine.machine, process.pid, mine.started + 10**6)
    monkeypatch.setattr(ProcessIdentity, "of", lambda _pid: later)
    tick(instance, cursor)
    assert status(instance, seen) is dg.DagsterRunStatus.FAILURE
    run = started(instance, process.pid)
    tick(instance)
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE
    assert status(instance, unseen) is dg.DagsterRunStatus.FAILURE


def test_runs_of_other_launchers_and_runs_without_a_number_are_left_alone(
    instance: dg.DagsterInstance, process: subprocess.Popen[bytes]
) -> None:
    process.kill()
    process.wait()
    elsewhere = started(instance, process.pid, tags={})
    unnamed = create_run_for_test(
        instance, job_name="back_up_lab", status=STARTED, tags={BESIDE_CODE_SERVER: "{}"}
    )
    tick(instance, "no cursor of ours")
    assert status(instance, elsewhere) is status(instance, unnamed) is STARTED


def test_the_tag_is_the_one_of_dagster() -> None:
    assert BESIDE_CODE_SERVER == GRPC_INFO_TAG
