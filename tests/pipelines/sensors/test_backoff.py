"""What holds automatic backups up, and what never does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest

from pipelines.sensors.backoff import FIRST_PAUSE_S, LONGEST_PAUSE_S, back_off
from resources.embedded.cluster import EmbeddedCluster
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness

BY_CHANGE_SENSOR = {"dagster/sensor_name": "watch_influxdb"}
BY_CLOCK = {"dagster/schedule_name": "incremental_influxdb"}
CANCELED, FAILURE = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE
SUCCESS = dg.DagsterRunStatus.SUCCESS


@pytest.fixture
def harness(over_cluster: DagsterHarness) -> DagsterHarness:
    return over_cluster


def ended(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    tags: Mapping[str, str],
    *,
    parent: str | None = None,
) -> float:
    """Record a run of the backup job that has just ended; when that was."""
    run = instance.add_run(
        dg.DagsterRun(
            job_name="back_up_influxdb",
            run_id=dg._core.utils.make_new_run_id(),  # type: ignore[attr-defined]
            status=dg.DagsterRunStatus.STARTED,
            tags=dict(tags),
            parent_run_id=parent,
            root_run_id=parent,
        )
    )
    event = {
        FAILURE: dg.DagsterEventType.RUN_FAILURE,
        SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
        CANCELED: dg.DagsterEventType.RUN_CANCELED,
    }[status]
    made = dg.DagsterEvent(event_type_value=event.value, job_name=run.job_name, message="ended")
    instance.report_dagster_event(made, run_id=run.run_id)
    [record] = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    assert record.dagster_run.status is status
    assert record.end_time
    return record.end_time


def test_failures_of_its_own_make_it_wait_ever_longer(instance: dg.DagsterInstance) -> None:
    for at in range(9):
        end = ended(instance, FAILURE, BY_CLOCK if at % 2 else BY_CHANGE_SENSOR)
        now = back_off(instance, CLUSTER_ASSETS)
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(at, 7))
        assert now.wait_until_s == pytest.approx(end + pause)
    assert ended(instance, SUCCESS, {})  # launched by hand
    assert back_off(instance, CLUSTER_ASSETS).failures == 0


@pytest.mark.parametrize("status", [FAILURE, CANCELED])
def test_what_somebody_launched_mistyped_or_stopped_by_hand_holds_nothing_up(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    first = dg._core.utils.make_new_run_id()  # type: ignore[attr-defined]
    for _ in range(12):
        ended(instance, status, {})
        ended(instance, status, {"dagster/backfill": "x"})
        ended(
            instance, status, BY_CHANGE_SENSOR, parent=first
        )  # executed again, otherwise configured
    now = back_off(instance, CLUSTER_ASSETS)
    assert (now.failures, now.wait_until_s) == (0, 0.0)
    # Nor does it hide how those of its own fare.
    end = ended(instance, FAILURE, BY_CHANGE_SENSOR)
    for _ in range(12):
        ended(instance, status, {})
    now = back_off(instance, CLUSTER_ASSETS)
    assert (now.failures, now.wait_until_s) == (1, pytest.approx(end + FIRST_PAUSE_S))


def test_one_of_its_own_that_somebody_stops_does_not_come_back_at_once(
    instance: dg.DagsterInstance,
) -> None:
    for _ in range(3):
        end = ended(instance, CANCELED, BY_CHANGE_SENSOR)
        now = back_off(instance, CLUSTER_ASSETS)
        assert now.terminated
        assert (now.failures, now.wait_until_s) == (0, pytest.approx(end + FIRST_PAUSE_S))


def test_a_mistyped_run_is_reported_in_the_launchpads_words_and_the_next_look_asks_all_the_same(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    mistyped: list[dict[str, Any]] = [
        {"db": "nope"},
        {"rp": "autogen"},
        {"attempts": 0},
        {"shard": -4},
    ]
    for config in mistyped:
        assert not harness.run("back_up_influxdb", **config).success
    asked, _ = harness.sense("watch_influxdb")
    assert len(asked.run_requests) == 1
    for _ in range(3):
        ended(harness.instance, FAILURE, BY_CHANGE_SENSOR)
    waits, _ = harness.sense("watch_influxdb")
    assert waits.run_requests == []
    assert "the last 3 backups failed; the next attempt is at" in (waits.skip_message or "")
    assert "once back_up_influxdb has been launched and has succeeded" in (waits.skip_message or "")
    assert back_off(harness.instance, CLUSTER_ASSETS).wait_until_s > time.time()
    assert harness.back_up().success
    assert back_off(harness.instance, CLUSTER_ASSETS).failures == 0
