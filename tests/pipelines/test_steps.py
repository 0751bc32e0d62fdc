"""Backups whose batches are steps: what Dagster shows and records, and what is tried again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from resources.embedded.cluster import EmbeddedCluster
from resources.engine.verify.verify import verify
from resources.model import ShardID
from resources.repository.storage.lock import LEASE_VARIABLE
from resources.repository.storage.lock_record import LOCK_NAME
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, failure, launched, write_to

REPORT = f"{CLUSTER_ASSETS.name}_report_manifest"
# Each step is a process forked from one that has imported what definitions are made of, which
# takes seconds, and has made none.
IMPORTED = ["assets.lineage", "pipelines.jobs", "pipelines.sensors.change_sensor"]
FORKED = {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": IMPORTED}}}}}


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that has no place on this disk for what steps hand over."""
    (tmp_path / "no directory").write_text("")
    (tmp_path / "dagster.yaml").write_text(f"""\
telemetry: {{enabled: false}}
storage: {{sqlite: {{base_dir: {tmp_path / "storage"}}}}}
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {{base_dir: {tmp_path / "no directory"}}}
""")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made
    # It would hand on the environment of this test to the steps of the next one.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


BATCHES = {"kind": "in_process", "nodes": 4, "batch_bytes": 1}
"""One node more than there are: it never has a batch."""
PLAN, COMMIT = (f"influxdb__backup_set.influxdb_{name}_backup" for name in ("plan", "commit"))
FRESH, STALE = StaleStatus.FRESH, StaleStatus.STALE


@pytest.fixture
def harness(
    cluster: EmbeddedCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> DagsterHarness:
    where = {"bind": cluster.meta[0].http_addr}
    return DagsterHarness(tmp_path, instance, where, executor=BATCHES)


def steps_of(result: Any, kind: str = "STEP_SUCCESS") -> list[str]:
    return [e.step_key for e in result.all_events if e.event_type_value == kind]


def batches_of(result: Any, kind: str = "STEP_SUCCESS") -> list[str]:
    return [key for key in steps_of(result, kind) if "_copy_node_" in key]


def metadata_of(result: Any, step: str) -> dict[str, Any]:
    [output] = [e for e in result.all_events if e.is_successful_output and e.step_key == step]
    return {key: value.value for key, value in output.step_output_data.metadata.items()}


def again(harness: DagsterHarness, before: Any) -> Any:
    """Re-execute a failed run from its failure."""
    job = launched("back_up_influxdb")
    options = dg.ReexecutionOptions.from_failure(before.run_id, harness.instance)
    with dg.execute_job(job, harness.instance, reexecution_options=options) as result:
        return result


class Refusing:
    """One batch cannot be begun, as if the disk failed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int = 1000) -> None:
        self.left = times
        monkeypatch.setattr("assets.backup_set.RETRY_DELAY_S", 0)
        self._create = os.mkdir
        monkeypatch.setattr(os, "mkdir", self.mkdir)

    def mkdir(self, path: Any, *args: Any, **more: Any) -> None:
        if "part-b000001" in str(path) and self.left > 0:
            self.left -= 1
            raise OSError(5, "Input/output error")
        self._create(path, *args, **more)


def test_a_backup_in_batches_is_recorded_as_any_other(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    result = harness.back_up()
    assert result.success
    batches = batches_of(result)
    assert len(batches) == 3
    assert {key.partition("[")[0] for key in batches} <= {
        f"influxdb__backup_set.influxdb_copy_node_{n}" for n in (1, 2, 3)
    }
    assert metadata_of(result, batches[0])["shards_saved"] == 1
    assert metadata_of(result, batches[0])["bytes"] > 0
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH
    assert harness.check().passed
    [point] = harness.events(CLUSTER_ASSETS.backup_set)
    assert point.metadata["shards_copied"].value == 3
    assert verify(harness.repository).problems == ()
    assert not list(harness.backups.glob(".shardkeeper.run*"))
    write_to(cluster, 0, 2.0)
    write_to(cluster, 1, 2.0)
    harness.scan()
    assert sorted(harness.shards().values(), key=str) == [FRESH, STALE, STALE]
    again = harness.back_up()
    assert len(batches_of(again)) == 2
    assert COMMIT in steps_of(again)
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


def test_a_small_backup_makes_no_step_for_a_batch(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    harness.back_up()
    write_to(cluster, 0, 2.0)
    result = harness.back_up()
    assert result.success
    assert batches_of(result) == []
    assert steps_of(result, "STEP_SKIPPED") == [COMMIT]
    assert set(harness.shards().values()) == {FRESH}


@pytest.mark.fault(26)
def test_a_batch_that_fails_is_tried_again_alone(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Refusing(monkeypatch, 1)
    harness = DagsterHarness(
        tmp_path, instance, {"bind": cluster.meta[0].http_addr}, executor=BATCHES
    )
    result = harness.back_up()
    assert result.success
    assert len(batches_of(result, "STEP_UP_FOR_RETRY")) == 1
    assert len(batches_of(result)) == 3
    assert verify(harness.repository).problems == ()


@pytest.mark.fault(26)
def test_from_failure_only_what_is_missing_is_done(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    shared: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = Refusing(monkeypatch)
    harness = DagsterHarness(
        tmp_path, shared, {"bind": cluster.meta[0].http_addr}, executor=BATCHES
    )
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    with dg.execute_job(launched("back_up_influxdb"), shared) as result:
        assert not result.success
    assert len(batches_of(result)) == 2
    assert not list(harness.backups.glob("*.manifest"))
    refusing.left = 0
    resumed = again(harness, result)
    assert resumed.success
    assert batches_of(resumed) == batches_of(result, "STEP_FAILURE")
    assert PLAN not in steps_of(resumed)
    assert COMMIT in steps_of(resumed)
    assert set(harness.shards().values()) == {FRESH}
    assert verify(harness.repository).problems == ()


@pytest.mark.fault(26)
def test_a_failed_run_gives_way_to_the_next_and_cannot_be_continued_then(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    shared: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "0.2")
    refusing = Refusing(monkeypatch)
    harness = DagsterHarness(
        tmp_path, shared, {"bind": cluster.meta[0].http_addr}, executor=BATCHES
    )
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    with dg.execute_job(launched("back_up_influxdb"), shared) as result:
        assert not result.success
    refusing.left = 0
    assert harness.back_up().success
    late = again(harness, result)
    assert not late.success
    assert "its place" in failure(late).description
    assert len(list(harness.backups.glob("*.manifest"))) == 1
    assert verify(harness.repository).problems == ()


@pytest.mark.fault(26)
def test_steps_that_are_processes_share_nothing_on_disk_and_may_be_killed(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    shared: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assets.backup_set.RETRY_DELAY_S", 0)
    where = {"bind": cluster.meta[0].http_addr}
    executor = {"kind": "dagster:multiprocess_executor", "nodes": 2, "batch_bytes": 1}
    harness = DagsterHarness(tmp_path, shared, where, executor=executor)
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    killed: list[int] = []

    def kill(_shard_id: ShardID) -> None:
        for claim in () if killed else harness.backups.glob(".shardkeeper.run-*/b*.claim"):
            killed.append(json.loads(claim.read_text())["pid"])
            os.kill(killed[-1], signal.SIGKILL)

    for node in cluster.data:
        node.snapshotter.faults.before_shard = kill
    job = launched("back_up_influxdb")
    with dg.execute_job(job, instance=shared, run_config=FORKED) as result:
        assert result.success
    assert len(batches_of(result, "STEP_UP_FOR_RETRY")) == len(set(killed)) > 0
    assert len(batches_of(result)) == 3
    assert len({event.pid for event in result.all_events if event.is_step_start}) >= 7
    assert set(harness.shards().values()) == {FRESH}
    assert not (harness.backups / LOCK_NAME).exists()
    assert verify(harness.repository).problems == ()
    # A step that is launched again alone finds what the run before passed on.
    [manifest] = harness.backups.glob("*.manifest")
    last = dg.ReexecutionOptions(result.run_id, [f"{CLUSTER_ASSETS.name}__backup_set.{REPORT}"])
    with dg.execute_job(job, instance=shared, run_config=FORKED, reexecution_options=last) as again:
        assert again.success
    points = [
        event.metadata["restore_point"].value for event in harness.events(CLUSTER_ASSETS.backup_set)
    ]
    assert points == [manifest.stem] * 2
