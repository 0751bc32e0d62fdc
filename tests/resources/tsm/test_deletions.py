"""What is deleted of a key, held against a list of every range."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import TSMError
from resources.tsm import deletions
from resources.tsm.deletions import Deletions
from resources.tsm.tombstone import MAX_TIME_NS, MIN_TIME_NS, V4, Tombstone, iter_tombstones

EDGES = [MIN_TIME_NS, MIN_TIME_NS + 1, -1, 0, 1, 2, 5, 6, MAX_TIME_NS - 1, MAX_TIME_NS]
KEYS = [b"a#!~#v", b"b#!~#v", b"b#!~#w"]
RECORDS = st.lists(
    st.builds(Tombstone, st.sampled_from(KEYS), st.sampled_from(EDGES), st.sampled_from(EDGES))
)


@given(RECORDS)
def test_a_time_is_deleted_if_any_range_of_its_key_holds_it(records: list[Tombstone]) -> None:
    found = Deletions(records)
    for key in (*KEYS, b"other"):
        mine = [(low, high) for name, low, high in records if name == key]
        wanted = [any(low <= time <= high for low, high in mine) for time in EDGES]
        assert found.get(key).deleted(np.array(EDGES, np.int64)).tolist() == wanted


@given(RECORDS, st.sampled_from(EDGES), st.sampled_from(EDGES))
def test_spans_are_touched_and_covered_as_lists_would_say(
    records: list[Tombstone], one: int, other: int
) -> None:
    low, high = min(one, other), max(one, other)
    ranges = Deletions(records).get(KEYS[0])
    mine = [(a, b) for name, a, b in records if name == KEYS[0] and a <= b]
    assert bool(ranges.touching(low, high)) == any(a <= high and low <= b for a, b in mine)
    assert ranges.cover(low, high) == covered(mine, low, high)
    assert (ranges.lows[1:] > ranges.highs[:-1]).all()


def covered(ranges: Sequence[tuple[int, int]], low: int, high: int) -> bool:
    """Walk from `low` through ranges that go on where the last one ended."""
    at = low
    while True:
        ends = [end for begin, end in ranges if begin <= at <= end]
        if not ends:
            return False
        if max(ends) >= high:
            return True
        at = max(ends) + 1


def test_the_records_of_a_file_are_counted() -> None:
    found = Deletions(
        [Tombstone(KEYS[0], 1, 5), Tombstone(KEYS[0], 2, 3), Tombstone(KEYS[1], 5, 4)]
    )
    assert len(found) == 2
    assert not Deletions()


def members(n: int) -> bytes:
    """A file as deletes of one series each make it: a gzip member for each record."""
    return V4 + b"".join(
        gzip.compress(struct.pack(">I", len(key)) + key + struct.pack(">qq", i, i + 5), 1, mtime=0)
        for i in range(n)
        for key in (b"measurement,host=server-%08d,region=eu#!~#usage_user" % i,)
    )


def test_a_deletion_takes_little_memory_however_long_its_key_is() -> None:
    n = 30_000
    raw = members(n)
    tracemalloc.start()
    try:
        found = Deletions(iter_tombstones(raw))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == n
    assert peak < 80 * n
    key = b"measurement,host=server-00000007,region=eu#!~#usage_user"
    assert found.get(key).lows.tolist() == [7]


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "MAX_DELETIONS", 2)
    with pytest.raises(TSMError, match="over 2 deleted ranges"):
        Deletions([Tombstone(KEYS[0], i, i) for i in range(3)])
