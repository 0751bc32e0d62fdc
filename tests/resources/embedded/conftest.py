"""A dev cluster, a dev server and a shard store of one's own; they start in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.server import EmbeddedServer
from resources.embedded.shards.store import ShardStore
from tests.resources.embedded.shards.content import NOW_NS, ONE, Open


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Three meta nodes, of which the first leads, and three data nodes: 4, 5 and 6."""
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Open]:
    """Opens the store; again: after closing the one before."""
    stores: list[ShardStore] = []

    def open_() -> ShardStore:
        for store in stores:
            store.close()
        stores.append(ShardStore(tmp_path / "node", clock=lambda: NOW_NS))
        return stores[-1]

    yield open_
    stores[-1].close()


@pytest.fixture
def store(reopened: Open) -> ShardStore:
    store = reopened()
    store.create("db", "rp", ONE)
    return store
