"""Objects in a directory: whole or absent, never overwritten, never elsewhere."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.errors import (
    NameMissing,
    NameTaken,
    RepositoryMissing,
    StoreFailed,
    StoreFull,
    UnsafeName,
)
from resources.repository import directory
from resources.repository.directory import finished_name, pending_name
from resources.repository.names import check_file_name
from resources.repository.store import FORGOTTEN_S, DirectoryStore, FileSink

NOBODY = 65534
NAME = "20261122T095100Z.s7.tar.gz"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def put(store: DirectoryStore, name: str, content: bytes) -> None:
    with store.create(name) as sink:
        sink.write(content)


def put_late(store: DirectoryStore, name: str, before: Callable[[], object]) -> None:
    """Create an object while something else happens."""
    with store.create(name) as sink:
        before()
        sink.write(b"later")


def get(store: DirectoryStore, name: str) -> bytes:
    with store.open(name) as source:
        return source.read(source.size_bytes)


def in_child(deed: Callable[[], None]) -> str:
    """Do something in a process of its own; return what it raised, as `type: text`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            deed()
        except BaseException as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error} | {getattr(error, 'hint', '')}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(pid, 0)
    return said


def test_what_was_written_is_read(store: DirectoryStore, tmp_path: Path) -> None:
    with store.create(NAME) as sink:
        sink.write(b"one ")
        sink.write(memoryview(b"-two-")[1:4])
        sink.write(bytearray(b" three"))
        sink.write(b"")
        assert sink.size_bytes == 13
        assert store.names() == {}
    assert store.names() == {NAME: 13}
    with store.open(NAME) as source:
        assert source.size_bytes == 13
        assert source.read(4) == b"one "
        buffer = bytearray(100)
        assert source.readinto(buffer) == 9
        assert buffer[:9] == b"two three"
        assert source.read(1) == b""
        assert source.readinto(buffer) == 0
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.fault(83)
def test_files_are_private_whatever_the_umask(store: DirectoryStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        put(store, NAME, b"secret")
        DirectoryStore.make(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_directory_that_exists_is_made_without_touching_it(tmp_path: Path) -> None:
    put(DirectoryStore.make(tmp_path / "new"), NAME, b"x")
    assert DirectoryStore.make(tmp_path / "new").names() == {NAME: 1}
    with pytest.raises(RepositoryMissing):
        DirectoryStore.make(tmp_path / "no" / "parents")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RepositoryMissing, match="not a directory"):
        DirectoryStore.make(tmp_path / "file")


def test_a_directory_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RepositoryMissing, match="no such directory") as caught:
        DirectoryStore(tmp_path / "absent")
    assert "mounted" in caught.value.hint
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RepositoryMissing, match="not a directory"):
        DirectoryStore(tmp_path / "file")


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_object_whose_block_fails_was_never_there(
    store: DirectoryStore, tmp_path: Path, failure: type[BaseException]
) -> None:
    def deed() -> None:
        with store.create(NAME) as sink:
            sink.write(b"half")
            raise failure

    with pytest.raises(failure):
        deed()
    assert list(tmp_path.iterdir()) == []
    put(store, NAME, b"whole")
    assert get(store, NAME) == b"whole"


def test_nothing_is_ever_overwritten(store: DirectoryStore, tmp_path: Path) -> None:
    put(store, NAME, b"first")
    with pytest.raises(NameTaken, match="exists already"), store.create(NAME):
        pytest.fail("this is said before anything is written")
    assert get(store, NAME) == b"first"
    with pytest.raises(NameTaken):
        put_late(store, "late", lambda: put(store, "late", b"earlier"))
    assert get(store, "late") == b"earlier"
    assert len(list(tmp_path.iterdir())) == 2


def test_of_many_who_create_one_name_one_succeeds(store: DirectoryStore) -> None:
    start = threading.Barrier(8)
    wins: list[int] = []

    def race(number: int) -> None:
        start.wait()
        try:
            put(store, NAME, b"%d" % number)
        except NameTaken:
            return
        wins.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [get(store, NAME)] == [b"%d" % number for number in wins]


def test_names_lists_finished_regular_files_with_plain_names(
    store: DirectoryStore, tmp_path: Path
) -> None:
    put(store, "b", b"22")
    put(store, "a", b"1")
    put(store, ".shardkeeper.lock", b"")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "has space").write_bytes(b"")
    (tmp_path / "20160803T222310Z.s1.tar.gz.pending").write_bytes(b"")
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    with store.create("c"):
        assert list(store.names().items()) == [(".shardkeeper.lock", 0), ("a", 1), ("b", 2)]


def test_deleting_twice_is_fine(store: DirectoryStore) -> None:
    put(store, NAME, b"x")
    store.delete(NAME)
    store.delete(NAME)
    assert store.names() == {}
    with pytest.raises(NameMissing), store.open(NAME):
        pass


@pytest.mark.fault(87, 89)
@pytest.mark.parametrize("plant", ["link", "dangling", "directory", "fifo"])
def test_only_regular_files_are_opened(store: DirectoryStore, tmp_path: Path, plant: str) -> None:
    target = tmp_path / NAME
    match plant:
        case "link":
            target.symlink_to("/etc/passwd")
        case "dangling":
            target.symlink_to(tmp_path / "nowhere")
        case "directory":
            target.mkdir()
        case _:
            os.mkfifo(target)
    with pytest.raises(UnsafeName, match="not a regular file"), store.open(NAME):
        pass
    with pytest.raises(UnsafeName, match="not a regular file"):
        store.swap(NAME, b"", b"new")
    with pytest.raises(NameTaken):
        put(store, NAME, b"x")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.fault(87)
@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/x", "a/b", "a\0b", "x" * 300])
def test_no_method_takes_a_name_that_leads_elsewhere(store: DirectoryStore, name: str) -> None:
    with pytest.raises(UnsafeName), store.create(name):
        pass
    with pytest.raises(UnsafeName), store.open(name):
        pass
    with pytest.raises(UnsafeName):
        store.delete(name)
    with pytest.raises(UnsafeName):
        store.swap(name, b"", None)


@pytest.mark.fault(89)
def test_a_directory_that_is_renamed_takes_its_objects_along(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    store = DirectoryStore(tmp_path / "here")
    with store.create(NAME) as sink:
        (tmp_path / "here").rename(tmp_path / "there")
        (tmp_path / "here").mkdir()
        sink.write(b"x")
    assert (tmp_path / "there" / NAME).exists()
    assert not (tmp_path / "here" / NAME).exists()


# --- swap ---------------------------------------------------------------------------------------


def test_swap_replaces_only_what_it_was_told_to(store: DirectoryStore, tmp_path: Path) -> None:
    assert not store.swap("r", b"", b"new")
    put(store, "r", b"old")
    assert not store.swap("r", b"ol", b"new")
    assert not store.swap("r", b"old ", b"new")
    assert store.swap("r", b"old", b"newer")
    assert get(store, "r") == b"newer"
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600
    assert not store.swap("r", b"old", None)
    assert store.swap("r", b"newer", None)
    assert list(tmp_path.iterdir()) == []


def test_swaps_that_compete_lose_no_step(tmp_path: Path) -> None:
    put(DirectoryStore(tmp_path), "n", b"0")

    def count() -> None:
        mine = DirectoryStore(tmp_path)
        done = 0
        while done < 25:
            now = get(mine, "n")
            done += mine.swap("n", now, b"%d" % (int(now) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get(DirectoryStore(tmp_path), "n") == b"100"


def test_a_hanging_swap_makes_others_give_up(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "r", b"old")
    monkeypatch.setattr(directory, "LOCK_PATIENCE_S", 0.05)
    fd = os.open(tmp_path / "r", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(StoreFailed, match="stayed locked") as caught:
            store.swap("r", b"old", b"new")
    finally:
        os.close(fd)
    assert "lsof" in caught.value.hint
    assert store.swap("r", b"old", b"new")


def test_a_swap_that_fails_leaves_the_old_record(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "r", b"old")
    monkeypatch.setattr(os, "rename", failing(errno.EIO))
    with pytest.raises(StoreFailed, match="replacing r"):
        store.swap("r", b"old", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert get(store, "r") == b"old"


# --- leftovers ------------------------------------------------------------------------------------


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


def test_names_of_unfinished_files_tell_what_they_were_to_become() -> None:
    assert finished_name(pending_name(NAME)) == NAME
    assert finished_name(NAME) is None
    with pytest.raises(UnsafeName):
        check_file_name(pending_name(NAME))


# --- media that fail ------------------------------------------------------------------------------


def failing(code: int) -> Callable[..., None]:
    def call(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.fault(30, 31)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_medium_that_fails_leaves_nothing_behind(
    store: DirectoryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
) -> None:
    put(store, "old", b"old")
    monkeypatch.setattr(os, call, failing(code))
    with pytest.raises(StoreFailed) as caught:
        put(store, NAME, b"x")
    monkeypatch.undo()
    assert isinstance(caught.value, StoreFull) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert os.strerror(code) in caught.value.what
    assert str(tmp_path) in caught.value.what
    assert caught.value.hint
    if code == errno.ENOSPC:
        assert "bytes free" in caught.value.what
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert get(store, "old") == b"old"


@pytest.mark.fault(31)
def test_an_object_whose_directory_cannot_be_synced_is_taken_back(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def on_files_only(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", on_files_only)
    with pytest.raises(StoreFailed, match="syncing the directory"):
        put(store, NAME, b"x")
    assert list(tmp_path.iterdir()) == []


# --- batches ------------------------------------------------------------------------------


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


@pytest.mark.fault(31)
def test_a_read_that_fails_is_told(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, NAME, b"x")
    with store.open(NAME) as source:
        monkeypatch.setattr(os, "read", failing(errno.EIO))
        with pytest.raises(StoreFailed, match=f"reading {NAME}"):
            source.read(1)


def test_a_short_write_is_continued(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, memoryview(data)[:3]))  # pyright: ignore
    with store.create(NAME) as sink:
        sink.write(b"0123456789")
        assert sink.size_bytes == 10
    monkeypatch.undo()
    assert get(store, NAME) == b"0123456789"


def test_without_hard_links_a_name_is_still_taken_only_when_free(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    put(store, NAME, b"first")
    assert get(store, NAME) == b"first"
    with pytest.raises(NameTaken):
        put_late(store, "late", lambda: (tmp_path / "late").write_bytes(b"earlier"))
    assert get(store, "late") == b"earlier"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.fault(35)
def test_a_file_system_that_cannot_name_safely_is_refused(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())  # pyright: ignore
    with pytest.raises(StoreFailed, match="without the risk of overwriting"):
        put(store, NAME, b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(30)
def test_a_file_size_limit_is_met_politely(store: DirectoryStore, tmp_path: Path) -> None:
    def deed() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with store.create(NAME) as sink:
            for _ in range(100):
                sink.write(bytes(4096))

    said = in_child(deed)
    assert said.startswith("StoreFull: ")
    assert "after 10000 bytes: File too large" in said
    assert "ulimit -f" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(32)
def test_running_out_of_file_handles_is_told(store: DirectoryStore) -> None:
    put(store, NAME, b"x")

    def deed() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held: list[int] = []
        while len(held) < 64:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        get(store, NAME)

    said = in_child(deed)
    assert said.startswith("StoreFailed: ")
    assert "ulimit -n" in said


def test_preflight_finds_out_whether_writing_works(store: DirectoryStore, tmp_path: Path) -> None:
    free = store.check_writable()
    assert free > 0
    with pytest.raises(StoreFull, match=rf"{10**18} bytes needed, \d+ free"):
        store.check_writable(10**18)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(33)
@pytest.mark.skipif(sys.platform != "linux", reason="fork and setuid as Linux has them")
def test_a_directory_without_permission_is_found_before_any_work(tmp_path: Path) -> None:
    put(DirectoryStore(tmp_path), NAME, b"x")
    tmp_path.chmod(0o555)

    def deed() -> None:
        if os.geteuid() == 0:
            # Permissions mean nothing to root, so the child gives its powers up; it goes in
            # first, since the way here is closed to others.
            os.chdir(tmp_path)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            DirectoryStore(".").check_writable()
        else:
            DirectoryStore(tmp_path).check_writable()

    try:
        said = in_child(deed)
    finally:
        tmp_path.chmod(0o755)
    assert said.startswith("StoreFailed: ")
    assert "Permission denied" in said
    assert "chown" in said


@pytest.mark.fault(30)
def test_a_full_file_system_is_told_with_numbers() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("NOT SHOWN HERE: this system has no /dev/full")
    store = DirectoryStore("/dev")
    fd = os.open(full, os.O_WRONLY)
    try:
        with pytest.raises(StoreFull, match=r"writing full after 0 bytes: No space left.*free"):
            FileSink(store._directory, fd, "full").write(b"x")  # pyright: ignore[reportPrivateUsage]
    finally:
        os.close(fd)
