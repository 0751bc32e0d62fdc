"""What a backup brought: which shards are gone, new or changed since the backups before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.engine.verify.backup_diff import Succession
from resources.protocol.meta import PortableData, encode_metastore
from resources.repository.backup_set import StoredManifest
from resources.repository.formats.details import ShardDetails
from resources.repository.formats.manifest import Limits, MetaEntry, ShardEntry
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import DirectoryStore
from tests.builders import (
    database,
    details,
    entry,
    file,
    group,
    metastore,
    policy,
    stamp,
    stored,
)

ONE, OTHER = details(file(1)), details(file(2), content="f" * 64)


class Directory:
    """A directory of backups, each of which lists the shards that its source had."""

    def __init__(self, path: Path) -> None:
        self._path = path
        store = DirectoryStore(path)
        self.walk = Succession(BackupRepository(store, str(path), scratch_dir=str(path)))

    def backup(
        self,
        second: int,
        *entries: ShardEntry,
        there: tuple[int, ...] = (1, 2),
        limited: bool = False,
    ) -> StoredManifest:
        groups = (group(number, number) for number in there)
        raw = encode_metastore(metastore(database("db", policy("autogen", *groups))))
        meta = MetaEntry(f"{stamp(second)}.meta", len(raw))
        (self._path / meta.file_name).write_bytes(PortableData(raw, 9).encode())
        made = stored(*entries, second=second)
        listed = replace(made.manifest, meta=meta)
        if limited:
            listed = replace(listed, limits=Limits("db"), limited=True)
        made = replace(made, manifest=listed)
        (self._path / made.file_name).write_bytes(listed.encode())
        return made

    def found(self, made: StoredManifest) -> list[tuple[str, int]]:
        return [(change.kind, change.shard_id) for change in self.walk.changes(made).shards]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def of(second: int, number: int, files: ShardDetails | None) -> ShardEntry:
    return entry(number, files, second=second)


def test_in_the_first_backup_every_shard_is_new(directory: Directory) -> None:
    first = directory.backup(1, of(1, 2, ONE), of(1, 1, ONE))
    assert directory.found(first) == [("new", 1), ("new", 2)]
    assert directory.walk.changes(first).since == ""


def test_a_shard_has_changed_only_if_its_files_have(directory: Directory) -> None:
    directory.backup(1, of(1, 1, ONE), of(1, 2, ONE))
    second = directory.backup(2, of(2, 1, ONE), of(2, 2, OTHER))
    found = directory.walk.changes(second)
    assert [(c.kind, c.shard_id) for c in found.shards] == [("changed", 2)]
    assert found.since == f"{stamp(1)}.manifest"
    assert (found.count("changed"), found.count("new"), found.count("gone")) == (1, 0, 0)
    [change] = found.shards
    assert change.before == of(1, 2, ONE)
    assert change.now == of(2, 2, OTHER)


def test_an_archive_without_details_may_have_changed(directory: Directory) -> None:
    directory.backup(1, of(1, 1, None))
    assert directory.found(directory.backup(2, of(2, 1, ONE))) == [("changed", 1)]


def test_new_shards_come_before_changed_ones(directory: Directory) -> None:
    directory.backup(1, of(1, 1, ONE))
    second = directory.backup(2, of(2, 1, OTHER), of(2, 2, ONE))
    assert directory.found(second) == [("new", 2), ("changed", 1)]


def test_a_saved_shard_that_the_source_no_longer_has_is_gone(directory: Directory) -> None:
    directory.backup(1, of(1, 1, ONE), of(1, 2, ONE))
    second = directory.backup(2, there=(2, 3))
    assert directory.found(second) == [("gone", 1)]


def test_a_backup_of_a_part_tells_of_no_shard_that_it_is_gone(directory: Directory) -> None:
    directory.backup(1, of(1, 1, ONE))
    second = directory.backup(2, there=(2,), limited=True)
    assert directory.found(second) == []


def test_without_the_metastore_it_is_not_known_which_are_gone(
    directory: Directory, tmp_path: Path
) -> None:
    directory.backup(1, of(1, 1, ONE))
    second = directory.backup(2, there=(2,))
    (tmp_path / f"{stamp(1)}.meta").unlink()
    found = directory.walk.changes(second)
    assert found.shards == ()
    assert f"{stamp(1)}.meta is listed" in found.unknown
