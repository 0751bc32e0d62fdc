"""A backup exists or it does not, whatever happens to the run that makes it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resources.errors import (
    BackupIncomplete,
    BackupNotFound,
    ManifestUnreadable,
    RepositoryError,
    RepositoryLocked,
    StoreFailed,
)
from resources.model import ShardID
from resources.repository.formats.manifest import Manifest, MetaEntry, ShardEntry
from resources.repository.formats.names import BackupName
from resources.repository.repository import BackupRepository, BackupWriter
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.lock_record import LOCK_NAME

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)
DATA = b"\x08\x00\x10\x0a"


def repository(path: Path, now: datetime = NOW) -> BackupRepository:
    return BackupRepository.open(path, clock=lambda: now)


def write(writer: BackupWriter, *shards: int) -> Manifest:
    meta, _ = writer.put_meta(DATA, 0)
    entries: list[ShardEntry] = []
    with writer.batches.claim("b0", [ShardID(i) for i in shards]) as batch:
        assert batch is not None
        for i in shards:
            with batch.shard(ShardID(i)) as sink:
                sink.write(b"archive")
            file_name = writer.name.shard_file(ShardID(i))
            entries.append(ShardEntry("d", "r", ShardID(i), file_name, 1024, 0))
        batch.finish(b"done")
    return Manifest(meta, tuple(entries))


def back_up(path: Path, *shards: int, now: datetime = NOW) -> str:
    with repository(path, now).begin(command="test") as writer:
        return writer.commit(write(writer, *shards))


def visible(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_a_committed_backup_is_found_with_everything_it_names(tmp_path: Path) -> None:
    name = back_up(tmp_path, 1, 10)
    assert name == "20261122T095100Z.manifest"
    assert visible(tmp_path) == {
        "20261122T095100Z.manifest",
        "20261122T095100Z.meta",
        "20261122T095100Z.s1.tar.gz",
        "20261122T095100Z.s10.tar.gz",
    }
    found = repository(tmp_path).current()
    assert set(found.archives) == {1, 10}
    assert repository(tmp_path).read_meta(found) == DATA


@pytest.mark.fault(36)
def test_two_backups_in_one_second_have_two_names(tmp_path: Path) -> None:
    names = [back_up(tmp_path, 1) for _ in range(3)]
    assert names == [f"20261122T09510{i}Z.manifest" for i in range(3)]


@pytest.mark.fault(36)
def test_a_clock_that_goes_back_does_not_make_an_old_backup_the_newest(tmp_path: Path) -> None:
    first = back_up(tmp_path, 1)
    second = back_up(tmp_path, 1, now=NOW - timedelta(hours=1))
    assert second > first
    assert repository(tmp_path).current().newest.file_name == second


@pytest.mark.fault(36)
def test_a_backup_from_the_future_is_not_built_upon(tmp_path: Path) -> None:
    back_up(tmp_path, 1, now=NOW + timedelta(days=3650))
    with pytest.raises(RepositoryError, match="in the future"):
        back_up(tmp_path, 1)


def test_a_block_that_does_not_commit_leaves_nothing(tmp_path: Path) -> None:
    with repository(tmp_path).begin(command="test") as writer:
        write(writer, 1)
    assert visible(tmp_path) == set()


def test_a_signal_while_the_lock_is_given_up_tells_that_the_backup_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = StoreLock.release

    def release_under_ctrl_c(lock: StoreLock) -> None:
        if lock.record.command == "test":  # not that of a batch
            os.kill(os.getpid(), signal.SIGINT)
        release(lock)

    monkeypatch.setattr(StoreLock, "release", release_under_ctrl_c)
    with pytest.raises(KeyboardInterrupt) as caught:
        back_up(tmp_path, 1)
    name = repository(tmp_path).current().newest.file_name.removesuffix(".manifest")
    assert caught.value.__notes__ == [f"the backup {name} is complete all the same"]
    assert not (tmp_path / LOCK_NAME).exists()


def test_an_error_leaves_the_earlier_backup_and_nothing_else(tmp_path: Path) -> None:
    back_up(tmp_path, 1)
    before = visible(tmp_path)

    def fail() -> None:
        with repository(tmp_path).begin(command="test") as writer:
            write(writer, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert visible(tmp_path) == before
    assert repository(tmp_path).current().newest.file_name in before


def commit_after_losing(path: Path, name: str) -> None:
    with repository(path).begin(command="test") as writer:
        manifest = write(writer, 1)
        (path / name).unlink()
        writer.commit(manifest)


@pytest.mark.fault(51, 53)
def test_an_archive_that_vanished_prevents_the_commit(tmp_path: Path) -> None:
    with pytest.raises(BackupIncomplete):
        commit_after_losing(tmp_path, "20261122T095100Z.s1.tar.gz")
    assert visible(tmp_path) == set()


def test_a_manifest_that_no_reader_would_take_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(tmp_path, 1)
    before = visible(tmp_path)
    monkeypatch.setattr("resources.repository.writer.MAX_MANIFEST_BYTES", 500)
    with pytest.raises(StoreFailed, match="readers take 500"):
        back_up(tmp_path, 2, 3, 4, 5)
    assert visible(tmp_path) == before


@pytest.mark.fault(37)
def test_a_run_whose_lock_was_taken_away_does_not_commit(tmp_path: Path) -> None:
    with pytest.raises(RepositoryLocked):
        commit_after_losing(tmp_path, ".shardkeeper.lock")
    assert visible(tmp_path) == set()


def test_a_second_run_is_reported_who_is_at_work(tmp_path: Path) -> None:
    with repository(tmp_path).begin(command="backup here") as writer:
        with (
            pytest.raises(RepositoryLocked, match="backup here"),
            repository(tmp_path).begin(command="another"),
        ):
            pass
        writer.commit(write(writer, 1))
    assert len(repository(tmp_path).manifests()) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.resources.repository.test_repository import repository, write
with repository(Path({path!r})).begin(command="doomed") as writer:
    write(writer, 1, 2)
    (Path({path!r}) / "foreign.txt").write_text("not ours")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.fault(51)
def test_what_a_killed_run_left_is_swept_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    code = KILLED.format(root=str(ROOT), path=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(visible(tmp_path)) == 6  # three files, the lock, the stage, the stranger's
    with pytest.raises(BackupNotFound):
        repository(tmp_path).current()
    back_up(tmp_path, 3, now=NOW + timedelta(minutes=1))
    assert visible(tmp_path) == {
        "foreign.txt",
        "20261122T095200Z.manifest",
        "20261122T095200Z.meta",
        "20261122T095200Z.s3.tar.gz",
    }


def test_as_of_reads_no_later_backup(tmp_path: Path) -> None:
    first = back_up(tmp_path, 1)
    back_up(tmp_path, 1, 2, now=NOW + timedelta(hours=1))
    then = repository(tmp_path).current(as_of=NOW + timedelta(minutes=30))
    assert then.newest.file_name == first
    assert set(then.archives) == {1}
    with pytest.raises(BackupNotFound, match="or before"):
        repository(tmp_path).current(as_of=NOW - timedelta(seconds=1))


@pytest.mark.fault(50)
def test_a_damaged_manifest_stops_readers_instead_of_being_skipped(tmp_path: Path) -> None:
    back_up(tmp_path, 1)
    newest = back_up(tmp_path, 1)
    (tmp_path / newest).write_bytes(b"{")
    with pytest.raises(ManifestUnreadable, match=newest):
        repository(tmp_path).current()


@pytest.mark.fault(50)
def test_a_damaged_manifest_does_not_keep_from_what_is_older(tmp_path: Path) -> None:
    oldest, newest = back_up(tmp_path, 1), back_up(tmp_path, 1)
    (tmp_path / newest).write_bytes(b"{")
    until = BackupName.parse(oldest.removesuffix(".manifest"))
    assert until is not None
    assert repository(tmp_path).current(as_of=until.started_at).newest.file_name == oldest


@pytest.mark.fault(46)
def test_a_changed_meta_file_is_noticed(tmp_path: Path) -> None:
    name = back_up(tmp_path)
    meta = tmp_path / "20261122T095100Z.meta"
    document = json.loads((tmp_path / name).read_bytes())
    document["meta"]["size"] += 1
    (tmp_path / name).write_text(json.dumps(document))
    found = repository(tmp_path).current()
    with pytest.raises(BackupIncomplete, match="holds 4 bytes"):
        repository(tmp_path).read_meta(found)
    meta.unlink()
    with pytest.raises(BackupIncomplete, match="missing"):
        repository(tmp_path).read_meta(found)


@pytest.mark.fault(83)
def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        back_up(tmp_path, 1)
    finally:
        os.umask(old)
    assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o600}


def test_the_meta_file_is_the_originals_format(tmp_path: Path) -> None:
    with repository(tmp_path).begin(command="test") as writer:
        entry, sha256 = writer.put_meta(DATA, 5)
        writer.commit(Manifest(entry, ()))
    raw = (tmp_path / entry.file_name).read_bytes()
    assert raw == b"\x0a\x04" + DATA + b"\x10\x05"
    assert entry == MetaEntry("20261122T095100Z.meta", 4)
    assert sha256 == hashlib.sha256(raw).hexdigest()
