"""Which shards are in no backup that is young enough, and what the newest state lacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resources.engine.verify.rpo import late_shards, missing_files
from resources.errors import BackupNotFound
from resources.model import ShardID
from resources.repository.formats.details import BackupDetails
from resources.repository.formats.manifest import Limits, ShardEntry
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests import builders as b

BEGAN = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)


def back_up(
    directory: Path,
    second: int,
    *entries: ShardEntry,
    unchanged: tuple[int, ...] = (),
    limits: Limits | None = None,
) -> None:
    """Store the manifest of a backup of that second."""
    details: BackupDetails = b.backup_details(
        unchanged=tuple(ShardID(i) for i in unchanged), has_copy=False
    )
    made = b.manifest(*entries, second=second, details=details, limits=limits)
    (directory / f"{b.stamp(second)}.manifest").write_bytes(made.encode())


def late(directory: Path, since_second: int, *shards: int) -> list[int]:
    cached = ManifestCache(repository(directory))
    cached.refresh()
    since = BEGAN + timedelta(seconds=since_second)
    return [p.shard_id for p in late_shards(cached, map(b.place, shards), since)]


def repository(directory: Path) -> BackupRepository:
    return BackupRepository.open(directory)


def test_a_shard_is_covered_by_the_last_backup_that_saved_it_or_found_it_unchanged(
    tmp_path: Path,
) -> None:
    back_up(tmp_path, 1, b.entry(1, second=1), b.entry(2, second=1))
    back_up(tmp_path, 5, b.entry(2, second=5), unchanged=(1,))
    assert late(tmp_path, 5, 1, 2) == []
    assert late(tmp_path, 6, 1, 2) == [1, 2]


def test_a_limited_backup_covers_what_it_saved_and_nothing_else(tmp_path: Path) -> None:
    back_up(tmp_path, 1, b.entry(1, second=1), b.entry(2, second=1))
    back_up(tmp_path, 5, b.entry(2, second=5), limits=Limits("db"))
    assert late(tmp_path, 5, 1, 2) == [1]


def test_a_shard_that_no_backup_knows_is_younger_than_the_last_whole_one(tmp_path: Path) -> None:
    back_up(tmp_path, 3, b.entry(1, second=3))
    assert late(tmp_path, 3, 9) == []
    assert late(tmp_path, 4, 9) == [9]


def test_before_the_first_whole_backup_every_unknown_shard_is_late(tmp_path: Path) -> None:
    assert late(tmp_path, 0, 1) == [1]
    back_up(tmp_path, 5, b.entry(2, second=5), limits=Limits("db"))
    assert late(tmp_path, 0, 1, 2) == [1]


def stored(directory: Path, entry: ShardEntry, size_bytes: int) -> None:
    (directory / entry.file_name).write_bytes(bytes(size_bytes))


def whole(directory: Path) -> ShardEntry:
    entry = b.entry(1, b.details(stored_bytes=9), second=1)
    back_up(directory, 1, entry)
    stored(directory, entry, 9)
    (directory / f"{b.stamp(1)}.meta").write_bytes(b"x")
    return entry


def problems(directory: Path) -> list[str]:
    return [str(problem) for problem in missing_files(repository(directory))[1]]


def test_a_state_whose_files_are_there_as_stored_lacks_nothing(tmp_path: Path) -> None:
    whole(tmp_path)
    assert missing_files(repository(tmp_path)) == (2, [])


@pytest.mark.parametrize("size_bytes", [0, 8, 10])
def test_an_archive_of_another_size_is_a_problem(tmp_path: Path, size_bytes: int) -> None:
    stored(tmp_path, whole(tmp_path), size_bytes)
    [problem] = problems(tmp_path)
    assert problem.endswith(f"{size_bytes} bytes, 20261122T095101Z.manifest says 9")


def test_a_missing_archive_or_meta_file_is_a_problem(tmp_path: Path) -> None:
    entry = whole(tmp_path)
    (tmp_path / entry.file_name).unlink()
    (tmp_path / f"{b.stamp(1)}.meta").unlink()
    n_files, found = missing_files(repository(tmp_path))
    assert (n_files, [problem.kind for problem in found]) == (2, ["archive", "meta"])
    assert problems(tmp_path) == [
        f"{entry.file_name}: listed by 20261122T095101Z.manifest and missing",
        "20261122T095101Z.meta: listed by 20261122T095101Z.manifest and missing",
    ]


def test_an_unchanged_shard_whose_backup_is_not_here_is_a_problem(tmp_path: Path) -> None:
    entry = whole(tmp_path)
    back_up(tmp_path, 5, unchanged=(1, 7))
    (tmp_path / f"{b.stamp(5)}.meta").write_bytes(b"x")
    [problem] = problems(tmp_path)
    assert "shard 7 is in an archive of an earlier backup that is not here" in problem
    assert entry.shard_id == 1


def test_without_a_backup_there_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(BackupNotFound):
        missing_files(repository(tmp_path))
