"""What a target made differs from what it was sent in one thing, and that is named."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.restore.made import Expected, require_as_expected
from resources.errors import BadReply
from resources.model import (
    DatabaseInfo,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
)
from resources.protocol.meta import decode_metastore
from tests.resources.protocol.vectors import METASTORE

HOUR = 3600 * 10**9
GROUP = ShardGroupInfo(ShardGroupID(1), 0, HOUR, None, None, (ShardInfo(ShardID(7)),))
POLICY = RetentionPolicyInfo("long", 24 * HOUR, HOUR, 1, (GROUP,), (), 5, 6)
SENT = Expected("copy", "long", (POLICY,), exact=True, limits=True)
MADE = replace(GROUP, id=ShardGroupID(9), shards=(ShardInfo(ShardID(21)),))
THEIRS = replace(GROUP, id=ShardGroupID(10), shards=(ShardInfo(ShardID(22)),))
THERE = DatabaseInfo("copy", "long", (replace(POLICY, shard_groups=(MADE,)),))
IDS = {ShardID(7): ShardID(21)}


def compare(there: DatabaseInfo, expected: Expected = SENT) -> None:
    now = replace(decode_metastore(METASTORE), databases=(there,))
    require_as_expected(expected, now, IDS, "target:8088")


def with_policy(**changed: object) -> DatabaseInfo:
    [policy] = THERE.retention_policies
    return replace(THERE, retention_policies=(replace(policy, **changed),))


def test_what_is_as_it_was_sent_passes_with_groups_of_others_beside_it() -> None:
    compare(THERE)
    compare(with_policy(shard_groups=(MADE, THEIRS)))


@pytest.mark.parametrize(
    ("there", "complaint"),
    [
        (replace(THERE, name="cop9"), "does not have it"),
        (replace(THERE, default_retention_policy="lo"), "default policy is 'lo', not 'long'"),
        (replace(THERE, retention_policies=()), "policy 'long' is missing"),
        (with_policy(name="mong"), "policy 'long' is missing"),
        (with_policy(duration_ns=25 * HOUR), "the duration in ns"),
        (with_policy(shard_group_duration_ns=2 * HOUR), "the shard group duration in ns"),
        (with_policy(replica_n=3), "the replication factor 3, not 1"),
        (with_policy(future_write_limit_ns=4), "the future write limit in ns 4, not 5"),
        (with_policy(past_write_limit_ns=4), "the past write limit in ns 4, not 6"),
        (with_policy(shard_groups=()), "shard group 1 of policy 'long'"),
        (with_policy(shard_groups=(THEIRS,)), "shard group 1 of policy 'long'"),
        (with_policy(shard_groups=(replace(MADE, start_time_ns=1),)), "shard group 1"),
        (with_policy(shard_groups=(replace(MADE, end_time_ns=HOUR + 1),)), "shard group 1"),
        (with_policy(shard_groups=(replace(MADE, deleted_at_ns=1),)), "shard group 1"),
        (with_policy(shard_groups=(replace(MADE, truncated_at_ns=1),)), "shard group 1"),
        (
            replace(
                THERE, retention_policies=(*THERE.retention_policies, replace(POLICY, name="b"))
            ),
            "it has the policy 'b'",
        ),
    ],
)
def test_each_difference_is_named(there: DatabaseInfo, complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint) as caught:
        compare(there)
    assert "network" in caught.value.hint


def test_statements_keep_whole_seconds_and_hours_at_least() -> None:
    stated = replace(SENT, exact=False, limits=False)
    sent = replace(POLICY, duration_ns=24 * HOUR + 5, shard_group_duration_ns=7, replica_n=0)
    compare(THERE, replace(stated, policies=(sent,)))
    with pytest.raises(BadReply, match="duration in ns"):
        compare(THERE, replace(stated, policies=(replace(sent, duration_ns=25 * HOUR),)))
