"""Backups that other tools made are recorded, in parts if they are large, and each once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from assets.history.asset_history import AssetHistory
from pipelines.sensors import adopt_backups
from pipelines.sensors.adopt_backups import Adopted, adopt
from resources.protocol.meta import PortableData, encode_metastore
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests import builders as b


def back_up(directory: Path, second: int, *shards: int, meta: bool = True) -> None:
    """What another run stored in that second: the metastore of shards 1 to 3, and archives."""
    metastore = b.metastore(b.database("db", b.policy("autogen", b.group(1, 1, 2, 3))))
    data = encode_metastore(metastore)
    raw = PortableData(data, 0).encode()
    if meta:
        (directory / f"{b.stamp(second)}.meta").write_bytes(raw)
    content = {i: f"{second}{i}" * 32 for i in shards}
    entries = [b.entry(i, b.details(content=content[i]), second=second) for i in shards]
    details = b.backup_details(has_copy=False, meta_sha256=hashlib.sha256(raw).hexdigest())
    made = b.manifest(*entries, second=second, details=details)
    made = replace(made, meta=replace(made.meta, size_bytes=len(data)))
    (directory / f"{b.stamp(second)}.manifest").write_bytes(made.encode())


def adopted(history: AssetHistory, directory: Path, cursor: str | None = None) -> Adopted:
    return adopt(history, ManifestCache(BackupRepository.open(directory)), cursor)


def key(shard: int) -> str:
    return f"db/autogen/{shard}"


def version(second: int, shard: int) -> str:
    return (f"{second}{shard}" * 32)[:32]


def test_an_empty_directory_has_nothing_to_adopt(history: AssetHistory, tmp_path: Path) -> None:
    assert adopted(history, tmp_path) == Adopted("", "no backups")


def test_a_backup_is_recorded_as_if_a_run_had_made_it(
    history: AssetHistory, tmp_path: Path
) -> None:
    back_up(tmp_path, 1, 1, 2)
    found = adopted(history, tmp_path)
    assert found.cursor == f"{b.stamp(1)}.manifest"
    assert found.text == f"2 archives recorded; all backups up to {b.stamp(1)} are recorded"
    assert found.something
    assert history.backed_up() == history.observed() == {key(i): version(1, i) for i in (1, 2)}
    assert history.restore_points() == {b.stamp(1)}
    assert history.source_version() is not None


@pytest.mark.parametrize("cursor", [None, f"{b.stamp(1)}.manifest", f"{b.stamp(0)}"])
def test_what_is_recorded_is_not_recorded_again(
    history: AssetHistory, tmp_path: Path, cursor: str | None
) -> None:
    back_up(tmp_path, 1, 1, 2)
    adopted(history, tmp_path)
    found = adopted(history, tmp_path, cursor)
    assert not found.something
    assert found.cursor in (f"{b.stamp(1)}.manifest", cursor)


@pytest.mark.parametrize("cursor", ["what is this", "~", "~ 1", "9 1"])
def test_a_cursor_that_is_no_backup_begins_anew(
    history: AssetHistory, tmp_path: Path, cursor: str
) -> None:
    back_up(tmp_path, 1, 1, 2)
    assert adopted(history, tmp_path, cursor).something
    assert history.restore_points() == {b.stamp(1)}


def test_only_the_newest_archive_of_a_shard_counts(history: AssetHistory, tmp_path: Path) -> None:
    back_up(tmp_path, 1, 1, 2)
    back_up(tmp_path, 5, 2, 3)
    found = adopted(history, tmp_path)
    assert found.cursor == f"{b.stamp(5)}.manifest"
    assert found.text.startswith("3 archives recorded; ")
    assert history.backed_up() == {
        key(1): version(1, 1),
        key(2): version(5, 2),
        key(3): version(5, 3),
    }
    assert history.restore_points() == {b.stamp(1), b.stamp(5)}


def test_a_large_backup_is_recorded_in_parts(
    history: AssetHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt_backups, "MAX_AT_ONCE", 2)
    back_up(tmp_path, 1, 1, 2, 3)
    first = adopted(history, tmp_path)
    assert first == Adopted(" 2", f"1 archive of {b.stamp(1)}.manifest to go", True)
    assert list(history.backed_up()) == [key(1), key(2)]
    assert history.restore_points() == set()
    second = adopted(history, tmp_path, first.cursor)
    assert second.cursor == f"{b.stamp(1)}.manifest"
    assert second.text.startswith("1 archive recorded; ")
    assert history.restore_points() == {b.stamp(1)}


def test_one_tick_records_no_more_than_a_second_takes(
    history: AssetHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt_backups, "MAX_AT_ONCE", 2)
    back_up(tmp_path, 1, 1, 2)
    back_up(tmp_path, 5, 3)
    first = adopted(history, tmp_path)
    assert first.cursor == f"{b.stamp(1)}.manifest"
    assert adopted(history, tmp_path, first.cursor).cursor == f"{b.stamp(5)}.manifest"
    assert set(history.backed_up()) == {key(1), key(2), key(3)}


def test_without_its_metastore_a_backup_is_a_restore_point_without_shards(
    history: AssetHistory, tmp_path: Path
) -> None:
    back_up(tmp_path, 1, 1, meta=False)
    found = adopted(history, tmp_path)
    assert (found.text, found.something) == (f"all backups up to {b.stamp(1)} are recorded", True)
    assert history.backed_up() == {}
    assert history.restore_points() == {b.stamp(1)}
