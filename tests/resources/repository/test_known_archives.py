"""What the repository has of a shard, and whether it can be relied on."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.model import ShardID
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.details import FailedShard
from resources.repository.known_archives import KnownArchives
from resources.repository.repository import BackupRepository
from tests import builders as b

ARCHIVE = b.archive(1, b.details(stored_bytes=3))


def known(
    directory: Path, backups: BackupSet | None, *, no_good: tuple[int, ...] = ()
) -> KnownArchives:
    repository = BackupRepository.open(directory)
    return KnownArchives(repository, backups, [ShardID(i) for i in no_good])


def store(directory: Path, archive: Archive, content: bytes = b"abc") -> None:
    (directory / archive.entry.file_name).write_bytes(content)


def test_an_archive_is_whole_if_its_file_has_the_size_it_was_stored_with(tmp_path: Path) -> None:
    store(tmp_path, ARCHIVE)
    found = known(tmp_path, b.backup_set(ARCHIVE))
    assert found.archive_of(b.place(1)) == ARCHIVE
    assert found.is_whole(ARCHIVE)


@pytest.mark.parametrize("content", [b"", b"ab", b"abcd"])
def test_a_file_of_another_size_is_not_whole(tmp_path: Path, content: bytes) -> None:
    store(tmp_path, ARCHIVE, content)
    assert not known(tmp_path, b.backup_set(ARCHIVE)).is_whole(ARCHIVE)


def test_neither_a_missing_file_nor_one_that_is_known_as_damaged_is_whole(tmp_path: Path) -> None:
    assert not known(tmp_path, b.backup_set(ARCHIVE)).is_whole(ARCHIVE)
    assert not known(tmp_path, b.backup_set(ARCHIVE)).is_whole(None)
    store(tmp_path, ARCHIVE)
    assert not known(tmp_path, b.backup_set(ARCHIVE), no_good=(1,)).is_whole(ARCHIVE)
    assert known(tmp_path, b.backup_set(ARCHIVE), no_good=(2,)).is_whole(ARCHIVE)


def test_an_archive_of_the_original_tools_is_whole_at_any_size(tmp_path: Path) -> None:
    theirs = b.archive(1)
    store(tmp_path, theirs, b"anything")
    assert known(tmp_path, b.backup_set(theirs)).is_whole(theirs)


@pytest.mark.parametrize("other", [b.place(1, database="x"), b.place(1, policy="x"), b.place(2)])
def test_an_archive_of_that_number_in_another_place_is_not_the_shards(
    tmp_path: Path, other: object
) -> None:
    found = known(tmp_path, b.backup_set(ARCHIVE))
    assert found.archive_of(other) is None  # type: ignore[arg-type]


def test_an_archive_without_names_may_be_of_any_place(tmp_path: Path) -> None:
    nameless = b.archive(1, database="", policy="")
    assert known(tmp_path, b.backup_set(nameless)).archive_of(b.place(1)) == nameless


def test_a_missing_archive_is_still_the_newest_one(tmp_path: Path) -> None:
    older = b.archive(1, second=0)
    newer = b.archive(1, second=1)
    found = known(tmp_path, b.backup_set(older, missing=[newer]))
    assert found.archive_of(b.place(1)) == newer


def test_shards_that_the_newest_backup_lists_without_an_archive_were_heard_of(
    tmp_path: Path,
) -> None:
    details = b.backup_details(unchanged=(ShardID(2),), failed=(FailedShard(ShardID(3), "why"),))
    found = known(tmp_path, b.backup_set(ARCHIVE, details=details))
    assert [found.has_heard_of(b.place(i)) for i in (1, 2, 3, 4)] == [True, True, True, False]
    theirs = known(tmp_path, b.backup_set(ARCHIVE))
    assert [theirs.has_heard_of(b.place(i)) for i in (1, 2)] == [True, False]


def test_before_the_first_backup_nothing_is_known(tmp_path: Path) -> None:
    found = known(tmp_path, None)
    assert found.archive_of(b.place(1)) is None
    assert not found.has_heard_of(b.place(1))
