"""Replicas that differ, shards that are nowhere, and what counts as a change in a cluster.

On the embedded cluster, which here does as influxdb-cluster 1.8.11-c1.2.0 was seen to do: a node
that was down misses what is written meanwhile, a DELETE moves the time of every shard of its
database, and a shard that does not open is left out without a word.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.model import ShardID, ShardPlace
from tests.faults.replicas import stored
from tests.wire.commands import Done, shardkeeper
from tests.wire.test_cluster_backup import newest_manifest, saved

START_S, HOUR_S = 1_600_041_600, 3600


def backup(cluster: EmbeddedCluster, directory: Path, *flags: str) -> Done:
    return shardkeeper("-bind", cluster.meta[0].http_addr, "backup", *flags, str(directory))


def create(cluster: EmbeddedCluster, copies: int, hours: int = 1) -> None:
    """A database of 20 points an hour."""
    cluster.query(
        f"CREATE DATABASE db WITH DURATION INF REPLICATION {copies} SHARD DURATION 1h NAME rp"
    )
    for hour in range(hours):
        write(cluster, range(20), hour=hour)


def write(cluster: EmbeddedCluster, seconds: range, *, hour: int = 0, value: int = 0) -> None:
    base = START_S + hour * HOUR_S
    lines = [f"m,host=h{s % 5} v={value or s} {base + s}" for s in seconds]
    cluster.write("db", "\n".join(lines), precision="s")


def places(cluster: EmbeddedCluster) -> list[ShardPlace]:
    return list(MetaClient(cluster.meta[0].http_addr).metastore()[1].places())


def write_around(cluster: EmbeddedCluster, node: int, seconds: range, **more: int) -> None:
    """Write while a node is down, and flush it as a backup to elsewhere does when it is back."""
    cluster.stop_node(node)
    write(cluster, seconds, **more)
    cluster.start_node(node)
    for shard in cluster.data[node].store.shards():
        cluster.data[node].store.flush(shard)


@pytest.mark.fault(20)
def test_the_archive_is_made_of_the_replica_with_all_points(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    write_around(cluster, 1, range(20, 60))
    done = backup(cluster, backups, "-from", cluster.data[1].tcp_addr)
    assert done.code == 0, done.err
    assert f"{cluster.data[1].tcp_addr} misses 40 values" in done.err
    assert len(stored(backups)) == 60
    again = backup(cluster, backups)
    assert (again.code, saved(again)) == (0, {})


@pytest.mark.fault(20)
def test_a_later_run_replaces_the_archive_of_a_worse_replica(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    write_around(cluster, 1, range(20, 60))
    for node in (0, 2):
        cluster.stop_node(node)
    assert backup(cluster, backups).code == 0
    assert len(stored(backups)) == 20
    for node in (0, 2):
        cluster.start_node(node)
    assert backup(cluster, backups).code == 0
    assert len(stored(backups)) == 60


@pytest.mark.fault(20)
def test_replicas_of_which_none_has_all_points_are_named_each_time(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    write_around(cluster, 0, range(20, 60))
    for node in (1, 2):
        cluster.stop_node(node)
    write(cluster, range(60, 70))
    for node in (1, 2):
        cluster.start_node(node)
    shard = places(cluster)[0].shard_id
    for copied in (True, False):
        done = backup(cluster, backups)
        assert done.code == 3
        assert f"shard {shard} failed: " in done.err
        assert bool(saved(done)) == copied
        [failed] = newest_manifest(backups)["shardkeeper"]["failed"]
        assert failed["shardID"] == shard
    assert len(stored(backups)) == 60
    assert shardkeeper("verify", str(backups)).code == 0


@pytest.mark.fault(20)
def test_an_owner_without_the_shard_is_named(cluster: EmbeddedCluster, backups: Path) -> None:
    create(cluster, copies=3)
    shard = places(cluster)[0].shard_id
    cluster.data[2].store.remove(shard)
    done = backup(cluster, backups)
    assert done.code == 0
    assert f"shard {shard}: {cluster.data[2].tcp_addr} owns it and has nothing of it" in done.err


@pytest.mark.parametrize("how", ["lost", "broken"])
def test_a_shard_that_is_gone_or_did_not_open_is_no_planned_one(
    cluster: EmbeddedCluster, backups: Path, tmp_path: Path, how: str
) -> None:
    create(cluster, copies=1, hours=2)
    assert backup(cluster, backups).code == 0
    node = cluster.data[0]
    shard, stored_shard = next(iter(node.store.shards().items()))
    cluster.stop_node(0)
    path = node.store.directory / "data" / stored_shard.database / stored_shard.policy / str(shard)
    if how == "lost":
        shutil.rmtree(path)
    else:
        file = next(path.glob("*.tsm"))
        file.write_bytes(b"XXXX" + file.read_bytes()[4:])
    cluster.start_node(0)
    before = len(stored(backups))
    for _ in range(2):
        done = backup(cluster, backups)
        assert done.code == 3
        assert f"shard {shard} failed: no node has it any more" in done.err
        assert "Failed to open shard" in done.err
    assert len(stored(backups)) == before
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    first = backup(cluster, elsewhere)
    assert first.code == 0
    assert "on no node: " in first.err
    assert f" {shard}" in first.err.partition("on no node:")[2]


def test_a_delete_in_one_shard_copies_one_shard(cluster: EmbeddedCluster, backups: Path) -> None:
    create(cluster, copies=3, hours=12)
    assert len(saved(backup(cluster, backups))) == 12
    times = {s: node.last_modified_ns for s, node in cluster.data[0].store.shards().items()}
    cluster.query(f"DELETE FROM m WHERE time = {START_S + 5 * HOUR_S + 3}s", database="db")
    now = {s: node.last_modified_ns for s, node in cluster.data[0].store.shards().items()}
    assert all(now[s] != times[s] for s in times)
    done = backup(cluster, backups)
    assert done.code == 0, done.err
    assert list(saved(done)) == [places(cluster)[5].shard_id]
    assert saved(backup(cluster, backups)) == {}


def test_a_write_under_a_clock_that_went_back_is_a_change(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    """The time of the last change stays as it was, since a later one is known."""
    create(cluster, copies=3)
    assert backup(cluster, backups).code == 0
    shard = ShardID(places(cluster)[0].shard_id)
    for node in cluster.data:
        node.store.set_clock(lambda: (START_S - 10**7) * 10**9)
    before = cluster.data[0].store.shards()[shard].last_modified_ns
    write(cluster, range(20, 21))
    assert cluster.data[0].store.shards()[shard].last_modified_ns == before
    assert list(saved(backup(cluster, backups))) == [shard]
    assert len(stored(backups)) == 21
