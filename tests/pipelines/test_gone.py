"""What is not there any more: said where it can be restored, forgotten where it cannot."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.evaluation import EVERY_SHARD_CURRENT
from resources.devcluster.cluster import DevCluster
from tests.pipelines.world import DAY_NS, FAMILY, FIRST_NS, World

MERGING = "shardkeeper_merge_0123456789ab"
OURS = [f"telegraf/autogen/{i}" for i in (1, 4, 7)]


@pytest.fixture
def world(over_cluster: World) -> World:
    return over_cluster


def create(cluster: DevCluster, database: str) -> None:
    cluster.query(f"CREATE DATABASE {database} WITH REPLICATION 2")
    cluster.write(database, f"cpu,host=a v=1 {FIRST_NS + 30 * DAY_NS}")


def state(world: World, partition: str) -> str:
    newest, *_ = world.events(FAMILY.shards, partition)
    return str(newest.metadata["state"].value)


def test_the_temporary_database_of_a_merge_is_neither_looked_at_nor_backed_up(
    cluster: DevCluster, world: World
) -> None:
    assert world.back_up().success
    _, cursor = world.sense("watch_influxdb")
    create(cluster, MERGING)
    create(cluster, "shardkeeper_merge_of_my_own")  # somebody's, who has read too much here
    assert world.look().success
    world.sense("watch_influxdb", cursor)
    assert world.back_up().success
    assert [key for key in world.partitions if MERGING in key] == []
    assert [key for key in world.partitions if "of_my_own" in key]
    assert not any(MERGING in path.name for path in world.backups.iterdir())
    assert world.check().passed
    assert world.status(FAMILY.backup_set) is StaleStatus.FRESH
    cluster.query(f"DROP DATABASE {MERGING}")
    assert world.look().success
    assert len(world.partitions) == 4


def test_what_was_never_backed_up_leaves_the_graph_when_it_goes(
    cluster: DevCluster, world: World
) -> None:
    assert world.back_up().success
    create(cluster, "passing")
    assert world.look().success
    [passing] = [key for key in world.partitions if key.startswith("passing/")]
    cluster.query("DROP DATABASE passing")
    # Somebody tries to fill it: it fails in a sentence, and is red for no longer than it is there.
    assert not world.materialize(FAMILY.shard_backup, first=passing).success
    world.instance.add_dynamic_partitions("influxdb/shards", ["what somebody typed"])
    assert world.look().success
    assert world.partitions == OURS
    assert world.check().passed
    assert world.back_up().success
    assert world.status(FAMILY.backup_set) is StaleStatus.FRESH


def test_a_dropped_shard_that_has_an_archive_says_since_when_it_is_gone(
    cluster: DevCluster, world: World
) -> None:
    create(cluster, "dropped")
    assert world.back_up().success
    [gone] = [key for key in world.partitions if key.startswith("dropped/")]
    cluster.write("dropped", f"cpu,host=a v=2 {FIRST_NS + 30 * DAY_NS}")
    assert world.look().success
    assert state(world, gone) == "changed since its archive"
    cluster.query("DROP DATABASE dropped")
    assert world.back_up().success
    assert state(world, gone).startswith("gone since 20")
    assert "its newest archive is 20" in state(world, gone)
    assert world.shards()[gone] is StaleStatus.FRESH  # nothing is left to copy
    assert world.check(FAMILY.shard_backup, EVERY_SHARD_CURRENT).passed
    assert world.status(FAMILY.backup_set) is StaleStatus.FRESH
    events = len(world.events(FAMILY.shards, gone))
    for _ in range(2):
        assert world.look().success
        [look, *_] = world.events(FAMILY.meta_snapshot)
        assert look.metadata["shards_gone"].value == 1
        assert [row.data["partition"] for row in look.metadata["gone"].records] == [gone]
    assert len(world.events(FAMILY.shards, gone)) == events  # said once
    assert all(state(world, key) == "as in its archive" for key in OURS)


def test_the_sensor_says_so_before_a_run_begins(cluster: DevCluster, world: World) -> None:
    create(cluster, "dropped")
    assert world.back_up().success
    [gone] = [key for key in world.partitions if key.startswith("dropped/")]
    cluster.query("DROP DATABASE dropped")
    asked, _ = world.sense("watch_influxdb")
    assert len(asked.run_requests) == 1
    assert state(world, gone).startswith("gone since 20")
    assert isinstance(world.instance, dg.DagsterInstance)
