"""Which of a shard's replicas has every point."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from resources.embedded.data.tar_exchange import backup_stream
from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.store import ShardStore
from resources.engine.backup.replica_points import Difference, Ranking, difference, rank
from resources.model import ShardID
from resources.repository.archives.unpacked import UnpackedShard

SHARD = ShardID(7)
Written = Callable[..., UnpackedShard]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Replicas, each written by flushes of its own."""
    count = 0

    def write(*flushes: str) -> UnpackedShard:
        nonlocal count
        count += 1
        store = ShardStore(tmp_path / f"replica{count}", clock=time.time_ns)
        store.create("db", "rp", SHARD)
        for lines in flushes:
            store.write(SHARD, parse_lines(lines.encode(), now_ns=0).points)
            store.flush(SHARD)
        unpacked = UnpackedShard(None)
        with store.snapshot(SHARD) as members:
            for piece in backup_stream(members, None):
                unpacked.feed(memoryview(piece))
        unpacked.finish()
        store.close()
        return unpacked

    return write


def ranked(replicas: Mapping[str, Callable[[], UnpackedShard]]) -> Ranking:
    return rank(list(replicas), lambda node: replicas[node]())


def test_replicas_of_the_same_points_are_alike_however_their_files_are_cut(
    written: Written,
) -> None:
    one = written('m v=1 1\nm v=2 2\nm,h=a s="x" 3')
    other = written("m v=9 1", 'm v=1 1\nm,h=a s="x" 3', "m v=2 2")
    assert difference(one, other) == Difference()


def test_points_that_only_one_has_and_other_values_are_counted(written: Written) -> None:
    one = written('m v=1,n=1i,s="a" 1\nm v=2 2\nonly v=1 1')
    other = written('m v=1,n=2i,s="b" 1\nm v=3 3\nm v=4 4')
    assert difference(one, other) == Difference(only_first=2, only_second=2, values=2)


def test_a_field_of_two_types_has_two_values(written: Written) -> None:
    assert difference(written("m v=1 1"), written("m v=1i 1")) == Difference(values=1)


def test_the_replica_with_all_points_is_best_wherever_it_stands(written: Written) -> None:
    replicas = {"a": lambda: written("m v=1 1\nm v=2 2"), "b": lambda: written("m v=1 1")}
    for order in ("ab", "ba"):
        found = ranked({node: replicas[node] for node in order})
        assert found.best == "a"
        assert found.holds == {"a": "same", "b": "less"}
        assert found.described == ("b misses 1 value that a has",)
        assert not found.gaps


def test_equal_replicas_leave_the_order_as_it_was(written: Written) -> None:
    found = ranked({node: lambda: written("m v=1 1") for node in "ba"})
    assert found == Ranking("b", {"a": "same", "b": "same"})


def test_of_two_that_each_miss_something_none_is_whole(written: Written) -> None:
    lines = {"a": "m v=1 1\nm v=2 2", "b": "m v=2 2\nm v=3 3\nm v=4 4"}
    found = ranked({node: lambda node=node: written(lines[node]) for node in lines})
    assert found.best == "b"
    assert found.holds == {"a": "other", "b": "same"}
    assert found.gaps == "b misses 1 value that a has, and a misses 2 values that b has"


def test_other_values_leave_none_whole(written: Written) -> None:
    lines = {"a": "m v=1 1", "b": "m v=2 1"}
    found = ranked({node: lambda node=node: written(lines[node]) for node in lines})
    assert found.holds == {"a": "same", "b": "other"}
    assert found.gaps == "1 value differs on a from those on b"


def test_a_third_replica_may_have_what_two_miss(written: Written) -> None:
    lines = {"a": "m v=1 1", "b": "m v=2 2", "c": "m v=1 1\nm v=2 2"}
    found = ranked({node: lambda node=node: written(lines[node]) for node in lines})
    assert found.best == "c"
    assert found.holds == {"a": "less", "b": "less", "c": "same"}
    assert not found.gaps


def test_what_is_written_while_replicas_are_read_is_no_difference(written: Written) -> None:
    """A point comes to both after the first was read; one that is late comes to one before."""
    reads = {"a": iter(["m v=1 1\nm v=2 2", "m v=1 1\nm v=2 2\nm v=3 3"]), "b": iter([])}
    late = "m v=1 1\nm v=3 3"
    reads["b"] = iter([late, "m v=1 1\nm v=3 3"])
    found = ranked({node: lambda node=node: written(next(reads[node])) for node in reads})
    assert found.best == "a"
    assert found.holds == {"a": "same", "b": "less"}
    assert not found.gaps
