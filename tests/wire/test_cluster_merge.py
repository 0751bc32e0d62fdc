"""Merges into live databases of a cluster: every node has every point afterwards.

The embedded cluster stands for influxdb-cluster here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.devcluster.cluster import DevCluster
from tests.wire.commands import Done, shardkeeper

WEEK_S = 604_800
START_S = 1_600_000_000
LINES = [
    f'{name},host=h{host} usage={host}.5,n={host}i,s="h{host}" {START_S + week * WEEK_S + host}'
    for name in ("cpu", r"we\ ird\,x")
    for host in range(20)
    for week in range(3)
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    with DevCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as running:
        create(running)
        running.write("telegraf", "\n".join(LINES), precision="s")
        yield running


@pytest.fixture
def backups(tmp_path: Path, cluster: DevCluster) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    done = run(cluster, "backup", path)
    assert done, done
    return path


def create(cluster: DevCluster, replication: int = 2) -> None:
    cluster.query(f"CREATE DATABASE telegraf WITH REPLICATION {replication}")


def run(cluster: DevCluster, *words: object) -> Done:
    return shardkeeper("-bind", cluster.meta[-1].http_addr, "-timeout", "5s", *words)


def answers(cluster: DevCluster) -> list[Any]:
    """Every point, as each node in turn tells them."""
    q = 'SELECT * FROM "cpu" GROUP BY *; SELECT * FROM "we ird,x" GROUP BY *'
    return [
        cluster.query(q, database="telegraf", at=at)["results"] for at in range(len(cluster.data))
    ]


def traces(cluster: DevCluster, directory: Path) -> list[str]:
    """What a finished merge has taken away again: database, shards without one, journal."""
    _, now = MetaClient(cluster.meta[0].http_addr).metastore()
    known = {place.shard_id for place in now.places()}
    on_disk = {
        shard_id
        for node in cluster.data
        for shard_id in CoordinatorClient(node.tcp_addr).list_shards()
    }
    return [
        *(db.name for db in now.databases if db.name.startswith("shardkeeper_merge")),
        *(f"shard {shard_id}" for shard_id in sorted(on_disk - known)),
        *(path.name for path in directory.glob(".shardkeeper.merge*")),
    ]


@pytest.mark.parametrize("replication", [1, 2, 3])
def test_what_was_lost_comes_back_on_every_node_and_what_was_written_since_stays(
    cluster: DevCluster, backups: Path, replication: int
) -> None:
    before = answers(cluster)
    cluster.query("DROP DATABASE telegraf")
    create(cluster, replication)
    cluster.write("telegraf", f"cpu,host=new usage=1 {START_S}", precision="s")
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    found = answers(cluster)
    assert found[1:] == found[:-1]
    new = cluster.query("SELECT usage FROM cpu WHERE host = 'new'", database="telegraf")
    assert new["results"][0]["series"][0]["values"][0][1] == 1
    cluster.query("DROP SERIES FROM cpu WHERE host = 'new'", database="telegraf")
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def test_a_merge_into_what_is_whole_writes_nothing(cluster: DevCluster, backups: Path) -> None:
    before = answers(cluster)
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    assert done.out.count(" 0 new, 0 replaced") == done.out.count("Merging rp")
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def test_without_a_live_database_restore_is_named(cluster: DevCluster, backups: Path) -> None:
    cluster.query("DROP DATABASE telegraf")
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done.code == 1
    assert "shardkeeper restore -db telegraf" in done.err
    assert traces(cluster, backups) == []


def test_without_http_a_merge_is_refused_before_anything_is_done(
    cluster: DevCluster, backups: Path
) -> None:
    done = run(cluster, "-http", "none", "merge", "-db", "telegraf", backups)
    assert done.code == 2
    assert "-http" in done.err
    assert traces(cluster, backups) == []
