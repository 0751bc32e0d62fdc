"""An owner that lost its shard is filled from the owner that has all its points."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.model import NodeInfo, ShardPlace
from tests.influxd import Influxd
from tests.wire.any_cluster import AnyCluster, first_cluster
from tests.wire.commands import Done, at, shardkeeper

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyCluster]:
    with first_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def place(cluster: AnyCluster) -> Iterator[ShardPlace]:
    """A shard with two owners, both of which have it."""
    name = cluster.filled()
    held = [CoordinatorClient(node.tcp_addr).list_shards() for node in cluster.nodes]
    yield next(
        p
        for p in cluster.metastore().places()
        if p.database == name and sum(p.shard_id in shards for shards in held) > 1
    )
    cluster.drop(name)


def owners(cluster: AnyCluster, place: ShardPlace) -> list[NodeInfo]:
    ids = {owner.node_id for owner in place.shard.owners}
    return [node for node in cluster.nodes if node.id in ids]


def lose(place: ShardPlace, *nodes: NodeInfo) -> None:
    for node in nodes:
        assert CoordinatorClient(node.tcp_addr).remove_shard(place.shard_id)


def repair(cluster: AnyCluster, place: ShardPlace, *words: str) -> Done:
    return shardkeeper("-bind", cluster.bind, "repair-replica", "-shard", place.shard_id, *words)


def test_the_owner_that_lost_it_is_filled_once_that_is_asked_for(
    cluster: AnyCluster, place: ShardPlace
) -> None:
    first, second, *_ = owners(cluster, place)
    before = CoordinatorClient(first.tcp_addr).list_shards()[place.shard_id].size_bytes
    lose(place, second)

    shown = repair(cluster, place)
    assert shown.code == 0, shown
    assert f"{second.tcp_addr}: nothing" in shown.out
    assert place.shard_id not in CoordinatorClient(second.tcp_addr).list_shards()

    done = repair(cluster, place, "-apply")
    assert done.code == 0, done
    assert f"on {second.tcp_addr} is filled, read back and compared" in done.out
    for node in (first, second):
        assert place.shard_id in CoordinatorClient(node.tcp_addr).list_shards()
    assert CoordinatorClient(first.tcp_addr).list_shards()[place.shard_id].size_bytes >= before > 0
    again = repair(cluster, place, "-apply")
    assert "no owner lost it" in again.out


def test_a_shard_that_nobody_has_needs_a_backup(cluster: AnyCluster, place: ShardPlace) -> None:
    lose(place, *owners(cluster, place))
    done = repair(cluster, place, "-apply")
    assert done.code == 1, done
    assert f"-newshard {place.shard_id}" in done.err


def test_a_single_server_has_no_replicas(source: Influxd) -> None:
    done = shardkeeper(*at(source), "repair-replica", "-shard", 1)
    assert done.code == 2, done
