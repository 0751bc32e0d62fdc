"""A record is replaced and removed in one step, by the run that knows what it held."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from resources.errors import ManifestUnreadable, StoreFailed
from resources.repository.storage import directory
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import DirectoryStore
from resources.runtime import failpoints
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.resources.repository.objects import failing, get, put

OLD, NEW, THEIRS = b'{"version": 1}', b'{"version": 1, "more": true}', b'{"theirs": true}'
IN_STORE = [name for name in FAILPOINTS if name.startswith("store.")]


def killed(at: str, store: DirectoryStore) -> bool:
    """Replace OLD by NEW in a process that dies there; whether it did."""
    child = os.fork()
    if not child:
        os.environ[VARIABLE] = at
        failpoints._request.cache_clear()
        file = RecordFile(store, "r")
        file.read()
        file.put(NEW)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.fault(26)
def test_a_run_that_is_killed_while_it_replaces_a_record_leaves_the_old_or_the_new_one(
    store: DirectoryStore,
) -> None:
    """At no point is there none: a journal that is missing leaves databases without a record."""
    died: list[str] = []
    for at in IN_STORE:
        put(store, "r", OLD)
        died += [at] if killed(at, store) else []
        assert get(store, "r") in (OLD, NEW), at
        store.delete("r")
    assert died == [
        "store.created",
        "store.before-fsync",
        "store.after-fsync",
        "store.before-replace",
        "store.after-replace",
    ]


def test_a_record_is_created_replaced_read_and_removed(
    store: DirectoryStore, tmp_path: Path
) -> None:
    file = RecordFile.absent(store, "r")
    assert file.put(OLD)
    assert file.put(NEW)
    assert RecordFile(store, "r").read() == NEW
    assert file.remove()
    assert file.remove()
    assert RecordFile(store, "r").read() is None
    assert list(tmp_path.iterdir()) == []


def test_what_another_run_wrote_since_is_neither_replaced_nor_removed(
    store: DirectoryStore,
) -> None:
    mine = RecordFile(store, "r")
    assert mine.put(OLD)
    theirs = RecordFile(store, "r")
    theirs.read()
    assert theirs.put(THEIRS)
    assert not mine.put(NEW)
    assert not mine.remove()
    assert get(store, "r") == THEIRS
    assert theirs.remove()
    assert not mine.put(NEW)  # it is not there any more, and so is not what this run wrote
    assert store.names() == {}


def test_a_name_that_another_run_took_first_is_not_ours(store: DirectoryStore) -> None:
    file = RecordFile.absent(store, "r")
    put(store, "r", THEIRS)
    assert not file.put(NEW)
    assert not file.remove()
    assert get(store, "r") == THEIRS


def test_a_record_that_was_never_read_is_read_before_it_is_replaced_or_removed(
    store: DirectoryStore,
) -> None:
    put(store, "r", OLD)
    assert RecordFile(store, "r").put(NEW)
    assert get(store, "r") == NEW
    assert RecordFile(store, "r").remove()
    assert store.names() == {}


@pytest.mark.parametrize("reached", [False, True])
def test_after_a_write_that_failed_the_old_and_the_new_content_are_ours(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, *, reached: bool
) -> None:
    file = RecordFile.absent(store, "r")
    assert file.put(OLD)
    if reached:  # it has its name, and only the directory could not be synced
        monkeypatch.setattr(directory.Directory, "sync", _no_sync)
    else:
        monkeypatch.setattr(os, "rename", failing(errno.EIO))
    with pytest.raises(StoreFailed):
        file.put(NEW)
    monkeypatch.undo()
    assert get(store, "r") == (NEW if reached else OLD)
    assert file.put(b"{}")
    assert get(store, "r") == b"{}"


def _no_sync(_: directory.Directory) -> None:
    raise StoreFailed("no sync")


def test_a_record_that_is_too_long_is_not_read(store: DirectoryStore) -> None:
    put(store, "r", b"1234")
    with pytest.raises(ManifestUnreadable, match="r has 4 bytes") as caught:
        RecordFile(store, "r", max_bytes=3).read()
    assert caught.value.hint
