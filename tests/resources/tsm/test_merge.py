"""Several files of one shard, and what was deleted from them, as one set of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BlockChecksumMismatch, TSMError
from resources.tsm.deletions import Deletions
from resources.tsm.layout import BlockType
from resources.tsm.merge import (
    ContentDigest,
    ShardFile,
    content_digest,
    kept_keys,
    series_points,
    series_windows,
)
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from resources.tsm.tombstone import Tombstone, parse_tombstones
from tests.resources.tsm.points import everything, left_over, plain, stored
from tests.resources.tsm.writing import T0, block, raw_integers, raw_times, tsm_file

KeyPoints = Mapping[int, int]


def opened(data: bytes, *tombstones: Tombstone) -> ShardFile:
    return TSMFile(BytesSource(data)), Deletions(tombstones)


def integers(keys: Mapping[bytes, KeyPoints], *, per_block: int = 1000) -> bytes:
    """A file of integer points, sorted, in blocks of some size."""
    blocks = {}
    for key, points in sorted(keys.items()):
        times = sorted(points)
        blocks[key] = [
            (
                part[0],
                part[-1],
                block(1, raw_times(part), raw_integers([points[time] for time in part])),
            )
            for part in (times[i : i + per_block] for i in range(0, len(times), per_block))
        ]
    return tsm_file(blocks)


def merged(*files: ShardFile) -> dict[bytes, dict[int, int]]:
    found = {}
    for series in series_points(files):
        assert (np.diff(series.times) > 0).all()
        found[series.key] = dict(plain(series.times, series.values))
    assert list(found) == sorted(found)
    return found


def test_the_deletions_of_a_real_file_leave_what_the_server_leaves() -> None:
    file = opened(stored("deleted.tsm"), *parse_tombstones(stored("deleted.tombstone")))
    found = {s.key: plain(s.times, s.values) for s in series_points([file])}
    assert found == {name.key: list(points) for name, points in left_over().items()}


def test_the_later_file_wins_at_equal_times_and_in_between_both_count() -> None:
    old = opened(integers({b"m#!~#v": {T0: 1, T0 + 2: 1}, b"o#!~#v": {T0: 1}}))
    new = opened(integers({b"m#!~#v": {T0 + 1: 2, T0 + 2: 2}, b"a#!~#v": {T0: 2}}))
    assert merged(old, new) == {
        b"a#!~#v": {T0: 2},
        b"m#!~#v": {T0: 1, T0 + 1: 2, T0 + 2: 2},
        b"o#!~#v": {T0: 1},
    }


def test_within_a_file_the_later_block_wins() -> None:
    def points(value: int) -> tuple[int, int, bytes]:
        return T0, T0 + 1, block(1, raw_times([T0, T0 + 1]), raw_integers([value, value]))

    assert merged(opened(tsm_file({b"m#!~#v": [points(1), points(2)]}))) == {
        b"m#!~#v": {T0: 2, T0 + 1: 2}
    }


def test_tombstones_delete_from_their_own_file_alone() -> None:
    gone = Tombstone(b"m#!~#v", T0, T0 + 1)
    points = {b"m#!~#v": {T0: 1, T0 + 1: 1, T0 + 2: 1}}
    again = {b"m#!~#v": {T0 + 1: 2}}
    assert merged(opened(integers(points), gone)) == {b"m#!~#v": {T0 + 2: 1}}
    assert merged(opened(integers(points), gone), opened(integers(again))) == {
        b"m#!~#v": {T0 + 1: 2, T0 + 2: 1}
    }
    assert merged(opened(integers(points)), opened(integers(again), gone)) == points


def test_a_key_without_points_left_is_no_key() -> None:
    points = {b"a#!~#v": {T0: 1, T0 + 5: 2}, b"b#!~#v": {T0: 1}}
    halves = Tombstone(b"a#!~#v", T0 - 1, T0), Tombstone(b"a#!~#v", T0 + 5, T0 + 9)
    assert merged(opened(integers(points), *halves)) == {b"b#!~#v": {T0: 1}}


def test_blocks_that_are_wholly_deleted_are_not_read() -> None:
    data = bytearray(integers({b"m#!~#v": {T0: 1, T0 + 1: 2, T0 + 5: 3}}, per_block=2))
    data[20] ^= 1
    with pytest.raises(BlockChecksumMismatch):
        merged(opened(bytes(data)))
    assert merged(opened(bytes(data), Tombstone(b"m#!~#v", T0, T0 + 1))) == {b"m#!~#v": {T0 + 5: 3}}


def test_a_field_of_two_types_is_refused() -> None:
    other = tsm_file({b"m#!~#v": [(T0, T0, block(4, raw_times([T0]), raw_integers([1])))]})
    with pytest.raises(TSMError, match="'m#!~#v' is INTEGER in one file and UNSIGNED"):
        merged(opened(integers({b"m#!~#v": {T0: 1}})), opened(other))


POINTS = st.dictionaries(
    st.sampled_from([b"a#!~#f", b"a#!~#g", b"a,k=v#!~#f", b"b#!~#f"]),
    st.dictionaries(st.integers(0, 30), st.integers(-5, 5), min_size=1),
    min_size=1,
)
RANGES = st.lists(
    st.builds(
        Tombstone,
        st.sampled_from([b"a#!~#f", b"a,k=v#!~#f", b"c#!~#f"]),
        st.integers(-1, 31),
        st.integers(-1, 31),
    ),
    max_size=3,
)


@given(st.lists(st.tuples(POINTS, RANGES, st.integers(1, 9)), min_size=1, max_size=5))
def test_a_shard_holds_what_a_dictionary_would(
    files: Sequence[tuple[Mapping[bytes, KeyPoints], list[Tombstone], int]],
) -> None:
    expected: dict[bytes, dict[int, int]] = {}
    for keys, ranges, _ in files:
        for key, points in keys.items():
            for time, value in points.items():
                if not any(r.key == key and r[1] <= time <= r[2] for r in ranges):
                    expected.setdefault(key, {})[time] = value
    shard = [opened(integers(keys, per_block=n), *ranges) for keys, ranges, n in files]
    assert merged(*shard) == expected
    digest = content_digest(shard)
    assert (digest.keys, digest.points) == (len(expected), sum(map(len, expected.values())))
    if expected:
        assert content_digest([opened(integers(expected))]) == digest


def test_digests_report_shards_apart_by_points_alone() -> None:
    whole = content_digest([opened(stored("everything.tsm"))])
    points = everything()
    times = [time for kept in points.values() for time, _ in kept]
    assert whole == ContentDigest(
        whole.sha256,
        len(points),
        len({name.series for name in points}),
        16_625,
        min(times),
        max(times),
    )
    small = {b"m#!~#v": {T0: 1, T0 + 1: 2}}
    digests = {
        content_digest([opened(integers(keys))]).sha256
        for keys in (
            small,
            {b"m#!~#v": {T0: 1, T0 + 1: 3}},
            {b"m#!~#v": {T0: 1, T0 + 2: 2}},
            {b"m#!~#w": {T0: 1, T0 + 1: 2}},
            {b"m#!~#v": {T0: 1}},
        )
    }
    assert len(digests) == 5
    all_of_it = opened(stored("deleted.tsm"))
    last = opened(stored("deleted.tsm"), Tombstone(b"d,k=e#!~#s", T0, T0))
    assert content_digest([last]).sha256 != content_digest([all_of_it]).sha256
    assert content_digest([last]).points == content_digest([all_of_it]).points - 1


@pytest.mark.parametrize("limits", [{"max_blocks": 1}, {"max_blocks": 3}, {"max_bytes": 1}, {}])
@pytest.mark.parametrize("times", [None, (T0 + 3, T0 + 11)])
def test_windows_of_a_series_join_to_its_points(
    limits: dict[str, int], times: tuple[int, int] | None
) -> None:
    """Whatever their size, also where blocks of two files overlap."""
    one = {b"m#!~#a": {T0 + i: i for i in range(0, 20, 2)}, b"m#!~#b": {T0 + 19: 1}}
    two = {b"m#!~#a": {T0 + i: -i for i in range(1, 20, 3)}, b"o#!~#a": {T0 + 5: 5}}
    files = [
        opened(integers(one, per_block=3), Tombstone(b"m#!~#a", T0 + 6, T0 + 7)),
        opened(integers(two, per_block=2)),
    ]
    found: dict[bytes, list[object]] = {}
    sizes: list[int] = []
    for window in series_windows(files, times=times, **limits):  # type: ignore[arg-type]
        assert len({points.key.split(b"#!~#")[0] for points in window}) == 1
        sizes.append(max(len(points.times) for points in window))
        for points in window:
            found.setdefault(points.key, []).extend(plain(points.times, points.values))
    expected = {s.key: plain(s.times, s.values) for s in series_points(files, times=times)}
    assert found == expected
    assert {key for key, _ in kept_keys(files, times=times)} >= expected.keys()
    assert not limits or max(sizes) < 10


def test_the_index_alone_leaves_out_what_is_deleted_or_not_wanted() -> None:
    file = opened(
        integers({b"m#!~#a": {T0: 1}, b"m#!~#b": {T0: 1}, b"m#!~#c": {T0 + 9: 1}}),
        Tombstone(b"m#!~#a", T0, T0),
    )
    found = list(kept_keys([file], times=(T0, T0 + 9), keys=lambda key: key != b"m#!~#x"))
    assert found == [(b"m#!~#b", BlockType.INTEGER)]
