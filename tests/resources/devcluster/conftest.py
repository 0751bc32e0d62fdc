"""A dev cluster and a dev server of one's own; they start in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.devcluster.cluster import DevCluster
from resources.devcluster.server import DevServer


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DevCluster]:
    """Three meta nodes, of which the first leads, and three data nodes: 4, 5 and 6."""
    with DevCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    with DevServer(tmp_path / "server") as running:
        yield running
