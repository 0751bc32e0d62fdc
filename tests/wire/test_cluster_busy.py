"""A data node that keeps points in memory, and answers as if it had not.

The embedded nodes do as influxdb-cluster 1.8.11-c1.2.0 was seen to do beside another snapshot:
they list a shard's files without its cache, while /debug/vars tells of the cache.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup import replica_caches
from tests.faults.replicas import stored
from tests.wire.test_cluster_replicas import backup, create, places, write


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_caches, "PATIENCE_S", 0.3)


@pytest.mark.fault(20)
def test_a_node_that_is_busy_for_a_while_is_waited_for(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    for node in cluster.data:
        node.store.busy = 2
    done = backup(cluster, backups)
    assert done.code == 0, done.err
    assert len(stored(backups)) == 20


@pytest.mark.fault(20)
def test_a_shard_that_no_node_writes_out_fails(cluster: EmbeddedCluster, backups: Path) -> None:
    create(cluster, copies=3)
    assert backup(cluster, backups).code == 0
    write(cluster, range(20, 40))
    for node in cluster.data:
        node.store.busy = 10**6
    done = backup(cluster, backups)
    assert done.code != 0
    assert "did not write out what it has of it in memory" in done.err
    assert f"shard {places(cluster)[0].shard_id} failed" in done.err
    assert len(stored(backups)) == 20
    for node in cluster.data:
        node.store.busy = 0
    assert backup(cluster, backups).code == 0
    assert len(stored(backups)) == 40


@pytest.mark.fault(20)
def test_another_owner_is_read_and_the_busy_one_is_named(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    busy = cluster.data[1]
    busy.store.busy = 10**6
    done = backup(cluster, backups, "-from", busy.tcp_addr)
    assert done.code == 3
    assert f"{busy.tcp_addr} did not write out what it has of it in memory" in done.err
    assert len(stored(backups)) == 20


def test_where_http_does_not_report_that_is_reported(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    for node in cluster.data:
        node.store.busy = 10**6
        node.http.faults.refuse = True
    done = backup(cluster, backups)
    assert done.code == 0
    assert "not known whether caches were written out" in done.err


def test_a_node_reports_its_figures_or_nothing_but_never_stops_reporting(
    cluster: EmbeddedCluster,
) -> None:
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    create(cluster, copies=3)
    emit_to, mute = cluster.data[0], cluster.data[1]
    mute.http.faults.refuse = True
    shard = places(cluster)[0].shard_id
    cache = source.figures(emit_to.tcp_addr).shards[shard].cache
    assert cache is not None
    assert cache.memory_bytes > 0
    assert not source.figures(mute.tcp_addr).shards
    emit_to.http.faults.refuse = True
    with pytest.raises(Exception, match=str(emit_to.http_addr)):
        source.figures(emit_to.tcp_addr)
