"""Media that fail, are full, forbid writing or lack what a store needs."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import sys
from pathlib import Path

import pytest

from resources.errors import NameTaken, StoreFailed, StoreFull
from resources.repository.storage.store import DirectoryStore, FileSink
from tests.resources.repository.objects import NAME, failing, get, in_child, put, put_late

NOBODY = 65534


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


@pytest.mark.fault(31)
def test_a_read_that_fails_is_reported(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    message = in_child(deed)
    assert message.startswith("StoreFull: ")
    assert "after 10000 bytes: File too large" in message
    assert "ulimit -f" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(32)
def test_running_out_of_file_handles_is_reported(store: DirectoryStore) -> None:
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

    message = in_child(deed)
    assert message.startswith("StoreFailed: ")
    assert "ulimit -n" in message


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
        message = in_child(deed)
    finally:
        tmp_path.chmod(0o755)
    assert message.startswith("StoreFailed: ")
    assert "Permission denied" in message
    assert "chown" in message


@pytest.mark.fault(30)
def test_a_full_file_system_is_reported_with_numbers() -> None:
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
