"""Restores whose batches are steps: what Dagster shows and records, and what is tried again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.errors import ArchiveCorrupt, StoreFailed
from resources.model import ShardID
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, failure, launched
from tests.pipelines.test_restores import observations
from tests.pipelines.test_steps import FORKED, metadata_of, shared, steps_of
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.wire import points as wire
from tests.wire.points import Points

__all__ = ["shared"]  # a fixture
BATCHES = {"kind": "in_process", "nodes": 4, "batch_bytes": 1}
PLAN, ACTIVATE = CLUSTER_ASSETS.restore_op, "influxdb_activate_restore"
COPY = "copy"


@pytest.fixture
def harness(
    cluster: EmbeddedCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> DagsterHarness:
    return made(cluster, tmp_path, instance, BATCHES)


def made(
    cluster: EmbeddedCluster, directory: Path, instance: dg.DagsterInstance, executor: Any
) -> DagsterHarness:
    """A cluster that is backed up, and restored into beside the original."""
    where = {"bind": cluster.meta[0].http_addr, "executor": executor}
    found = DagsterHarness(directory, instance, where, target=where)
    assert found.back_up().success
    return found


def restore(harness: DagsterHarness, **config: Any) -> dg.ExecuteInProcessResult:
    wanted = {"db": "telegraf", "newdb": COPY, "allow_same_server": True, **config}
    return harness.run("restore_influxdb", **wanted)


def batches_of(result: Any, kind: str = "STEP_SUCCESS") -> list[str]:
    return [key for key in steps_of(result, kind) if "_fill_node_" in key]


def points(cluster: EmbeddedCluster, database: str) -> Points:
    return wire.points(front(cluster), database)


def databases(cluster: EmbeddedCluster) -> set[str]:
    return wire.databases(front(cluster))


def front(cluster: EmbeddedCluster) -> DevInfluxd:
    return DevInfluxd(Path("nowhere"), cluster.data[0])


def tidy(harness: DagsterHarness) -> bool:
    """Whether no record of a restore is left."""
    return not list(harness.backups.glob(".shardkeeper.*"))


def whole(cluster: EmbeddedCluster, harness: DagsterHarness) -> None:
    """All points are there, the restore is recorded once, and nothing else is left."""
    restored = points(cluster, COPY)
    assert restored == points(cluster, "telegraf")
    assert wire.count(restored) > 0
    assert len(harness.events(CLUSTER_ASSETS.restored_meta)) == 1
    for key in harness.partitions:
        [there] = harness.events(CLUSTER_ASSETS.restored_shards, key)
        [backup] = harness.events(CLUSTER_ASSETS.shard_backup, key)
        assert there.tags["dagster/data_version"] == backup.tags["dagster/data_version"]
    assert tidy(harness)


def test_a_restore_in_batches_is_recorded_as_any_other(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    result = restore(harness)
    assert result.success
    assert len(batches_of(result)) == 3
    facts = metadata_of(result, batches_of(result)[0])
    assert (facts["shards"], facts["read_back"]) == (1, "2 identical")
    assert facts["bytes"] > 0
    [restored] = harness.events(CLUSTER_ASSETS.restored_meta)
    assert len(restored.metadata["shards_restored"].records) == 3
    whole(cluster, harness)


def test_a_small_restore_makes_no_step_for_a_batch(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    result = restore(harness, shard=1)
    assert result.success
    assert batches_of(result) == []
    assert steps_of(result, "STEP_SKIPPED") == [ACTIVATE]
    assert len(harness.events(CLUSTER_ASSETS.restored_meta)) == 1


def test_a_dry_run_makes_no_step_and_creates_nothing(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    result = restore(harness, dry_run=True)
    assert result.success
    assert steps_of(result) == [PLAN]
    assert COPY not in databases(cluster)
    assert "plan" in observations(harness)[0]


class Failing:
    """The first batch cannot be filled, a number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> None:
        from resources.engine import restore_steps

        self.left, self._error = times, error
        self._fill = restore_steps.fill_batch
        monkeypatch.setattr(restore_steps, "fill_batch", self)
        monkeypatch.setattr("pipelines.restore_op.RETRY_DELAY_S", 0)

    def __call__(self, *args: Any) -> Any:
        if self.left > 0 and args[2].name == "b000000n0":
            self.left -= 1
            raise self._error
        return self._fill(*args)


@pytest.mark.fault(26)
def test_a_batch_that_fails_is_tried_again_alone(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Failing(monkeypatch, 2, StoreFailed("the disk fails"))
    harness = made(cluster, tmp_path, instance, BATCHES)
    result = restore(harness)
    assert result.success
    assert len(batches_of(result, "STEP_UP_FOR_RETRY")) == 2
    assert len(batches_of(result)) == 3
    whole(cluster, harness)


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("error", "attempts"),
    [(StoreFailed("the disk fails"), 3), (ArchiveCorrupt("the archive is damaged"), 1)],
)
def test_a_batch_that_fails_for_good_takes_back_what_the_restore_created(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    attempts: int,
) -> None:
    failing = Failing(monkeypatch, attempts, error)
    harness = made(cluster, tmp_path, instance, BATCHES)
    result = restore(harness)
    assert not result.success
    assert len(batches_of(result, "STEP_UP_FOR_RETRY")) == attempts - 1
    assert str(error) in failure(result).description
    assert steps_of(result, "STEP_FAILURE")[0] in batches_of(result, "STEP_FAILURE")
    assert ACTIVATE not in steps_of(result)
    assert COPY not in databases(cluster)
    [failed] = observations(harness)
    assert failed["outcome"].value == "failed"
    assert str(error) in failed["why"].value
    assert tidy(harness)
    assert failing.left == 0
    assert restore(harness).success
    whole(cluster, harness)


@pytest.mark.fault(26, 63)
def test_the_restore_after_a_run_that_ended_between_two_steps_continues_it_at_once(
    cluster: EmbeddedCluster, harness: DagsterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run is terminated or its processes are killed: no step takes anything back."""
    with monkeypatch.context() as patched:
        patched.setattr("resources.engine.restore_steps._give_up", lambda *_: None)
        Failing(patched, 1, ArchiveCorrupt("the archive is damaged"))
        assert not restore(harness).success
    assert COPY in databases(cluster)
    again = restore(harness)
    assert again.success
    logged = [record.message for record in harness.instance.all_logs(again.run_id)]
    assert any("this run continues it: 2 of 3 shards" in text for text in logged)
    whole(cluster, harness)


@pytest.mark.fault(26)
def test_steps_that_are_processes_restore_every_point_also_if_one_is_killed(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    shared: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = {"kind": "dagster:multiprocess_executor", "nodes": 2, "batch_bytes": 1}
    harness = made(cluster, tmp_path, shared, executor)
    monkeypatch.setattr("pipelines.restore_op.RETRY_DELAY_S", 0)
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    killed: list[int] = []

    def kill(_shard_id: ShardID) -> None:
        """When a batch reads back what it has sent."""
        for claim in () if killed else harness.backups.glob(".shardkeeper.fill-*/b*.claim"):
            killed.append(json.loads(claim.read_text())["pid"])
            os.kill(killed[-1], signal.SIGKILL)

    for node in cluster.data:
        node.snapshotter.faults.before_shard = kill
    wanted = {"db": "telegraf", "newdb": COPY, "allow_same_server": True, "dry_run": False}
    config = {
        **FORKED,
        "ops": {PLAN: {"config": wanted}},
        "resources": {"target": {"config": {"cluster": "elsewhere"}}},
    }
    with dg.execute_job(launched("restore_influxdb"), shared, run_config=config) as result:
        assert result.success
    assert len(batches_of(result, "STEP_UP_FOR_RETRY")) == len(set(killed)) > 0
    assert len(batches_of(result)) == 3
    assert len({event.pid for event in result.all_events if event.is_step_start}) >= 5
    whole(cluster, harness)
