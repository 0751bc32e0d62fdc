"""One source, one target, and one Dagster for all tests of a module: starting them takes long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from tests.live.deployment import Deployment
from tests.live.live_harness import configure, write_weeks

WEEKS = 117


@dataclass(frozen=True)
class Plant:
    """What a team has: clusters, backups, and Dagster over them."""

    source: EmbeddedCluster
    target: EmbeddedCluster
    backups: Path
    dagster: Deployment


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """120 shards: 117 weeks of `telegraf` in three copies each, three of `lonely` in one."""
    root = tmp_path_factory.mktemp("plant")
    with (
        EmbeddedCluster(root / "source") as source,
        EmbeddedCluster(root / "target", 1, 2) as target,
    ):
        source.query("CREATE DATABASE telegraf WITH REPLICATION 3")
        write_weeks(source, "telegraf", range(WEEKS), 1.0)
        source.query("CREATE DATABASE lonely WITH REPLICATION 1")
        write_weeks(source, "lonely", [0], 1.0)
        config = configure(root, source, target, limits={"attempts": 2})
        with Deployment(root / "home", {"SHARDKEEPER_CONFIG": str(config)}) as dagster:
            yield Plant(source, target, root / "backups", dagster)
