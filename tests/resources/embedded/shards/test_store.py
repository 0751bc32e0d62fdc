"""Shards on disk: points, their types and deletions, in the cache and in files."""

from __future__ import annotations

import pytest

from resources.embedded.server_errors import PartialWrite, ShardTaken, ShardUnknown
from resources.embedded.shards.files import MAX_FILES
from resources.embedded.shards.shard import FLUSH_VALUES
from resources.embedded.shards.store import ShardStore
from resources.errors import UnsafeName
from resources.model import ShardID
from resources.tsm.tombstone import MIN_TIME_NS, parse_tombstones
from tests.resources.embedded.shards.content import (
    EVERYTHING,
    FIRST,
    NOW_NS,
    ONE,
    Open,
    files,
    held,
    lines,
    of,
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
    assert store.shards()[ONE].last_modified_ns != before  # by this clock, which is behind
    store.write(ONE, lines("m v=1i 1"))


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
