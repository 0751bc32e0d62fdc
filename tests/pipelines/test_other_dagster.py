"""Backups in a Dagster that lacks what we use without its being documented."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from dagster._core.definitions.data_version import StaleStatus

from resources.devcluster.cluster import DevCluster
from tests.pipelines.world import FAMILY, World, write_to

FAST = "assets.history.storage_calls"


@pytest.fixture(autouse=True)
def other_dagster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, FAST, None)
    yield
    assert sys.modules[FAST] is None


def test_a_backup_is_recorded_and_the_next_one_copies_what_changed(
    cluster: DevCluster, over_cluster: World
) -> None:
    world = over_cluster
    assert world.back_up().success
    assert set(world.shards().values()) == {StaleStatus.FRESH}
    assert world.check().passed
    write_to(cluster, 0, 2.0)
    assert world.look().success
    assert Counter(world.shards().values()) == {StaleStatus.FRESH: 2, StaleStatus.STALE: 1}
    assert not world.check().passed
    assert world.back_up().success
    assert set(world.shards().values()) == {StaleStatus.FRESH}
    newest = world.events(FAMILY.backup_set)[0]
    assert newest.metadata["shards_copied"].value == 1
