"""What leaves a shard as a snapshot and what is uploaded into one, while it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resources.embedded.server_errors import ShardDisabled
from resources.embedded.shards.store import ShardStore
from resources.errors import TSMError, UnsafeName
from resources.tsm.check import check_tsm
from resources.tsm.source import BytesSource
from tests.resources.embedded.shards.content import (
    EVERYTHING,
    FIRST,
    NOW_NS,
    ONE,
    SECOND,
    Open,
    files,
    held,
    lines,
    of,
)


def test_a_shard_that_is_uploaded_into_can_be_removed(
    store: ShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads hold no lock: a file of one may come right before the directory goes."""
    data = tmp_path / "node" / "data" / "db" / "rp" / "1"
    assert data.is_dir()
    rmdir = os.rmdir

    def a_file_comes(path: str, *, dir_fd: int | None = None) -> None:
        if data.is_dir():
            (data / f"{FIRST}.tmp").write_bytes(b"x")
        rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", a_file_comes)
    store.remove(ONE)
    assert store.shards() == {}
    assert list(data.parent.iterdir()) == []


def test_a_snapshot_has_everything_and_stays_while_the_shard_changes(store: ShardStore) -> None:
    store.write(ONE, lines("m,k=a v=1 1\nm,k=b v=1 1"))
    store.flush(ONE)
    store.delete(ONE, of(b"m,k=a"))
    store.write(ONE, lines("m v=2 2"))
    with store.snapshot(ONE) as members:
        names = ["000000001-000000001.tombstone", FIRST, SECOND]
        assert [member.name for member in members] == [f"db/rp/1/{name}" for name in names]
        store.compact(ONE)
        assert all(member.path.stat().st_size == member.size_bytes for member in members)
        assert all(member.path.stat().st_mtime_ns == member.mtime_ns for member in members)
        assert check_tsm(BytesSource(members[2].path.read_bytes())).points == 1
    assert files(store) == ["000000002-000000002.tsm"]


def test_snapshots_without_changes_between_them_are_the_same(store: ShardStore) -> None:
    store.write(ONE, lines(EVERYTHING))
    taken: list[list[tuple[str, int, bytes]]] = []
    for _ in range(2):
        with store.snapshot(ONE) as members:
            taken.append([(m.name, m.mtime_ns, m.path.read_bytes()) for m in members])
    assert taken[0] == taken[1]
    [(_, mtime_ns, data)] = taken[0]
    shard = store.shards()[ONE]
    assert (shard.num_files, shard.disk_bytes, shard.state) == (1, len(data), "cold")
    assert shard.last_modified_ns >= mtime_ns


def tsm(tmp_path: Path, text: str) -> bytes:
    other = ShardStore(tmp_path / "other", clock=lambda: NOW_NS)
    other.remove(ONE)
    other.create("db", "rp", ONE)
    other.write(ONE, lines(text))
    with other.snapshot(ONE) as [member]:
        data = member.path.read_bytes()
    other.close()
    return data


def test_uploaded_files_take_the_place_of_those_of_their_names(
    store: ShardStore, tmp_path: Path, reopened: Open
) -> None:
    store.write(ONE, lines("m v=1 1"))
    store.flush(ONE)
    store.write(ONE, lines("m v=2 2"))
    data = tsm(tmp_path, "m v=5 5")
    with store.overlay(ONE) as upload:
        upload.add(FIRST, [data[:10], data[10:]])
        with pytest.raises(ShardDisabled):
            store.write(ONE, lines("m v=3 3"))
        with pytest.raises(ShardDisabled):
            store.snapshot(ONE).__enter__()
    # As on the server: the file that was there is lost, what was in the cache is not.
    assert held(store) == {"m#!~#v": [(2, 2.0), (5, 5.0)]}
    assert held(reopened()) == {"m#!~#v": [(2, 2.0), (5, 5.0)]}


def test_a_broken_upload_leaves_the_shard_as_it_was(
    store: ShardStore, tmp_path: Path, reopened: Open
) -> None:
    store.write(ONE, lines("m v=1 1"))
    store.flush(ONE)
    data = tsm(tmp_path, "m v=5 5")

    def send() -> None:
        with store.overlay(ONE) as upload:
            upload.add(SECOND, [data])
            upload.add("000000003-000000001.tsm", [data[:-9]])

    with pytest.raises(TSMError):
        send()
    assert held(store) == {"m#!~#v": [(1, 1.0)]}
    assert len([name for name in files(store) if name.endswith(".tmp")]) == 2
    store.write(ONE, lines("m v=2 2"))
    store = reopened()
    assert files(store) == [FIRST]
    assert held(store) == {"m#!~#v": [(1, 1.0), (2, 2.0)]}


@pytest.mark.parametrize("name", ["../1/000000001-000000001.tsm", "x.tsm", "1-1.tombstone", ""])
def test_an_upload_goes_nowhere_else(store: ShardStore, name: str) -> None:
    with pytest.raises(UnsafeName), store.overlay(ONE) as upload:
        upload.add(name, [b""])
    assert files(store) == []
