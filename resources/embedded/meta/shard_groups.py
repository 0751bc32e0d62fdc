"""The bounds of a new shard group, the number of its shards, and their owners.

Source: influxdb-cluster services/meta/data.go, CreateShardGroup; influxdb the same file.
"""

from __future__ import annotations

from collections.abc import Sequence

from resources.model import (
    NodeID,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
)

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
WEEK_NS = 7 * DAY_NS

MAX_TIME_NS = 2**63 - 2
"""The last instant of a point."""

_YEAR_ONE_NS = 62_135_596_800 * 10**9
"""From the first Monday of year 1 to 1970: groups begin at multiples from there."""


def default_group_duration_ns(duration_ns: int) -> int:
    """The default duration of the groups of a policy of `duration_ns` (0: no expiry)."""
    if duration_ns == 0 or duration_ns >= 180 * DAY_NS:
        return WEEK_NS
    return DAY_NS if duration_ns >= 2 * DAY_NS else HOUR_NS


def normal_group_duration_ns(group_duration_ns: int, duration_ns: int) -> int:
    """The stored duration for a requested one; 0 requests the default."""
    if group_duration_ns == 0:
        return default_group_duration_ns(duration_ns)
    return max(group_duration_ns, HOUR_NS)


def covering_group(rp: RetentionPolicyInfo, timestamp_ns: int) -> ShardGroupInfo | None:
    """The live group for a point of this instant; None: there is none."""
    for group in rp.shard_groups:
        if (
            group.deleted_at_ns is None
            and group.start_time_ns <= timestamp_ns < group.end_time_ns
            and (group.truncated_at_ns is None or timestamp_ns < group.truncated_at_ns)
        ):
            return group
    return None


def group_bounds(rp: RetentionPolicyInfo, timestamp_ns: int) -> tuple[int, int]:
    """Start and end of a new group for an instant, clipped by its neighbours."""
    length_ns = rp.shard_group_duration_ns or default_group_duration_ns(rp.duration_ns)
    start_ns = timestamp_ns - (timestamp_ns + _YEAR_ONE_NS) % length_ns
    end_ns = min(start_ns + length_ns, MAX_TIME_NS + 1)
    for group in rp.shard_groups:
        if group.deleted_at_ns is not None:
            continue
        its_end_ns = effective_end_ns(group)
        if start_ns < its_end_ns <= timestamp_ns:
            start_ns = its_end_ns
        if timestamp_ns < group.start_time_ns < end_ns:
            end_ns = group.start_time_ns
    return max(start_ns, -(2**63)), end_ns


def effective_end_ns(group: ShardGroupInfo) -> int:
    return group.end_time_ns if group.truncated_at_ns is None else group.truncated_at_ns


def shard_count(replica_n: int, node_count: int) -> int:
    """The least number of shards that gives every node equally many replicas."""
    return next(n for n in range(1, node_count + 1) if n * replica_n % node_count == 0)


def dealt_shards(
    first_id: int, replica_n: int, nodes: Sequence[NodeID], turn: int
) -> tuple[ShardInfo, ...]:
    """New shards with IDs from `first_id` on, with owners assigned round robin from `turn` on.

    A single server has no nodes, and creates one shard without owners.
    """
    if not nodes:
        return (ShardInfo(ShardID(first_id)),)
    copies = min(max(replica_n, 1), len(nodes))
    return tuple(
        ShardInfo(
            ShardID(first_id + shard),
            tuple(
                ShardOwner(nodes[(turn + shard * copies + copy) % len(nodes)])
                for copy in range(copies)
            ),
        )
        for shard in range(shard_count(copies, len(nodes)))
    )


def with_group(
    rp: RetentionPolicyInfo, group_id: int, timestamp_ns: int, shards: tuple[ShardInfo, ...]
) -> tuple[ShardGroupInfo, ...]:
    """The policy's groups and the new one, in the order that servers require."""
    start_ns, end_ns = group_bounds(rp, timestamp_ns)
    group = ShardGroupInfo(ShardGroupID(group_id), start_ns, end_ns, None, None, shards)
    return tuple(
        sorted((*rp.shard_groups, group), key=lambda g: (effective_end_ns(g), g.start_time_ns))
    )
