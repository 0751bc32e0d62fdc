"""What is not there any more: said where it can be restored, forgotten where it cannot."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.evaluation import EVERY_SHARD_CURRENT
from resources.embedded.cluster import EmbeddedCluster
from tests.pipelines.harness import CLUSTER_ASSETS, DAY_NS, FIRST_NS, DagsterHarness

MERGING = "shardkeeper_merge_0123456789ab"
OURS = [f"telegraf/autogen/{i}" for i in (1, 4, 7)]


@pytest.fixture
def harness(over_cluster: DagsterHarness) -> DagsterHarness:
    return over_cluster


def create(cluster: EmbeddedCluster, database: str) -> None:
    cluster.query(f"CREATE DATABASE {database} WITH REPLICATION 2")
    cluster.write(database, f"cpu,host=a v=1 {FIRST_NS + 30 * DAY_NS}")


def state(harness: DagsterHarness, partition: str) -> str:
    newest, *_ = harness.events(CLUSTER_ASSETS.shards, partition)
    return str(newest.metadata["state"].value)


def test_the_temporary_database_of_a_merge_is_neither_scanned_nor_backed_up(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    assert harness.back_up().success
    _, cursor = harness.sense("watch_influxdb")
    create(cluster, MERGING)
    create(cluster, "shardkeeper_merge_of_my_own")  # made by a reader of our sources
    assert harness.scan().success
    harness.sense("watch_influxdb", cursor)
    assert harness.back_up().success
    assert [key for key in harness.partitions if MERGING in key] == []
    assert [key for key in harness.partitions if "of_my_own" in key]
    assert not any(MERGING in path.name for path in harness.backups.iterdir())
    assert harness.check().passed
    assert harness.status(CLUSTER_ASSETS.backup_set) is StaleStatus.FRESH
    cluster.query(f"DROP DATABASE {MERGING}")
    assert harness.scan().success
    assert len(harness.partitions) == 4


def test_what_was_never_backed_up_leaves_the_graph_when_it_goes(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    assert harness.back_up().success
    create(cluster, "passing")
    assert harness.scan().success
    [passing] = [key for key in harness.partitions if key.startswith("passing/")]
    cluster.query("DROP DATABASE passing")
    # A user tries to fill it: it fails in a sentence, and is red for no longer than it is there.
    assert not harness.materialize(CLUSTER_ASSETS.shard_backup, first=passing).success
    harness.instance.add_dynamic_partitions("influxdb/shards", ["what a user typed"])
    assert harness.scan().success
    assert harness.partitions == OURS
    assert harness.check().passed
    assert harness.back_up().success
    assert harness.status(CLUSTER_ASSETS.backup_set) is StaleStatus.FRESH


def test_a_dropped_shard_that_has_an_archive_says_since_when_it_is_gone(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    create(cluster, "dropped")
    assert harness.back_up().success
    [gone] = [key for key in harness.partitions if key.startswith("dropped/")]
    cluster.write("dropped", f"cpu,host=a v=2 {FIRST_NS + 30 * DAY_NS}")
    assert harness.scan().success
    assert state(harness, gone) == "changed since its archive"
    cluster.query("DROP DATABASE dropped")
    assert harness.back_up().success
    assert state(harness, gone).startswith("gone since 20")
    assert "its newest archive is 20" in state(harness, gone)
    assert harness.shards()[gone] is StaleStatus.FRESH  # nothing is left to copy
    assert harness.check(CLUSTER_ASSETS.shard_backup, EVERY_SHARD_CURRENT).passed
    assert harness.status(CLUSTER_ASSETS.backup_set) is StaleStatus.FRESH
    events = len(harness.events(CLUSTER_ASSETS.shards, gone))
    for _ in range(2):
        assert harness.scan().success
        [scan, *_] = harness.events(CLUSTER_ASSETS.meta_snapshot)
        assert scan.metadata["shards_gone"].value == 1
        assert [row.data["partition"] for row in scan.metadata["gone"].records] == [gone]
    assert len(harness.events(CLUSTER_ASSETS.shards, gone)) == events  # said once
    assert all(state(harness, key) == "as in its archive" for key in OURS)


def test_the_sensor_says_so_before_a_run_begins(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    create(cluster, "dropped")
    assert harness.back_up().success
    [gone] = [key for key in harness.partitions if key.startswith("dropped/")]
    cluster.query("DROP DATABASE dropped")
    asked, _ = harness.sense("watch_influxdb")
    assert len(asked.run_requests) == 1
    assert state(harness, gone).startswith("gone since 20")
    assert isinstance(harness.instance, dg.DagsterInstance)
