"""Kills at any step: what has a name is whole and synced, the rest is swept away."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.errors import DraftSwept, NameTaken, StoreFailed, UnsafeName
from resources.repository.formats.names import check_file_name, finished_name, pending_name
from resources.repository.storage.store import FORGOTTEN_S, DirectoryStore
from tests.resources.repository.objects import NAME, failing, get, in_child, put


def test_a_kill_leaves_only_what_a_sweep_removes(store: DirectoryStore, tmp_path: Path) -> None:
    put(store, "old", b"old")

    def killed() -> None:
        with store.create(NAME) as sink:
            sink.write(b"half")
            os._exit(9)

    in_child(killed)
    assert store.names() == {"old": 3}
    assert len(list(tmp_path.iterdir())) == 2
    assert store.sweep_pending() == {NAME: 4}
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


STEPS = ("open", "write", "fsync", "close", "link", "unlink")


@pytest.mark.fault(26)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_an_object_whole_or_absent(
    store: DirectoryStore, tmp_path: Path, step: str, when: str
) -> None:
    def killed() -> None:
        call = getattr(os, step)

        def last_call(*args: object, **options: object) -> None:
            if when == "after":
                call(*args, **options)
            os._exit(9)

        setattr(os, step, last_call)
        put(store, NAME, b"whole")

    in_child(killed)
    visible = store.names()
    assert visible in ({}, {NAME: 5})
    assert bool(visible) == (
        (step, when) in {("link", "after"), ("unlink", "before"), ("unlink", "after")}
    )
    store.sweep_pending()
    assert [path.name for path in tmp_path.iterdir()] == list(visible)
    if not visible:
        put(store, NAME, b"whole")
    assert get(store, NAME) == b"whole"


@pytest.mark.fault(29)
def test_bytes_are_durable_before_they_have_a_name_and_the_name_before_success(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    def logged(name: str) -> Callable[..., object]:
        call = getattr(os, name)

        def logging(*args: Any, **options: Any) -> object:
            what = name
            if name == "fsync":
                what += " directory" if stat.S_ISDIR(os.fstat(args[0]).st_mode) else " file"
            log.append(what)
            return call(*args, **options)

        return logging

    for name in ("write", "fsync", "link", "rename"):
        monkeypatch.setattr(os, name, logged(name))
    put(store, NAME, b"x")
    assert log == ["write", "fsync file", "link", "fsync directory"]
    log.clear()
    assert store.swap(NAME, b"x", b"y")
    assert log == ["write", "fsync file", "rename", "fsync directory"]
    log.clear()
    store.delete(NAME)
    assert log == ["fsync directory"]


def test_a_sweep_leaves_young_records_and_foreign_files_alone(
    store: DirectoryStore, tmp_path: Path
) -> None:
    record = tmp_path / pending_name(".shardkeeper.lock")
    foreign = tmp_path / "20160803T222310Z.s1.tar.gz.pending"
    for path in (record, foreign):
        path.write_bytes(b"")
    assert store.sweep_pending() == {}
    age = record.stat().st_mtime - FORGOTTEN_S - 1
    os.utime(record, (age, age))
    assert store.sweep_pending() == {".shardkeeper.lock": 0}
    assert foreign.exists()


def test_names_of_unfinished_files_report_what_they_were_to_become() -> None:
    assert finished_name(pending_name(NAME)) == NAME
    assert finished_name(NAME) is None
    with pytest.raises(UnsafeName):
        check_file_name(pending_name(NAME))


def test_a_batch_is_durable_once_it_is_finished_and_its_directory_is_synced_once(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: set[int] = set()
    directories: list[int] = []
    fsync = os.fsync

    def logged(fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            directories.append(len(files))
        else:
            files.add(status.st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", logged)
    batch = store.batch()
    for i in range(100):
        with batch.create(f"20260803T222310Z.s{i}.tar.gz") as sink:
            sink.write(b"x" * i)
    batch.finish()
    assert sorted(store.names().values()) == list(range(100))
    assert len(files) == 100
    assert directories == [100]  # names last, when all bytes are there


def test_a_batch_does_not_finish_when_a_file_could_not_be_synced(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = store.batch()
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with batch.create(NAME) as sink:
        sink.write(b"x")
    with pytest.raises(StoreFailed, match=f"syncing {NAME}"):
        batch.finish()


def test_a_batch_takes_nothing_more_after_a_file_could_not_be_synced(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = store.batch()
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))

    def fill() -> None:
        for i in range(10_000):
            with batch.create(f"20260803T222310Z.s{i}.tar.gz") as sink:
                sink.write(b"x")

    with pytest.raises(StoreFailed, match="syncing"):
        fill()
    batch.abandon()
    assert len(store.names()) < 10_000


def test_a_batch_writes_over_nothing(store: DirectoryStore) -> None:
    put(store, NAME, b"old")
    batch = store.batch()
    with pytest.raises(NameTaken), batch.create(NAME):
        pass
    batch.finish()
    assert get(store, NAME) == b"old"


def test_a_writer_whose_unfinished_file_was_swept_harms_nothing_of_its_heir(
    store: DirectoryStore, tmp_path: Path
) -> None:
    def write_and_stand_still() -> None:
        with store.create(NAME) as sink:
            sink.write(b"of a sleeper")
            for unfinished in tmp_path.glob(".*.pending"):
                unfinished.unlink()

    with pytest.raises(DraftSwept, match="stood still"):
        write_and_stand_still()
    put(store, NAME, b"of its heir")
    with pytest.raises(NameTaken):
        write_and_stand_still()
    assert get(store, NAME) == b"of its heir"


def test_a_name_that_came_with_an_error_goes_again_if_it_is_ours(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_fail(source: str, target: str, **options: Any) -> None:
        link(source, target, **options)
        raise OSError(errno.EIO, "the answer is lost")

    monkeypatch.setattr(os, "link", link_and_fail)
    with pytest.raises(StoreFailed):
        put(store, NAME, b"whole")
    assert not list(tmp_path.iterdir())


def test_a_name_of_another_stays_when_naming_fails(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_beside_another(source: str, target: str, **_: object) -> None:
        (tmp_path / target).write_bytes(b"of another")
        raise OSError(errno.EIO, "no answer")

    monkeypatch.setattr(os, "link", fail_beside_another)
    with pytest.raises(StoreFailed):
        put(store, NAME, b"ours")
    assert get(store, NAME) == b"of another"
