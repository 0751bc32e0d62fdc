"""Backups in a Dagster that lacks what we use without its being documented."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from dagster._core.definitions.data_version import StaleStatus

from resources.embedded.cluster import EmbeddedCluster
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, write_to

FAST = "assets.history.storage_calls"


@pytest.fixture(autouse=True)
def other_dagster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, FAST, None)
    yield
    assert sys.modules[FAST] is None


def test_a_backup_is_recorded_and_the_next_one_copies_what_changed(
    cluster: EmbeddedCluster, over_cluster: DagsterHarness
) -> None:
    harness = over_cluster
    assert harness.back_up().success
    assert set(harness.shards().values()) == {StaleStatus.FRESH}
    assert harness.check().passed
    write_to(cluster, 0, 2.0)
    assert harness.scan().success
    assert Counter(harness.shards().values()) == {StaleStatus.FRESH: 2, StaleStatus.STALE: 1}
    assert not harness.check().passed
    assert harness.back_up().success
    assert set(harness.shards().values()) == {StaleStatus.FRESH}
    newest = harness.events(CLUSTER_ASSETS.backup_set)[0]
    assert newest.metadata["shards_copied"].value == 1
