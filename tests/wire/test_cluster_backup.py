"""Backups of a cluster: the best copy of each shard, and only what changed.

The embedded cluster stands for influxdb-cluster here, and its shards are restored into a real
influxd, which decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.clients.source import ReplicaInventory
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup.idle_replicas import differing_copies
from resources.model import ShardID
from tests.influxd import Influxd
from tests.wire.commands import Done, at, shardkeeper

WEEK_S = 604_800
START_S = 1_600_000_000
HOSTS, WEEKS = 20, 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=3) as running:
        running.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        lines = [
            f"cpu,host=h{host} usage={host}.5,n={host}i {START_S + week * WEEK_S + host}"
            for host in range(HOSTS)
            for week in range(WEEKS)
        ]
        running.write("telegraf", "\n".join(lines), precision="s")
        yield running


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def backup(cluster: EmbeddedCluster, directory: Path, *flags: str) -> Done:
    return shardkeeper("-bind", cluster.meta[0].http_addr, "backup", *flags, str(directory))


def saved(done: Done) -> dict[int, str]:
    """Shards that a run copied, and from which node."""
    found: dict[int, str] = {}
    for line in done.out.splitlines():
        if line.startswith("Backing up node "):
            node, rest = line.removeprefix("Backing up node ").split(", db ", 1)
            found[int(rest.split("shard ")[1].split("...")[0])] = node
    return found


def owners(cluster: EmbeddedCluster) -> dict[int, set[str]]:
    """TCP addresses of each shard's owners."""
    _, metastore = MetaClient(cluster.meta[0].http_addr).metastore()
    addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
    return {
        place.shard_id: {addresses[owner.node_id] for owner in place.shard.owners}
        for place in metastore.places()
    }


def newest_manifest(directory: Path) -> Any:
    return json.loads(max(directory.glob("*.manifest")).read_text())


def test_a_cluster_is_backed_up_whole_and_then_only_where_it_changed(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    first = backup(cluster, backups)
    assert first.code == 0, first.err
    everything = owners(cluster)
    assert saved(first).keys() == everything.keys()
    assert all(node in everything[shard] for shard, node in saved(first).items())
    assert all(entry["lastModified"] > 0 for entry in newest_manifest(backups)["files"])
    assert saved(backup(cluster, backups)) == {}
    cluster.write("telegraf", f"cpu,host=h1 usage=99 {START_S + 5}", precision="s")
    changed = saved(backup(cluster, backups))
    assert len(changed) == 1
    assert saved(backup(cluster, backups)) == {}


def test_a_delete_is_a_change(cluster: EmbeddedCluster, backups: Path) -> None:
    assert backup(cluster, backups).code == 0
    cluster.query("DELETE FROM cpu WHERE host = 'h1'", database="telegraf")
    assert saved(backup(cluster, backups))


@pytest.mark.fault(19)
def test_a_node_that_is_down_is_gone_around_and_named(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    down = cluster.data[0].tcp_addr
    cluster.stop_node(0)
    done = backup(cluster, backups)
    assert done.code == 0, done.err
    assert saved(done).keys() == owners(cluster).keys()
    assert down not in saved(done).values()
    assert f"data node {down} does not answer" in done.err


@pytest.mark.fault(19)
def test_a_shard_without_any_owner_that_answers_fails_alone(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    down = {cluster.data[0].tcp_addr, cluster.data[1].tcp_addr}
    lost = {shard for shard, nodes in owners(cluster).items() if nodes <= down}
    assert lost
    cluster.stop_node(0)
    cluster.stop_node(1)
    done = backup(cluster, backups)
    assert done.code == 3
    assert saved(done).keys() == owners(cluster).keys() - lost
    assert {
        failed["shardID"] for failed in newest_manifest(backups)["shardkeeper"]["failed"]
    } == lost
    cluster.start_node(0)
    cluster.start_node(1)
    healed = backup(cluster, backups)
    assert healed.code == 0, healed.err
    assert lost <= saved(healed).keys()


@pytest.mark.fault(1, 19)
def test_a_stream_that_breaks_is_read_from_the_next_owner(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    prefer = cluster.data[2]
    cluster.cut_after(700, at=2)
    done = backup(cluster, backups, "-from", prefer.tcp_addr)
    assert done.code == 0, done.err
    assert prefer.tcp_addr not in saved(done).values()
    assert shardkeeper("verify", str(backups)).code == 0


@pytest.mark.fault(20)
def test_copies_that_differ_are_reported_once_nobody_writes_to_them(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    shard, nodes = next(iter(owners(cluster).items()))
    one, other = (at for at in range(3) if cluster.data[at].tcp_addr in nodes)
    assert "copies differ" not in backup(cluster, backups).err
    cluster.diverge(one, ShardID(shard), f"cpu,host=h1 usage=1 {START_S * 10**9}")
    # A point that is on its way to the other owner looks the same, and so do files not yet merged.
    for _ in range(2):
        done = backup(cluster, backups)
        assert done.code == 0
        assert "differ" not in done.err
    for node in (one, other):
        cluster.data[node].store.compact(ShardID(shard))
    for done in (backup(cluster, backups), backup(cluster, backups, "-full")):
        [events] = [line for line in done.err.splitlines() if "differ" in line]
        assert f"shard {shard}: " in events
        for node in (one, other):
            size = cluster.data[node].store.shards()[ShardID(shard)].disk_bytes
            assert f"{cluster.data[node].tcp_addr} has {size} bytes" in events
    cluster.data[one].store.remove(ShardID(shard))
    lost = backup(cluster, backups)
    assert f"{cluster.data[one].tcp_addr} has nothing" in lost.err


@pytest.mark.fault(20)
def test_copies_that_changed_since_the_first_look_are_not_reported_to_differ(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    assert backup(cluster, backups).code == 0
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    _, metastore = source.metastore()
    places = tuple(metastore.places())
    now = source.inventory(metastore)
    shard = places[0].shard_id
    first, second = now.copies[shard]
    assert first.size_bytes is not None
    earlier = replace(first, size_bytes=first.size_bytes + 1)
    before = ReplicaInventory({**now.copies, shard: (earlier, second)})
    assert differing_copies(source, metastore, places, before, {}).differing == {}


def test_the_preferred_node_is_read_where_it_has_the_shard(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    prefer = cluster.data[1].tcp_addr
    done = backup(cluster, backups, "-from", prefer)
    assert done.code == 0, done.err
    assert all(
        node == prefer for shard, node in saved(done).items() if prefer in owners(cluster)[shard]
    )
    refused = backup(cluster, backups, "-from", "nowhere:8088")
    assert refused.code == 1
    assert prefer in refused.err


def test_a_data_node_by_itself_is_no_server(cluster: EmbeddedCluster, backups: Path) -> None:
    done = shardkeeper("-host", cluster.data[0].tcp_addr, "backup", str(backups))
    assert done.code == 16
    assert f"name a meta node of the cluster instead: -bind {cluster.meta[0].http_addr}" in done.err


@pytest.mark.wire
def test_a_clusters_backup_restores_into_a_real_server(
    cluster: EmbeddedCluster, backups: Path, influxd: Influxd
) -> None:
    assert backup(cluster, backups).code == 0
    done = shardkeeper(
        "restore", *at(influxd), "-db", "telegraf", "-newdb", "from_cluster", str(backups)
    )
    assert done.code == 0, done.err
    rows = influxd.rows("SELECT count(n), sum(n) FROM cpu", db="from_cluster")
    assert rows[0][1:] == [HOSTS * WEEKS, WEEKS * sum(range(HOSTS))]


def test_an_estimate_reports_what_would_be_copied_and_copies_nothing(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    done = backup(cluster, backups, "-estimate")
    assert done.code == 0, done.err
    shards = owners(cluster)
    assert f"{len(shards)} shards to copy, " in done.out
    assert "nothing was copied" in done.out
    assert not list(backups.iterdir())
    assert backup(cluster, backups).code == 0
    again = backup(cluster, backups, "-estimate")
    assert f"0 shards to copy, 0 bytes on disk; {len(shards)} unchanged" in again.out
    full = backup(cluster, backups, "-estimate", "-strategy", "full")
    assert "at the speed of the existing archives" in full.out


def test_only_the_metadata_can_be_saved(cluster: EmbeddedCluster, backups: Path) -> None:
    done = backup(cluster, backups, "-strategy", "only-meta")
    assert done.code == 0, done.err
    manifest = newest_manifest(backups)
    assert manifest["files"] is None
    assert manifest["limited"] is True
    assert manifest["shardkeeper"]["strategy"] == "only-meta"
    assert len(list(backups.glob("*.meta"))) == 1


def test_a_time_range_takes_whole_shards_that_touch_it(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    middle = START_S + WEEK_S
    done = backup(cluster, backups, "-start", "2020-09-14T00:00:00Z", "-end", "2020-09-21")
    assert done.code == 0, done.err
    assert newest_manifest(backups)["limited"] is True
    chosen = newest_manifest(backups)["files"]
    assert 0 < len(chosen) < len(owners(cluster))
    for entry in chosen:
        details = entry["shardkeeper"]
        assert details["groupStart"] <= middle * 10**9 < details["groupEnd"]
    refused = backup(cluster, backups, "-start", "2020-09-21", "-end", "2020-09-14")
    assert refused.code == 2
