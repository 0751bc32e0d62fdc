"""A history in memory, as a sensor has it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import dagster as dg
import pytest

from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def in_memory() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def cluster_assets() -> ClusterAssets:
    """Of a cluster that no other test has, since an instance takes long to make."""
    return ClusterAssets(f"eu{next(NUMBERS)}")


@pytest.fixture
def history(in_memory: dg.DagsterInstance, cluster_assets: ClusterAssets) -> AssetHistory:
    return AssetHistory.outside(in_memory, cluster_assets)
