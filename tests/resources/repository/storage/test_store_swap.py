"""A record is replaced only by a writer that knows what it held."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from resources.errors import StoreFailed
from resources.repository.storage import directory
from resources.repository.storage.store import DirectoryStore
from tests.resources.repository.objects import failing, get, put


def test_swap_replaces_only_what_it_was_reported_to(store: DirectoryStore, tmp_path: Path) -> None:
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
