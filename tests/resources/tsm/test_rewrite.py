"""A rewritten file holds what its tombstones leave, and not a byte is touched without need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from resources.tsm.check import check_tsm
from resources.tsm.deletions import Deletions
from resources.tsm.layout import BlockType
from resources.tsm.merge import content_digest
from resources.tsm.reader import TSMFile
from resources.tsm.rewrite import Rewrite
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import MAX_TIME_NS, MIN_TIME_NS, Tombstone
from resources.tsm.writer import TSMWriter
from tests.resources.tsm.points import FIXTURES, T0

ALL = (MIN_TIME_NS, MAX_TIME_NS)


def rewritten(raw: bytes, tombstones: Sequence[Tombstone]) -> bytes:
    """The new file; what was measured must be what is written, and whole."""
    rewrite = Rewrite(TSMFile(BytesSource(raw)), Deletions(tombstones))
    left = rewrite.measure()
    before = check_tsm(BytesSource(raw))
    if not left.size_bytes:
        assert left.points_gone == before.points
        return b""
    new = bytearray()
    assert rewrite.write(new.extend) == len(new) == left.size_bytes
    facts = check_tsm(BytesSource(new))
    assert (facts.keys, facts.series) == (left.keys, left.series)
    assert (facts.min_time_ns, facts.max_time_ns) == (left.min_time_ns, left.max_time_ns)
    assert facts.points == (before.points or 0) - left.points_gone
    return bytes(new)


def same_points(raw: bytes, tombstones: Sequence[Tombstone], new: bytes) -> bool:
    """Whether a reader that heeds tombstones sees in the old file what is in the new one."""
    wanted = content_digest([(TSMFile(BytesSource(raw)), Deletions(tombstones))])
    if not new:
        return wanted.points == 0
    return content_digest([(TSMFile(BytesSource(new)), Deletions())]) == wanted


def stored(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def some(keys: Mapping[bytes, Sequence[int]], per_block: int = 1000) -> bytes:
    raw = bytearray()
    writer = TSMWriter(raw.extend)
    for key in sorted(keys):
        times = np.array(keys[key], dtype=np.int64)
        for at in range(0, len(times), per_block):
            part = times[at : at + per_block]
            writer.write(key, BlockType.INTEGER, part, part * 3)
    writer.finish()
    return bytes(raw)


A, B, C = b"a#!~#v", b"b#!~#v", b"c#!~#v"
THREE = some({key: range(T0, T0 + 5000) for key in (A, B, C)})


def test_nothing_deleted_gives_the_same_file():
    assert rewritten(THREE, []) == THREE
    assert rewritten(THREE, [Tombstone(b"d#!~#v", *ALL), Tombstone(A, 0, T0 - 1)]) == THREE


def test_a_deletion_between_two_points_gives_the_same_file():
    raw = some({A: range(T0, T0 + 100, 10)})
    assert rewritten(raw, [Tombstone(A, T0 + 1, T0 + 9)]) == raw


def test_only_touched_blocks_change():
    new = rewritten(THREE, [Tombstone(B, T0 + 1500, T0 + 1599)])
    old_file, new_file = TSMFile(BytesSource(THREE)), TSMFile(BytesSource(new))
    untouched = 0
    for old, now in zip(old_file.index(), new_file.index(), strict=True):
        for before, after in zip(old.entries, now.entries, strict=True):
            if old_file.raw_block(old, before) == new_file.raw_block(now, after):
                untouched += 1
    assert untouched == 14


@pytest.mark.parametrize("low", [T0 - 1, T0, T0 + 1, T0 + 999, T0 + 1000, T0 + 4999, T0 + 5000])
@pytest.mark.parametrize("n", [1, 2, 1000, 1001, 6000])
def test_both_ends_of_a_range_are_inside(low: int, n: int):
    tombstones = [Tombstone(B, low, low + n - 1)]
    new = rewritten(THREE, tombstones)
    assert same_points(THREE, tombstones, new)
    gone = len(set(range(low, low + n)) & set(range(T0, T0 + 5000)))
    assert check_tsm(BytesSource(new)).points == 15_000 - gone


def test_a_key_without_points_is_gone():
    new = rewritten(THREE, [Tombstone(B, *ALL)])
    assert list(TSMFile(BytesSource(new)).keys()) == [A, C]


def test_a_file_without_keys_does_not_exist():
    assert rewritten(THREE, [Tombstone(key, T0, T0 + 4999) for key in (A, B, C)]) == b""


def test_several_batches_add_up():
    tombstones = [
        Tombstone(A, T0, T0 + 9),
        Tombstone(C, T0 + 100, T0 + 4000),
        Tombstone(A, T0 + 5, T0 + 20),
        Tombstone(A, T0 + 4990, MAX_TIME_NS),
    ]
    new = rewritten(THREE, tombstones)
    assert same_points(THREE, tombstones, new)
    assert check_tsm(BytesSource(new)).points == 15_000 - 21 - 10 - 3901


def test_every_type_and_encoding_of_a_real_file_can_be_thinned():
    raw = stored("everything.tsm")
    for key in TSMFile(BytesSource(raw)).index():
        low, high = key.entries[0].min_time, key.entries[-1].max_time
        middle = (low + high) // 2
        for first, last in ((low, low), (middle, high), (low, middle), (low, high)):
            tombstones = [Tombstone(key.key, first, last)]
            assert same_points(raw, tombstones, rewritten(raw, tombstones))


def test_blocks_that_overlap_stay_in_order():
    raw = bytearray()
    writer = TSMWriter(raw.extend)
    for times in ([T0, T0 + 100], [T0 + 50, T0 + 60]):
        block = some({A: times})
        [key] = TSMFile(BytesSource(block)).index()
        encoded = TSMFile(BytesSource(block)).raw_block(key, key.entries[0])
        writer.write_block(A, BlockType.INTEGER, encoded, times[0], times[-1])
    writer.finish()
    tombstones = [Tombstone(A, T0, T0 + 10)]
    new = rewritten(bytes(raw), tombstones)
    assert same_points(bytes(raw), tombstones, new)


RANGES = st.lists(
    st.builds(
        lambda key, low, n: Tombstone(key, T0 + low, T0 + low + n),
        st.sampled_from([A, B, C]),
        st.integers(-10, 130),
        st.integers(-5, 80),
    ),
    max_size=8,
)
KEYS = st.dictionaries(
    st.sampled_from([A, B, C]),
    st.sets(st.integers(0, 120), min_size=1, max_size=60).map(
        lambda times: [T0 + time for time in sorted(times)]
    ),
    min_size=1,
)


@given(KEYS, RANGES, st.integers(1, 20))
def test_a_rewritten_file_holds_what_a_set_would(
    keys: Mapping[bytes, list[int]], tombstones: list[Tombstone], per_block: int
):
    raw = some(keys, per_block)
    new = rewritten(raw, tombstones)
    assert same_points(raw, tombstones, new)
    left = {
        (key, time)
        for key, times in keys.items()
        for time in times
        if not any(t.key == key and t[1] <= time <= t[2] for t in tombstones)
    }
    assert len(left) == (check_tsm(BytesSource(new)).points if new else 0)


def test_a_large_index_waits_in_a_file(tmp_path: Path):
    keys = {f"m,host={'x' * 200}{i:06}#!~#v".encode(): [T0, T0 + 1] for i in range(8000)}
    raw = some(keys)
    rewrite = Rewrite(TSMFile(BytesSource(raw)), Deletions([Tombstone(min(keys), *ALL)]))
    new = bytearray()
    assert rewrite.write(new.extend, scratch_dir=str(tmp_path)) == rewrite.measure().size_bytes
    assert check_tsm(BytesSource(new)).keys == 7999
