"""Objects in a directory: whole or absent, never overwritten, never elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from resources.errors import NameMissing, NameTaken, RecordHeld, RepositoryMissing, UnsafeName
from resources.repository.storage.store import DirectoryStore
from tests.resources.repository.objects import NAME, get, put, put_late


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


def test_names_are_listed_by_what_they_begin_with(store: DirectoryStore) -> None:
    for name in ("a-1", "a-2", "b-1"):
        put(store, name, name.encode())
    assert store.names("a-") == {"a-1": 3, "a-2": 3}
    assert store.names("b-1") == {"b-1": 3}
    assert store.names("c") == {}


def test_one_run_has_a_store_to_itself(store: DirectoryStore, tmp_path: Path) -> None:
    other = DirectoryStore(tmp_path)
    with store.exclusive() as alone:
        assert alone
        with pytest.raises(RecordHeld, match="in use by another run"), other.exclusive():
            pass
    with other.exclusive() as alone:
        assert alone
