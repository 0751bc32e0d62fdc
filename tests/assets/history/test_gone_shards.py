"""Which partitions of shards that are gone stay, and with what; which leave the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dagster as dg
import pytest

from assets.history import gone_shards
from assets.history.asset_history import AssetHistory, Kept, Seen
from assets.history.gone_shards import settle_gone
from assets.keys import ClusterAssets
from resources.model import Metastore, ShardID
from resources.repository.backup_set import Archive
from tests import builders as b


def source(*shards: int) -> Metastore:
    return b.metastore(b.database("db", b.policy("autogen", b.group(1, *shards))))


def key(shard: int, database: str = "db") -> str:
    return f"{database}/autogen/{shard}"


def scanned(history: AssetHistory, *shards: int, backed_up: Collection[int] = ()) -> None:
    """Have a history know these shards."""
    seen = [Seen(key(i), f"version of {i}", {"state": "there"}) for i in shards]
    history.add_partitions([one.partition for one in seen])
    history.observe(seen)
    history.back_up([Kept(seen[shards.index(i)], {}) for i in backed_up])


def archives(*of: Archive) -> Mapping[ShardID, Archive]:
    return {archive.entry.shard_id: archive for archive in of}


def test_while_all_shards_are_there_nothing_is_recorded(history: AssetHistory) -> None:
    scanned(history, 1, 2, backed_up=[1])
    assert settle_gone(history, source(1, 2), archives(b.archive(1))) == {}
    assert history.partitions() == [key(1), key(2)]
    assert history.gone() == set()


def test_a_shard_without_an_archive_leaves_the_graph_and_one_with_it_stays(
    history: AssetHistory,
) -> None:
    scanned(history, 1, 2, 3, backed_up=[1, 2])
    kept = b.archive(1)
    assert settle_gone(history, source(), archives(kept)) == {key(1): kept, key(2): None}
    assert history.partitions() == [key(1), key(2)]
    assert history.gone() == {key(1), key(2)}


def test_an_archive_that_no_run_recorded_keeps_its_shard(history: AssetHistory) -> None:
    """Another tool made it, or a run that ended before it could record it."""
    scanned(history, 1)
    kept = b.archive(1)
    assert settle_gone(history, source(), archives(kept)) == {key(1): kept}
    assert history.observed()[key(1)] == "version of 1"


def test_a_shard_that_is_gone_is_shown_at_the_version_of_its_archive(history: AssetHistory) -> None:
    scanned(history, 1, backed_up=[1])
    history.observe([Seen(key(1), "changed since", {})])
    settle_gone(history, source(), archives(b.archive(1)))
    assert history.observed()[key(1)] == history.backed_up()[key(1)] == "version of 1"


def test_a_shard_that_was_never_seen_has_a_version_too(history: AssetHistory) -> None:
    history.add_partitions([key(1)])
    settle_gone(history, source(), archives(b.archive(1)))
    assert history.observed()[key(1)] == "gone"


def test_what_is_gone_is_recorded_once(history: AssetHistory) -> None:
    scanned(history, 1, backed_up=[1])
    settle_gone(history, source(), archives(b.archive(1)))
    history.observe([Seen(key(1), "of a later scan", {})])
    assert settle_gone(history, source(), archives()) == {key(1): None}
    assert history.observed()[key(1)] == "of a later scan"


def test_a_shard_that_is_back_is_no_longer_marked_and_may_go_again(history: AssetHistory) -> None:
    scanned(history, 1, backed_up=[1])
    settle_gone(history, source(), archives(b.archive(1)))
    assert settle_gone(history, source(1), archives(b.archive(1))) == {}
    assert history.gone() == set()
    history.observe([Seen(key(1), "changed since", {})])
    settle_gone(history, source(), archives(b.archive(1)))
    assert history.observed()[key(1)] == "version of 1"


def test_one_scan_removes_no_more_than_some(
    history: AssetHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gone_shards, "MAX_FORGOTTEN", 2)
    scanned(history, 1, 2, 3, 4, 5, backed_up=[5])
    assert settle_gone(history, source(), archives()) == dict.fromkeys((key(3), key(4), key(5)))
    assert history.partitions() == [key(3), key(4), key(5)]
    assert history.gone() == {key(5)}
    assert settle_gone(history, source(), archives()) == {key(5): None}


@pytest.mark.parametrize(
    ("database", "policy", "same"),
    [
        ("db", "autogen", True),
        ("", "", True),  # influxd 1.6 leaves both names empty in a manifest of a single shard
        ("other", "autogen", False),
        ("db", "other", False),
    ],
)
def test_an_archive_is_of_a_shard_if_all_its_names_are(
    history: AssetHistory, database: str, policy: str, same: bool
) -> None:
    scanned(history, 1, backed_up=[1])
    found = b.archive(1, database=database, policy=policy)
    assert settle_gone(history, source(), archives(found)) == {key(1): found if same else None}


def test_a_partition_that_a_user_added_under_a_name_of_no_shard_goes(history: AssetHistory) -> None:
    history.add_partitions(["what a user typed"])
    assert settle_gone(history, source(1), archives(b.archive(1))) == {}
    assert history.partitions() == []


def test_a_gone_shard_says_since_when_and_what_restores_it(
    history: AssetHistory, in_memory: dg.DagsterInstance, cluster_assets: ClusterAssets
) -> None:
    scanned(history, 1, 2, backed_up=[1, 2])
    settle_gone(history, source(), archives(b.archive(1)))
    one, other = (shown(in_memory, cluster_assets.shards, key(i)) for i in (1, 2))
    assert one["state"].startswith("gone since 2")
    assert one["state"].endswith(f"its newest archive is {b.entry(1).file_name}")
    assert one["archive"] == b.entry(1).file_name
    assert (one["database"], one["retention_policy"], one["shard_id"]) == ("db", "autogen", "1")
    assert other["state"].endswith("when it was missed first")
    assert "archive" not in other


def shown(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> dict[str, str]:
    """The metadata that the page of a partition shows."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition])
    [record] = instance.fetch_materializations(wanted, limit=1).records
    event = record.asset_materialization
    assert event is not None
    return {name: str(value.value) for name, value in event.metadata.items()}
