"""A cluster that was backed up, and one to restore into.

The embedded cluster stands for influxdb-cluster here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from tests.wire.cluster_restore.scenario import fill
from tests.wire.commands import shardkeeper


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "source", meta_nodes=1, data_nodes=3) as running:
        fill(running, "telegraf")
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "target", meta_nodes=3, data_nodes=3) as running:
        yield running


@pytest.fixture
def backups(tmp_path: Path, source: EmbeddedCluster) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    done = shardkeeper("-bind", source.meta[0].http_addr, "backup", path)
    assert done, done
    return path
