"""Shards on disk: what was acknowledged is there, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from resources.devcluster.line_protocol import parse_lines
from resources.devcluster.points import Point
from resources.devcluster.refusals import PartialWrite, ShardDisabled, ShardTaken, ShardUnknown
from resources.devcluster.shard import FLUSH_VALUES
from resources.devcluster.shard_files import MAX_FILES
from resources.devcluster.shard_store import ShardStore
from resources.errors import TSMError, UnsafeName
from resources.model import ShardID
from resources.tsm.check import check_tsm
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import MAX_TIME_NS, MIN_TIME_NS, parse_tombstones

ONE = ShardID(1)
S = 1_000_000_000
NOW_NS = 1_795_000_000 * S
FIRST, SECOND = "000000001-000000001.tsm", "000000002-000000001.tsm"

Open = Callable[[], ShardStore]


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Open]:
    """Opens the store; again: after closing the one before."""
    stores: list[ShardStore] = []

    def open_() -> ShardStore:
        for store in stores:
            store.close()
        stores.append(ShardStore(tmp_path / "node", clock=lambda: NOW_NS))
        return stores[-1]

    yield open_
    stores[-1].close()


@pytest.fixture
def store(reopened: Open) -> ShardStore:
    store = reopened()
    store.create("db", "rp", ONE)
    return store


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


def lines(text: str) -> list[Point]:
    parsed = parse_lines(text.encode(), now_ns=0)
    assert not parsed.errors
    return parsed.points


def held(store: ShardStore, shard_id: ShardID = ONE, *times: int) -> dict[str, list[object]]:
    """Times and values by TSM key."""
    return {
        found.key.decode(): list(
            zip(
                found.times.tolist(),
                found.values if isinstance(found.values, list) else found.values.tolist(),
                strict=True,
            )
        )
        for found in store.points(shard_id, None, *times)
    }


def files(store: ShardStore) -> list[str]:
    return sorted(path.name for path in (store.directory / "data/db/rp/1").iterdir())


def of(series: bytes) -> Callable[[bytes], bool]:
    return lambda key: key.startswith(series + b"#!~#")


EVERYTHING = (
    'm,k=a f=1.5,i=-3i,b=true,s="x y" 1\n'
    'm,k=a f=-0.25,i=9i,b=false,s="" 2\n'
    "m,k=b f=2 1\n"
    "other f=7 1"
)
HELD = {
    "m,k=a#!~#b": [(1, True), (2, False)],
    "m,k=a#!~#f": [(1, 1.5), (2, -0.25)],
    "m,k=a#!~#i": [(1, -3), (2, 9)],
    "m,k=a#!~#s": [(1, b"x y"), (2, b"")],
    "m,k=b#!~#f": [(1, 2.0)],
    "other#!~#f": [(1, 7.0)],
}


def test_points_are_the_same_in_the_cache_in_a_file_and_after_a_restart(
    store: ShardStore, reopened: Open
) -> None:
    store.write(ONE, lines(EVERYTHING))
    assert held(store) == HELD
    store = reopened()
    assert held(store) == HELD
    assert files(store) == []
    store.flush(ONE)
    assert held(store) == HELD
    assert files(store) == [FIRST]
    store = reopened()
    assert held(store) == HELD
    assert list(store.keys(ONE)) == [key.encode() for key in HELD]


def test_the_later_point_wins_wherever_it_is(store: ShardStore, reopened: Open) -> None:
    store.write(ONE, lines("m v=1 1\nm v=2 2\nm v=3 3"))
    store.flush(ONE)
    store.write(ONE, lines("m v=20 2\nm v=4 4\nm v=21 2"))
    expected = {"m#!~#v": [(1, 1.0), (2, 21.0), (3, 3.0), (4, 4.0)]}
    assert held(store) == expected
    store.flush(ONE)
    assert held(store) == expected
    store.compact(ONE)
    assert files(store) == ["000000002-000000002.tsm"]
    assert held(reopened()) == expected


def test_a_range_has_both_its_ends(store: ShardStore) -> None:
    store.write(ONE, lines("m v=1 1\nm v=2 2\nm v=3 3"))
    store.flush(ONE)
    store.write(ONE, lines("m v=4 4\nn v=9 9"))
    assert held(store, ONE, 2, 4) == {"m#!~#v": [(2, 2.0), (3, 3.0), (4, 4.0)]}
    assert held(store, ONE, 5, 8) == {}


@pytest.mark.parametrize("flushed", [False, True])
def test_a_field_keeps_its_type(store: ShardStore, reopened: Open, flushed: bool) -> None:
    store.write(ONE, lines("m,k=a v=1 1"))
    if flushed:
        store.flush(ONE)
    store = reopened()
    with pytest.raises(PartialWrite) as refused:
        store.write(ONE, lines("m,k=b v=2i 2\nm,k=b w=2i 2\nm,k=b v=3i 3"))
    assert str(refused.value) == (
        'partial write: field type conflict: input field "v" on measurement "m" is type'
        " integer, already exists as type float dropped=2"
    )
    assert held(store) == {"m,k=a#!~#v": [(1, 1.0)], "m,k=b#!~#w": [(2, 2)]}
    assert store.shards()[ONE].write_points_ok == 1


def test_the_name_time_is_the_servers_own(store: ShardStore) -> None:
    store.write(ONE, lines("m time=5,v=1 1"))
    with pytest.raises(PartialWrite, match='input field "time" on measurement "m" is invalid'):
        store.write(ONE, lines("m time=5 1"))
    with pytest.raises(PartialWrite, match='input tag "time" on measurement "m" is invalid'):
        store.write(ONE, lines("m,time=x v=1 1"))
    assert held(store) == {"m#!~#v": [(1, 1.0)]}


def test_over_four_files_become_one(store: ShardStore) -> None:
    for i in range(MAX_FILES):
        store.write(ONE, lines(f"m v={i} {i}"))
        store.flush(ONE)
    assert store.shards()[ONE].num_files == MAX_FILES
    store.write(ONE, lines("m v=9 9"))
    store.flush(ONE)
    assert files(store) == ["000000005-000000002.tsm"]
    assert held(store)["m#!~#v"] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (9, 9.0)]


def test_a_full_cache_becomes_a_file_by_itself(store: ShardStore) -> None:
    [point] = lines("m v=1 1")
    store.write(ONE, [point._replace(time_ns=i) for i in range(FLUSH_VALUES)])
    assert store.shards()[ONE].num_files == 0
    store.write(ONE, [point._replace(time_ns=FLUSH_VALUES)])
    shard = store.shards()[ONE]
    assert (shard.num_files, shard.state) == (1, "cold")
    assert (store.directory / "wal/db/rp/1.wal").stat().st_size == 0
    assert [len(points.times) for points in store.points(ONE)] == [FLUSH_VALUES + 1]


def test_a_deletion_is_a_tombstone_as_the_server_writes_it(
    store: ShardStore, reopened: Open
) -> None:
    store.write(ONE, lines("\n".join(f"m,k={k} v={i} {i}" for k in "ab" for i in range(5))))
    store.flush(ONE)
    store.delete(ONE, of(b"m,k=a"), 1, 3)
    store.delete(ONE, of(b"m,k=b"), MIN_TIME_NS, 0)
    tombstones = (store.directory / "data/db/rp/1/000000001-000000001.tombstone").read_bytes()
    assert tombstones[:4] == bytes.fromhex("00001504")
    assert parse_tombstones(tombstones) == (
        (b"m,k=a#!~#v", 1, 3),
        (b"m,k=b#!~#v", MIN_TIME_NS, 0),
    )
    expected = {
        "m,k=a#!~#v": [(0, 0.0), (4, 4.0)],
        "m,k=b#!~#v": [(i, float(i)) for i in range(1, 5)],
    }
    assert held(store) == expected
    store = reopened()
    assert held(store) == expected
    store.compact(ONE)
    assert files(store) == ["000000001-000000002.tsm"]
    assert held(store) == expected


@pytest.mark.parametrize("flushed", [False, True])
def test_points_written_after_a_deletion_stay(
    store: ShardStore, reopened: Open, flushed: bool
) -> None:
    store.write(ONE, lines("m v=1 1\nm v=2 2"))
    if flushed:
        store.flush(ONE)
    store.delete(ONE, of(b"m"), 1, 1)
    store.write(ONE, lines("m v=10 1"))
    expected = {"m#!~#v": [(1, 10.0), (2, 2.0)]}
    assert held(store) == expected
    store = reopened()
    assert held(store) == expected
    store.flush(ONE)
    store.compact(ONE)
    assert held(store) == expected


def test_a_file_without_points_goes_and_its_types_with_it(store: ShardStore) -> None:
    store.write(ONE, lines("m v=1 1"))
    store.flush(ONE)
    before = store.shards()[ONE].last_modified_ns
    store.delete(ONE, of(b"m"))
    assert files(store) == []
    assert store.keys(ONE) == {}
    assert store.shards()[ONE].last_modified_ns > before
    store.write(ONE, lines("m v=1i 1"))


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


def test_shards_are_where_they_were_created(store: ShardStore, reopened: Open) -> None:
    store.create("db", "rp", ONE)
    with pytest.raises(ShardTaken):
        store.create("db", "other", ONE)
    with pytest.raises(UnsafeName):
        store.create("..", "rp", ShardID(2))
    store.create("bäse x", "dots.and-dash", ShardID(2))
    store.write(ShardID(2), lines("m v=1 1"))
    store = reopened()
    found = store.shards()
    assert [(s.database, s.policy, s.id) for s in found.values()] == [
        ("db", "rp", 1),
        ("bäse x", "dots.and-dash", 2),
    ]
    store.remove(ShardID(2))
    with pytest.raises(ShardUnknown):
        store.write(ShardID(2), lines("m v=1 1"))
    assert list(reopened().shards()) == [ONE]


def test_hot_is_what_waits_in_the_cache(store: ShardStore) -> None:
    assert store.shards()[ONE].last_modified_ns == 0
    store.write(ONE, lines("m v=1 1"))
    shard = store.shards()[ONE]
    assert (shard.state, shard.last_modified_ns) == ("hot", NOW_NS)
    store.flush(ONE)
    shard = store.shards()[ONE]
    assert shard.state == "cold"
    assert shard.last_modified_ns > NOW_NS
    store.flush(ONE)
    assert store.shards()[ONE] == shard


WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from resources.devcluster.line_protocol import parse_lines
from resources.devcluster.shard_store import ShardStore
store = ShardStore(Path(sys.argv[1]), clock=lambda: 0)
store.create("db", "rp", 1)
for i in range(1_000_000):
    store.write(1, parse_lines(b"m,k=%d v=%d %d" % (i % 7, i, i), now_ns=0).points)
    if i % 50 == 49:
        store.flush(1)
    if i % 70 == 69:
        store.delete(1, lambda key: b"k=3" in key)
    print(i, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 60, 333])
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path.cwd()
    ) as writer:
        assert writer.stdout is not None
        for _ in range(acknowledged):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
    done = int(rest[-1]) + 1 if rest and rest[-1].isdigit() else acknowledged
    store = ShardStore(tmp_path, clock=lambda: 0)
    found = {time for points in store.points(ONE) for time in points.times.tolist()}
    # What was under way may be there or not.
    assert found in (after(done), after(done) | {done}, after(done + 1))
    store.close()


def after(n: int) -> set[int]:
    """The times that WRITER leaves after `n` rounds."""
    times: set[int] = set()
    for i in range(n):
        times.add(i)
        if i % 70 == 69:
            times -= {time for time in times if time % 7 == 3}
    return times


def test_the_end_of_a_cut_log_counts_for_nothing(store: ShardStore, reopened: Open) -> None:
    store.write(ONE, lines("m v=1 1"))
    store.write(ONE, lines("m v=2 2"))
    wal = store.directory / "wal/db/rp/1.wal"
    whole = wal.read_bytes()
    for cut in range(len(whole)):
        store.close()
        wal.write_bytes(whole[:cut])
        store = ShardStore(store.directory, clock=lambda: NOW_NS)
        n_whole = 1 if cut >= len(whole) // 2 else 0
        assert held(store) == ({"m#!~#v": [(1, 1.0)]} if n_whole else {})
    store.write(ONE, lines("m v=3 3"))
    store.close()
    assert held(reopened()) == {"m#!~#v": [(1, 1.0), (3, 3.0)]}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_the_points_are_those_of_a_dictionary(
    store: ShardStore, reopened: Open, seed: int
) -> None:
    dice = Random(seed)
    model: dict[str, dict[int, float]] = {}
    for _ in range(120):
        match dice.choice("wwwwwdfcr"):
            case "w":
                for _ in range(dice.randrange(1, 20)):
                    key, time, value = dice.choice("abc"), dice.randrange(60), dice.random()
                    store.write(ONE, lines(f"m,k={key} v={value!r} {time}"))
                    model.setdefault(key, {})[time] = value
            case "d":
                key, low = dice.choice("abc"), dice.randrange(60)
                high = dice.choice([low, low + 5, MAX_TIME_NS])
                store.delete(ONE, of(f"m,k={key}".encode()), low, high)
                kept = {t: v for t, v in model.pop(key, {}).items() if not low <= t <= high}
                if kept:
                    model[key] = kept
            case "f":
                store.flush(ONE)
            case "c":
                store.compact(ONE)
            case _:
                store = reopened()
        assert held(store) == {
            f"m,k={key}#!~#v": sorted(model[key].items()) for key in sorted(model)
        }


def test_many_threads_write_read_and_save_at_once(store: ShardStore) -> None:
    def run(what: Callable[[int], object]) -> None:
        for i in range(60):
            what(i)

    def save(_: int) -> None:
        with store.snapshot(ONE) as members:
            assert all(member.path.exists() for member in members)

    def read(_: int) -> None:
        assert all(len(points.times) for points in store.points(ONE))

    def write(k: int) -> Callable[[int], None]:
        return lambda i: store.write(ONE, lines(f"m,k={k} v={i} {i}"))

    jobs = [*(write(k) for k in range(3)), save, read, lambda _: store.compact(ONE)]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for running in [pool.submit(run, job) for job in jobs]:
            running.result()
    assert [len(points.times) for points in store.points(ONE)] == [60, 60, 60]
