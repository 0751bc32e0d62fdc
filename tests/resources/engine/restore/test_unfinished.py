"""Which shards of a killed restore are passed over, and which are known to be empty."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from resources.engine.restore.read_back import SentFile
from resources.engine.restore.record import ServerJournal
from resources.engine.restore.unfinished import still_empty, untouched
from resources.model import ShardID
from resources.protocol.server_vars import ServerVars, ShardStats
from tests.builders import cache, stats

STARTED_NS = 1_700_000_000 * 10**9
SHARD = ShardID(7)
FILES = [SentFile("000000001-000000001.tsm", 100, 1), SentFile("000000002-000000001.tsm", 200, 2)]
JOURNAL = ServerJournal(5, "h:8088", STARTED_NS, proved={SHARD: STARTED_NS})
AT_REST = stats(write_points_ok=0, wal_writes=0, wal_bytes=0, cache=cache())


def reported(one: ShardStats, started_ns: int | None = STARTED_NS) -> ServerVars:
    return ServerVars(STARTED_NS, started_ns, {SHARD: one})


def changed(**figures: Any) -> ShardStats:
    return replace(AT_REST, **figures)


OTHERWISE = [
    changed(num_files=3),
    changed(disk_bytes=301),
    changed(write_points_ok=1),
    changed(wal_writes=1),
    changed(wal_bytes=1),
    changed(cache=None),
    changed(cache=cache(memory_bytes=1)),
    changed(cache=cache(snapshot_attempts=1)),
]


def test_a_proved_shard_that_the_server_says_is_as_it_was_is_passed_over() -> None:
    assert untouched(reported(AT_REST), JOURNAL, {SHARD: FILES}) == {SHARD}


@pytest.mark.parametrize("figures", OTHERWISE)
def test_a_shard_that_is_otherwise_is_read_again(figures: ShardStats) -> None:
    assert untouched(reported(figures), JOURNAL, {SHARD: FILES}) == frozenset()


def test_what_was_not_proved_in_this_life_of_the_server_is_read_again() -> None:
    assert untouched(reported(AT_REST, STARTED_NS + 1), JOURNAL, {SHARD: FILES}) == frozenset()
    assert untouched(reported(AT_REST), replace(JOURNAL, proved={}), {SHARD: FILES}) == frozenset()
    assert untouched(None, JOURNAL, {SHARD: FILES}) == frozenset()
    assert untouched(reported(AT_REST), JOURNAL, {SHARD: []}) == frozenset()


def test_a_shard_is_empty_only_if_the_server_that_made_it_says_so() -> None:
    empty = changed(num_files=0, disk_bytes=0)
    assert still_empty(reported(empty), JOURNAL, [SHARD]) == {SHARD}
    assert still_empty(reported(empty, STARTED_NS + 1), JOURNAL, [SHARD]) == frozenset()
    assert still_empty(None, JOURNAL, [SHARD]) == frozenset()
    assert still_empty(reported(empty), JOURNAL, [ShardID(8)]) == frozenset()
    assert still_empty(reported(AT_REST), JOURNAL, [SHARD]) == frozenset()
    assert still_empty(reported(replace(empty, wal_bytes=1)), JOURNAL, [SHARD]) == frozenset()
