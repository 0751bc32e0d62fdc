"""A manifest that is damaged is read from its copy; one that is gone is missed."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resources.errors import BackupNotFound, ManifestUnreadable, UnsafeName
from resources.repository.formats.details import BackupDetails, SourceInfo
from resources.repository.formats.manifest import Manifest, MetaEntry
from resources.repository.formats.names import BackupName
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import DirectoryStore

NOW = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)
FIRST, SECOND = "20261122T095100Z", "20261122T095101Z"
DETAILS = BackupDetails(
    tool_version="0.1.0",
    strategy="incremental",
    started_at_ns=1,
    source=SourceInfo("server", "localhost:8088", "1.8.10", 7),
    meta_sha256="0" * 64,
)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A directory with two backups of nothing."""
    for _ in range(2):
        back_up(tmp_path)
    return tmp_path


def repository(path: Path) -> BackupRepository:
    return BackupRepository.open(path, clock=lambda: NOW)


def back_up(path: Path) -> None:
    with repository(path).begin(command="test") as writer:
        meta, _ = writer.put_meta(b"\x08\x00", 0)
        writer.commit(Manifest(meta, (), details=DETAILS))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


HARM = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "hostile": lambda path: path.write_bytes(
        b'{"meta": {"fileName": "../x.meta", "size": 1}, "files": null}'
    ),
    "another backup's": lambda path: shutil.copy(path.with_name(f"{FIRST}.manifest"), path),
}


def test_a_manifest_and_its_copy_are_the_same_bytes(two: Path) -> None:
    for name in (FIRST, SECOND):
        manifest = two / f"{name}.manifest"
        assert manifest.read_bytes() == (two / f"{name}.manifest.copy").read_bytes()
        assert b'"copy": true' in manifest.read_bytes()


@pytest.mark.fault(50)
@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_manifest_is_read_from_its_copy_and_the_damage_is_reported(
    two: Path, harm: str
) -> None:
    before = repository(two).manifests()
    path = two / f"{SECOND}.manifest"
    HARM[harm](path)
    found = repository(two).current()
    assert [stored.manifest for stored in repository(two).manifests()] == [
        stored.manifest for stored in before
    ]
    [damaged] = found.from_copies
    assert damaged.file_name == path.name == found.newest.file_name
    assert path.name in damaged.note
    assert "verify -repair" in damaged.note
    assert repository(two).single(path.name).from_copies == (damaged,)


@pytest.mark.fault(50)
@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("copy_too", [*HARM, "gone"])
def test_a_manifest_whose_copy_is_damaged_too_stops_readers(
    two: Path, harm: str, copy_too: str
) -> None:
    path = two / f"{SECOND}.manifest"
    copy = two / f"{SECOND}.manifest.copy"
    if copy_too == "gone":
        copy.unlink()
    else:
        HARM[copy_too](copy)
    HARM[harm](path)
    with pytest.raises((ManifestUnreadable, UnsafeName)):
        repository(two).current()
    assert repository(two).current(as_of=NOW).newest.file_name == f"{FIRST}.manifest"


@pytest.mark.fault(50)
def test_a_copy_without_a_checksum_vouches_for_nothing(two: Path) -> None:
    bare = b'{"meta": {"fileName": "%s.meta", "size": 2}, "files": null}' % SECOND.encode()
    (two / f"{SECOND}.manifest.copy").write_bytes(bare)
    flip(two / f"{SECOND}.manifest")
    with pytest.raises(ManifestUnreadable):
        repository(two).current()


@pytest.mark.fault(50)
def test_a_manifest_that_is_gone_is_missed_and_older_states_are_not(two: Path) -> None:
    (two / f"{SECOND}.manifest").unlink()
    with pytest.raises(ManifestUnreadable, match="is missing, and its copy") as refused:
        repository(two).current()
    assert "verify -repair" in refused.value.hint
    with pytest.raises(ManifestUnreadable, match="is missing, and its copy"):
        repository(two).single(f"{SECOND}.manifest")
    with pytest.raises(ManifestUnreadable, match="is missing, and its copy"):
        ManifestCache(repository(two)).refresh()
    assert repository(two).current(as_of=NOW).newest.file_name == f"{FIRST}.manifest"
    (two / f"{SECOND}.manifest.copy").unlink()
    assert repository(two).current().newest.file_name == f"{FIRST}.manifest"


def test_a_run_that_has_stored_the_copy_and_not_the_manifest_has_made_no_backup(
    two: Path,
) -> None:
    """Alive or dead: the lock says whose copy that is."""
    lock = StoreLock.acquire(DirectoryStore(two), command="test", backup=SECOND)
    (two / f"{SECOND}.manifest").unlink()
    assert repository(two).current().newest.file_name == f"{FIRST}.manifest"
    (two / f"{FIRST}.manifest").unlink()
    with pytest.raises(ManifestUnreadable, match=rf"{FIRST}\.manifest is missing"):
        repository(two).current()
    (two / f"{FIRST}.manifest.copy").unlink()
    with pytest.raises(BackupNotFound):
        repository(two).current()
    lock.release()
    with pytest.raises(ManifestUnreadable, match=rf"{SECOND}\.manifest is missing"):
        repository(two).current()


def test_a_name_that_only_a_copy_has_is_not_taken_again(two: Path) -> None:
    (two / f"{SECOND}.manifest").unlink()
    with repository(two).begin(command="test") as writer:
        assert writer.name > BackupName.of(NOW).next()


def test_manifests_of_other_tools_have_no_copies_and_are_not_missed(tmp_path: Path) -> None:
    with repository(tmp_path).begin(command="test") as writer:
        meta, _ = writer.put_meta(b"\x08\x00", 0)
        writer.commit(Manifest(meta, ()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{FIRST}.manifest",
        f"{FIRST}.meta",
    ]
    found = repository(tmp_path).current()
    assert found.meta == MetaEntry(f"{FIRST}.meta", 2)
    assert found.from_copies == ()
