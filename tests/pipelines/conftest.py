from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from resources.embedded.cluster import EmbeddedCluster
from tests.influxd import Influxd
from tests.pipelines.harness import DagsterHarness, at, write_to


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def source(influxd_factory: Callable[..., Influxd]) -> Influxd:
    return influxd_factory()


@pytest.fixture
def harness(source: Influxd, tmp_path: Path, instance: dg.DagsterInstance) -> DagsterHarness:
    return DagsterHarness(tmp_path, instance, at(source))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Three shards in two copies each: 1, 4 and 7."""
    with EmbeddedCluster(tmp_path / "cluster", data_nodes=3) as cluster:
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        for week in range(3):
            write_to(cluster, week, 1.0)
        yield cluster


@pytest.fixture
def over_cluster(
    cluster: EmbeddedCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> DagsterHarness:
    return DagsterHarness(tmp_path, instance, {"bind": cluster.meta[0].http_addr})
