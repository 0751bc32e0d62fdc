"""What is written to the history after a scan, a backup and a restore, and what is left out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

import pytest

from assets.history.asset_history import AssetHistory, Seen
from assets.history.recording import (
    archive_version,
    by_partition,
    left_behind,
    record_backup,
    record_scan,
    server_version,
    shard_keys,
)
from resources.clients.source import SourceFacts
from resources.engine.backup.change_detection import Reason, ShardState, source_version
from resources.engine.backup.idle_replicas import Comparison
from resources.engine.backup.plan import BackupPlan
from resources.engine.backup.run import BackupReport, Saved
from resources.engine.backup.skipped_shards import LeftAlone
from resources.errors import UsageError
from resources.model import Metastore, ShardID
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests import builders as b

CONTENT = "b" * 32
"""The version of a shard that equals an archive of the builders."""


def source(*shards: int) -> Metastore:
    return b.metastore(b.database("db", b.policy("autogen", b.group(1, *shards))))


def key(shard: int) -> str:
    return f"db/autogen/{shard}"


def state(shard: int, reason: Reason = "unchanged", news: str = "") -> ShardState:
    archive = None if reason == "new" else b.archive(shard, b.details(b.file()))
    return ShardState(b.place(shard), reason, archive, news)


def plan(*states: ShardState) -> BackupPlan:
    metastore = source(*(one.place.shard_id for one in states))
    return BackupPlan(
        meta=b"",
        metastore=metastore,
        facts=SourceFacts(),
        states=states,
        absent=(),
        unserved=(),
        copies=Comparison(),
        address="h:8088",
        left_alone=cast("LeftAlone", None),
    )


def report(saved: Collection[int] = (), unchanged: Collection[ShardState] = ()) -> BackupReport:
    entries = [b.entry(i, b.details(b.file(), content="c" * 64), second=9) for i in saved]
    made = [Saved(state(e.shard_id, "changed", "x"), e, "h:8088", 1.0, 1) for e in entries]
    shards = [*saved, *(one.place.shard_id for one in unchanged)]
    return BackupReport(
        manifest_file=f"{b.stamp(9)}.manifest",
        manifest=b.manifest(*entries, second=9, details=b.backup_details()),
        saved=tuple(made),
        unchanged=tuple(unchanged),
        gone=(),
        failed=(),
        seconds=1.0,
        metastore=source(*shards),
    )


@pytest.fixture
def cached(tmp_path: Path) -> ManifestCache:
    """A directory with the backup that made the archives of the builders."""
    made = b.manifest(details=b.backup_details(has_copy=False))
    (tmp_path / f"{b.stamp(0)}.manifest").write_bytes(made.encode())
    return ManifestCache(BackupRepository.open(tmp_path))


# --- scans ------------------------------------------------------------------------------------


def test_a_scan_records_what_is_new_since_the_last_one(history: AssetHistory) -> None:
    record_scan(history, plan(state(1), state(2, "changed", "x")), {})
    assert history.observed() == {key(1): CONTENT, key(2): f"{CONTENT}+x"}
    history.observe([Seen(key(1), "marked by the test", {})])
    record_scan(history, plan(state(1), state(2, "changed", "x")), {})
    assert history.observed() == {key(1): CONTENT, key(2): f"{CONTENT}+x"}


def test_the_version_of_the_server_is_that_of_its_shards(history: AssetHistory) -> None:
    found = plan(state(1), state(2, "changed", "x"))
    version, gone = record_scan(history, found, {})
    versions = {ShardID(1): CONTENT, ShardID(2): f"{CONTENT}+x"}
    assert (version, gone) == (source_version(found.metastore, versions), {})
    assert server_version(history, found.metastore) == version
    news = {ShardID(2): "seen and not recorded"}
    assert server_version(history, found.metastore, news) == source_version(
        found.metastore, {**versions, **news}
    )


def test_a_shard_that_only_a_silent_node_may_have_gets_no_partition(history: AssetHistory) -> None:
    history.add_partitions([key(1)])
    unread = [ShardState(b.place(i), "new", trouble="its node is silent") for i in (1, 2)]
    assert list(by_partition(history, [*unread, state(3)])) == [key(1), key(3)]


# --- backups ----------------------------------------------------------------------------------


def test_a_copied_shard_is_as_in_its_archive(history: AssetHistory, cached: ManifestCache) -> None:
    history.add_partitions([key(1)])
    history.observe([Seen(key(1), f"{CONTENT}+x", {})])
    record_backup(history, report([1]), cached, archives={}, seen_before=history.observed())
    assert history.observed() == history.backed_up() == {key(1): "c" * 32}
    assert history.partitions() == [key(1)]


def test_an_unchanged_shard_is_recorded_once(history: AssetHistory, cached: ManifestCache) -> None:
    found = report(unchanged=[state(1)])
    record_backup(history, found, cached, archives={}, seen_before={})
    assert history.observed() == history.backed_up() == {key(1): CONTENT}
    history.observe([Seen(key(1), CONTENT, {"by": "the test"})])
    record_backup(history, found, cached, archives={}, seen_before=history.observed())
    assert history.observed() == {key(1): CONTENT}


def test_an_older_observation_of_an_unchanged_shard_is_corrected(
    history: AssetHistory, cached: ManifestCache
) -> None:
    found = report(unchanged=[state(1)])
    record_backup(history, found, cached, archives={}, seen_before={})
    history.observe([Seen(key(1), "of an earlier scan", {})])
    record_backup(history, found, cached, archives={}, seen_before=history.observed())
    assert history.observed() == {key(1): CONTENT}


def test_an_observation_that_came_during_the_backup_stays(
    history: AssetHistory, cached: ManifestCache
) -> None:
    found = report(unchanged=[state(1)])
    record_backup(history, found, cached, archives={}, seen_before={})
    before = history.observed()
    history.observe([Seen(key(1), "of a scan meanwhile", {})])
    record_backup(history, found, cached, archives={}, seen_before=before)
    assert history.observed() == {key(1): "of a scan meanwhile"}


def test_each_shard_of_a_planned_run_gets_its_event(
    history: AssetHistory, cached: ManifestCache
) -> None:
    found = report(unchanged=[state(1)])
    record_backup(history, found, cached, archives={}, seen_before={})
    history.observe([Seen(key(1), "of an earlier scan", {})])
    record_backup(history, found, cached, archives={}, seen_before={}, planned=True)
    assert history.observed() == {key(1): CONTENT}


def test_shards_that_went_during_the_backup_are_gone_after_it(
    history: AssetHistory, cached: ManifestCache
) -> None:
    history.add_partitions([key(7)])
    record_backup(history, report([1]), cached, archives={}, seen_before={})
    assert history.partitions() == [key(1)]


# --- what the records say ---------------------------------------------------------------------


def test_a_shard_is_left_behind_if_it_differs_from_its_archive_or_failed(
    history: AssetHistory, cached: ManifestCache
) -> None:
    record_backup(history, report([1, 2, 3]), cached, archives={}, seen_before={})
    history.observe([Seen(key(2), "changed since", {})])
    there, left = left_behind(history, source(1, 2, 3, 4, 5), [ShardID(3), ShardID(5)])
    assert [place.shard_id for place in there] == [1, 2, 3, 5]  # 4 was never seen
    assert [place.shard_id for place in left] == [2, 3, 5]


def test_an_archive_without_details_equals_no_shard() -> None:
    assert archive_version(b.entry(1, b.details())) == CONTENT
    assert archive_version(b.entry(1)) == f"none+{b.entry(1).file_name}"


def test_partitions_to_back_up_are_shards_and_there_is_one() -> None:
    assert {text: one.shard_id for text, one in shard_keys([key(1), key(2)]).items()} == {
        key(1): 1,
        key(2): 2,
    }
    with pytest.raises(UsageError, match="no partition was chosen"):
        shard_keys([])
    with pytest.raises(UsageError, match="is no shard's partition"):
        shard_keys([key(1), "what a user typed"])
