"""Merges and restores in Dagster, into clusters, and what limits the work on a node."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import DirectoryStore
from tests.influxd import Influxd
from tests.pipelines.harness import (
    CLUSTER_ASSETS,
    DAY_NS,
    FIRST_NS,
    DagsterHarness,
    failure,
    fill,
    write,
)
from tests.wire.points import count, points


def rows(cluster: EmbeddedCluster, database: str) -> Any:
    [result] = cluster.query(f"SELECT * FROM {database}..cpu")["results"]
    return result["series"][0]["values"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "cluster", data_nodes=3) as cluster:
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        for week in range(6):
            cluster.write("telegraf", f"cpu,host=a v={week} {FIRST_NS + week * 7 * DAY_NS}")
        yield cluster


@pytest.mark.wire
def test_a_merge_brings_back_what_was_deleted_and_keeps_what_is_new(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(3))
    assert harness.back_up().success
    before = points(source, "telegraf")
    source.query(f"DELETE FROM cpu WHERE time < {FIRST_NS + DAY_NS}", db="telegraf")
    write(source, "telegraf", weeks=[3], value=6.0)
    refused = failure(harness.run("merge_influxdb"))
    assert refused.metadata["exit_code"].value == "USAGE"
    assert harness.run("merge_influxdb", db="telegraf", dry_run=True).success
    assert count(points(source, "telegraf")) == 30
    refused = failure(harness.run("merge_influxdb", db="telegraf", dry_run=True, abandon=True))
    assert refused.metadata["exit_code"].value == "USAGE"
    assert harness.run("merge_influxdb", db="telegraf").success
    after = points(source, "telegraf")
    assert count(after) == 40
    for series, found in before.items():
        assert all(row in after[series] for row in found)
    [merged, planned] = harness.instance.fetch_observations(
        CLUSTER_ASSETS.restored_meta, limit=9
    ).records
    assert merged.asset_observation is not None
    assert merged.asset_observation.metadata["values_added"].value == 10
    assert planned.asset_observation is not None
    assert len(planned.asset_observation.metadata["plan"].records) == 3  # type: ignore[union-attr]


def test_a_cluster_is_restored_into_the_configured_target_by_default(
    cluster: EmbeddedCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with EmbeddedCluster(tmp_path / "target", data_nodes=2) as target:
        harness = DagsterHarness(
            tmp_path,
            instance,
            {"bind": cluster.meta[0].http_addr},
            target={"bind": target.meta[0].http_addr},
        )
        assert harness.back_up().success
        assert harness.run("restore_influxdb", newrf=2).success
        assert rows(target, "telegraf") == rows(cluster, "telegraf")
        assert len(harness.events(CLUSTER_ASSETS.restored_shards)) == 6
        both = {"cluster": "elsewhere", "bind": target.meta[0].http_addr}
        refused = failure(harness.run("restore_influxdb", target=both))
        assert refused.description.startswith("target names the cluster elsewhere and the address")


def test_no_node_is_read_by_more_than_its_share(
    cluster: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    open_shard, mutex = source.open_shard, threading.Lock()
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @contextmanager
    def counted(shard_id: Any, *, node: str, since_ns: int | None = None) -> Iterator[Any]:
        with mutex:
            now[node] += since_ns is None
            most[node] = max(most[node], now[node])
        try:
            with open_shard(shard_id, node=node, since_ns=since_ns) as stream:
                yield stream
        finally:
            with mutex:
                now[node] -= since_ns is None

    monkeypatch.setattr(source, "open_shard", counted)
    repository = BackupRepository(DirectoryStore(tmp_path / "here"), "here")
    # A second reading follows the first before its connection is closed.
    options = BackupOptions(parallel=6, per_node=1, read_twice_bytes=0)
    report = back_up(source, repository, options, Run(lambda _: None))
    assert len(report.saved) == 6
    assert max(most.values()) == 1  # a node may have been asked and not read
