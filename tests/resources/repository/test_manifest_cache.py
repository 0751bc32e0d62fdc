"""What manifests list is read once, and known as long as they are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.errors import BackupNotFound, ManifestUnreadable
from resources.model import ShardID
from resources.repository.formats.manifest import ShardEntry
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests import builders as b


def stored(directory: Path, second: int, *entries: ShardEntry, unchanged: tuple[int, ...] = ()):
    """Store the manifest of a backup of that second; none of its archives is there."""
    details = b.backup_details(unchanged=tuple(ShardID(i) for i in unchanged), has_copy=False)
    made = b.manifest(*entries, second=second, details=details)
    (directory / f"{b.stamp(second)}.manifest").write_bytes(made.encode())


@pytest.fixture
def cached(tmp_path: Path) -> ManifestCache:
    return ManifestCache(BackupRepository.open(tmp_path))


def test_each_manifest_is_read_once(tmp_path: Path, cached: ManifestCache) -> None:
    stored(tmp_path, 1, b.entry(1, second=1))
    [first] = cached.refresh()
    assert cached.refresh() == []
    stored(tmp_path, 2, b.entry(2, second=2), unchanged=(1,))
    [second] = cached.refresh()
    assert cached.newest is second
    assert cached.archives.keys() == {1, 2}
    assert cached.last_covered(ShardID(1)) == cached.last_whole
    assert str(cached.last_whole) == b.stamp(2)
    damaged = tmp_path / first.file_name
    damaged.write_bytes(b"{}")  # nothing reads it any more
    assert cached.listed().newest is second


def test_a_manifest_that_is_gone_is_forgotten(tmp_path: Path, cached: ManifestCache) -> None:
    stored(tmp_path, 1, b.entry(1, second=1))
    stored(tmp_path, 2, b.entry(2, second=2))
    cached.refresh()
    (tmp_path / f"{b.stamp(2)}.manifest").unlink()
    [kept] = cached.refresh()
    assert cached.newest is kept
    assert cached.archives.keys() == {1}


def test_what_is_listed_may_be_missing_and_the_repository_knows_it(
    tmp_path: Path, cached: ManifestCache
) -> None:
    stored(tmp_path, 1, b.entry(1, second=1), b.entry(2, second=1))
    there = b.entry(2, second=1).file_name
    (tmp_path / there).write_bytes(b"archive")
    assert cached.listed().archives.keys() == {1, 2}
    assert cached.listed().missing == ()
    found = cached.repository.current()
    assert found.archives.keys() == {2}
    assert [archive.entry.shard_id for archive in found.missing] == [1]


def test_without_a_backup_there_is_nothing_to_list(tmp_path: Path, cached: ManifestCache) -> None:
    with pytest.raises(BackupNotFound, match="No manifest files found"):
        cached.listed()
    assert (cached.newest, cached.metastore(), cached.covered()) == (None, None, [])


def test_a_damaged_manifest_is_not_passed_over(tmp_path: Path, cached: ManifestCache) -> None:
    stored(tmp_path, 1, b.entry(1, second=1))
    (tmp_path / f"{b.stamp(2)}.manifest").write_bytes(b"{")
    with pytest.raises(ManifestUnreadable):
        cached.refresh()
