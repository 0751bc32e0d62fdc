"""Shard groups begin on Mondays, do not overlap, and spread over the nodes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.embedded.data.writes import series_hash
from resources.embedded.meta.shard_groups import (
    DAY_NS,
    HOUR_NS,
    MAX_TIME_NS,
    WEEK_NS,
    covering_group,
    dealt_shards,
    default_group_duration_ns,
    group_bounds,
    normal_group_duration_ns,
    shard_count,
    with_group,
)
from resources.model import NodeID, RetentionPolicyInfo, ShardGroupID, ShardGroupInfo

T0 = 1_600_000_000 * 10**9  # Sunday, 13 September 2020


def policy(*groups: ShardGroupInfo, length_ns: int = WEEK_NS) -> RetentionPolicyInfo:
    return RetentionPolicyInfo("rp", 0, length_ns, 1, groups)


def group(start_ns: int, end_ns: int, **changes: int) -> ShardGroupInfo:
    deleted, truncated = changes.get("deleted"), changes.get("truncated")
    return ShardGroupInfo(ShardGroupID(1), start_ns, end_ns, deleted, truncated, ())


def test_a_week_starts_on_monday() -> None:
    start_ns, end_ns = group_bounds(policy(), T0)
    assert datetime.fromtimestamp(start_ns / 1e9, UTC) == datetime(2020, 9, 7, tzinfo=UTC)
    assert end_ns - start_ns == WEEK_NS


def test_neighbours_clip_a_group_on_both_sides() -> None:
    earlier = group(T0 - 2 * DAY_NS, T0 - HOUR_NS)
    later = group(T0 + HOUR_NS, T0 + DAY_NS)
    assert group_bounds(policy(earlier, later), T0) == (T0 - HOUR_NS, T0 + HOUR_NS)


def test_a_truncated_neighbour_clips_where_it_was_cut_and_a_deleted_one_does_not() -> None:
    cut = group(T0 - DAY_NS, T0 + DAY_NS, truncated=T0 - HOUR_NS)
    gone = group(T0 - DAY_NS, T0 + DAY_NS, deleted=1)
    assert group_bounds(policy(cut), T0)[0] == T0 - HOUR_NS
    assert group_bounds(policy(gone), T0) == group_bounds(policy(), T0)


def test_the_last_group_ends_behind_the_last_instant() -> None:
    assert group_bounds(policy(), MAX_TIME_NS)[1] == MAX_TIME_NS + 1


@given(st.lists(st.integers(-(2**62), 2**62), max_size=8), st.sampled_from([HOUR_NS, WEEK_NS]))
def test_groups_never_overlap_and_cover_what_they_were_made_for(
    times: list[int], length_ns: int
) -> None:
    rp = policy(length_ns=length_ns)
    for at, time_ns in enumerate(times):
        if covering_group(rp, time_ns) is None:
            shards = dealt_shards(at + 1, 1, [], 0)
            rp = RetentionPolicyInfo("rp", 0, length_ns, 1, with_group(rp, at, time_ns, shards))
        assert covering_group(rp, time_ns) is not None
    for one, next_one in zip(rp.shard_groups, rp.shard_groups[1:], strict=False):
        assert one.start_time_ns < one.end_time_ns <= next_one.start_time_ns


@pytest.mark.parametrize(
    ("replica_n", "nodes", "shards"),
    [(1, 3, 3), (2, 3, 3), (3, 3, 1), (9, 3, 1), (2, 4, 2), (1, 1, 1), (4, 6, 3)],
)
def test_every_node_gets_equally_many_copies(replica_n: int, nodes: int, shards: int) -> None:
    dealt = dealt_shards(1, replica_n, [NodeID(4 + n) for n in range(nodes)], turn=1)
    owners = [owner.node_id for shard in dealt for owner in shard.owners]
    assert len(dealt) == shards == shard_count(min(replica_n, nodes), nodes)
    assert len({owners.count(NodeID(4 + n)) for n in range(nodes)}) == 1
    assert owners[0] == 4 + 1 % nodes


def test_group_durations_follow_the_policy() -> None:
    assert default_group_duration_ns(0) == default_group_duration_ns(180 * DAY_NS) == WEEK_NS
    assert default_group_duration_ns(2 * DAY_NS) == DAY_NS
    assert default_group_duration_ns(2 * DAY_NS - 1) == HOUR_NS
    assert normal_group_duration_ns(5, 0) == HOUR_NS


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (b"cpu,host=h0", 0x5C03FEC495252224),
        (b"cpu,host=h11", 0x7FEF81096E1BFFD2),
        (b"m", 0xAF63E04C8601F358),
        (rb"we\ ird\,x,ta\ g=v", 0xD22687C030D26A19),
    ],
)
def test_series_are_placed_by_fnv_1a(series: bytes, expected: int) -> None:
    assert series_hash(series) == expected
