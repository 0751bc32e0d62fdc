"""What proves that a database is the one which a merge has restored."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from resources.engine.merge.own_database import Made, not_ours
from resources.engine.restore.target import RestoreTarget
from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    SubscriptionInfo,
    UserInfo,
    UserPrivilege,
)

DAY_NS = 86_400 * 10**9
NAME = "shardkeeper_merge_0123456789ab"
GROUP = ShardGroupInfo(ShardGroupID(3), 0, DAY_NS, None, None, (ShardInfo(ShardID(7)),))
POLICY = RetentionPolicyInfo("day", 0, DAY_NS, 1, (GROUP,), ())
THERE = DatabaseInfo(NAME, "day", (POLICY,), ())
MADE = Made((("day", 0, DAY_NS),), (("day", 0, DAY_NS, 1),), ())
TARGET = cast("RestoreTarget", None)
"""No server is asked in these cases."""


def metastore(database: DatabaseInfo = THERE, **changed: Any) -> Metastore:
    return replace(Metastore(0, 9, 5, (database,), (), (), (), 0, 99, 99), **changed)


def why(
    there: DatabaseInfo,
    *,
    shards: tuple[int, ...] | None = None,
    made: Made | None = MADE,
    now: Metastore | None = None,
) -> str:
    ids = None if shards is None else tuple(map(ShardID, shards))
    found = not_ours(TARGET, now or metastore(there), there, shards=ids, made=made)
    return "" if found is None else found.why


def test_shards_that_were_noted_prove_it_and_no_others() -> None:
    assert why(THERE, shards=(7,), made=None) == ""
    assert why(THERE, shards=(6, 7, 8)) == ""
    assert "not those that were restored" in why(THERE, shards=(6, 8))
    assert "not those that were restored" in why(THERE, shards=())


def test_without_any_shard_it_may_be_anybodys() -> None:
    empty = replace(THERE, retention_policies=(replace(POLICY, shard_groups=()),))
    assert "not those that were restored" in why(empty, shards=(7,))
    assert "not those that were restored" in why(empty, shards=())
    assert "not those that were to be restored" in why(empty)


def test_before_shards_were_noted_nothing_is_ours_without_a_note_of_what_would_be_in_it() -> None:
    assert "not recorded before" in why(THERE, made=None)


@pytest.mark.parametrize(
    "policy",
    [
        replace(POLICY, name="week"),
        replace(POLICY, duration_ns=DAY_NS),
        replace(POLICY, shard_group_duration_ns=7 * DAY_NS),
        replace(POLICY, shard_groups=(replace(GROUP, start_time_ns=1),)),
        replace(POLICY, shard_groups=(replace(GROUP, end_time_ns=1),)),
        replace(POLICY, shard_groups=(replace(GROUP, shards=GROUP.shards * 2),)),
        replace(POLICY, shard_groups=(GROUP, replace(GROUP, start_time_ns=1))),
    ],
    ids=range(7),
)
def test_policies_and_groups_must_be_those_that_were_noted(policy: RetentionPolicyInfo) -> None:
    there = replace(THERE, retention_policies=(policy,))
    assert "not those that were to be restored" in why(there)
    there = replace(THERE, retention_policies=(POLICY, replace(policy, name="more")))
    assert "not those that were to be restored" in why(there)


@pytest.mark.parametrize("shards", [None, (7,)])
def test_what_others_have_made_in_it_keeps_it(shards: tuple[int, ...] | None) -> None:
    query = replace(THERE, continuous_queries=(ContinuousQueryInfo("q", "CREATE …"),))
    assert "continuous queries" in why(query, shards=shards)
    heard = replace(POLICY, subscriptions=(SubscriptionInfo("s", "ALL", ("udp://h:1",)),))
    assert "subscriptions" in why(replace(THERE, retention_policies=(heard,)), shards=shards)
    user = UserInfo("u", "hash", False, (UserPrivilege(NAME, 1),))
    assert "rights" in why(THERE, shards=shards, now=metastore(users=(user,)))
