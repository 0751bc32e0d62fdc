"""What commands make of a metastore; refusals have the original's words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.embedded.meta.changes import applied
from resources.embedded.meta.edits import CommandRejected
from resources.embedded.meta.shard_groups import DAY_NS, HOUR_NS, WEEK_NS
from resources.embedded.meta.state import EMPTY
from resources.model import (
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardID,
    ShardInfo,
    UserPrivilege,
)
from resources.protocol import commands as cmd
from resources.protocol.commands import Command, RetentionPolicySpec

NOW = 1_700_000_000 * 10**9
T0 = 1_600_000_000 * 10**9
NODES = tuple(NodeInfo(NodeID(4 + n), f"h{n}:8086", f"h{n}:8088") for n in range(3))
BARE = replace(
    EMPTY,
    index=10,
    max_node_id=6,
    data_nodes=NODES,
    meta_nodes=(NodeInfo(NodeID(1), "m:8091", "m:8089"),),
)


def after(*given: Command, store: Metastore = BARE, now_ns: int = NOW) -> Metastore:
    for command in given:
        store = applied(store, command, now_ns)
    return store


def refusal(command: Command, store: Metastore = BARE) -> str:
    with pytest.raises(CommandRejected) as caught:
        applied(store, command, NOW)
    return caught.value.what


def policy(store: Metastore, database: str = "db", name: str = "autogen") -> RetentionPolicyInfo:
    db = store.database(database)
    rp = db.retention_policy(name) if db else None
    assert rp is not None
    return rp


DB = after(cmd.CreateDatabase("db"))
GROUP = after(cmd.CreateShardGroup("db", "autogen", T0), store=DB)
SPEC = RetentionPolicySpec("week", 7 * DAY_NS, DAY_NS, 2)


def shards(store: Metastore) -> tuple[ShardInfo, ...]:
    return policy(store).shard_groups[0].shards


def test_a_database_comes_with_a_policy_for_ever_on_up_to_three_nodes() -> None:
    rp = RetentionPolicyInfo("autogen", 0, WEEK_NS, 3)
    assert DB.databases == (DatabaseInfo("db", "autogen", (rp,)),)
    alone = after(cmd.CreateDatabase("db"), store=EMPTY)
    assert policy(alone).replica_n == 1


def test_what_is_there_and_equal_is_left_alone() -> None:
    with_spec = after(cmd.CreateDatabase("w", SPEC))
    assert after(cmd.CreateDatabase("db"), store=DB) == DB
    assert after(cmd.CreateDatabase("w", SPEC), store=with_spec) == with_spec
    assert after(cmd.CreateShardGroup("db", "autogen", T0 + 1), store=GROUP) == GROUP
    for nothing in (
        cmd.DropDatabase("nodb"),
        cmd.DropRetentionPolicy("nodb", "x"),
        cmd.DropShard(ShardID(99)),
        cmd.CopyShardOwner(ShardID(99), NodeID(4)),
        cmd.RemoveShardOwner(ShardID(99), NodeID(4)),
        cmd.DropContinuousQuery("nodb", "x"),
    ):
        assert after(nothing, store=GROUP) == GROUP


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (cmd.CreateDatabase(""), "database name required"),
        (cmd.CreateDatabase("x" * 256), "name too long"),
        (
            cmd.CreateDatabase("db", SPEC),
            "",
        ),
        (
            cmd.CreateDatabase("db", replace(SPEC, name="autogen")),
            "retention policy conflicts with an existing policy",
        ),
        (cmd.CreateRetentionPolicy("nodb", SPEC), "database not found: nodb"),
        (
            cmd.CreateRetentionPolicy("db", replace(SPEC, name="autogen")),
            "retention policy already exists",
        ),
        (
            cmd.CreateRetentionPolicy("db", replace(SPEC, replica_n=0)),
            "replication factor must be greater than 0",
        ),
        (
            cmd.CreateRetentionPolicy("db", RetentionPolicySpec("d", HOUR_NS, DAY_NS, 1)),
            "retention policy duration must be greater than the shard duration",
        ),
        (cmd.UpdateRetentionPolicy("db", "nope"), "retention policy not found: nope"),
        (
            cmd.UpdateRetentionPolicy("db", "autogen", duration_ns=5),
            "retention policy duration must be at least 1h0m0s",
        ),
        (cmd.CreateShardGroup("db", "nope", T0), "retention policy not found: nope"),
        (cmd.DeleteShardGroup("db", "autogen", ShardGroupID(9)), "shard group not found"),
        (cmd.CreateUser("", "h", admin=False), "username required"),
        (cmd.DropUser("u"), "user not found"),
        (cmd.SetPrivilege("u", "db", 1), "user not found"),
        (cmd.CreateContinuousQuery("nodb", "cq", "q"), "database not found: nodb"),
    ],
)
def test_refusals_have_the_words_of_the_original(command: Command, words: str) -> None:
    if words:
        assert refusal(command, DB) == words
    else:
        assert policy(after(command, store=DB), name="week").replica_n == 2


def test_owners_are_dealt_from_the_index_before_the_command_on() -> None:
    assert [owner.node_id for owner in shards(GROUP)[0].owners] == [5, 6, 4]
    assert (GROUP.max_shard_group_id, GROUP.max_shard_id) == (1, 1)


def test_a_single_server_makes_one_shard_that_nobody_owns() -> None:
    alone = after(cmd.CreateDatabase("db"), cmd.CreateShardGroup("db", "autogen", T0), store=EMPTY)
    assert shards(alone) == (ShardInfo(ShardID(1)),)


def test_a_cluster_without_data_nodes_makes_no_group() -> None:
    bare = replace(DB, data_nodes=())
    assert after(cmd.CreateShardGroup("db", "autogen", T0), store=bare) == bare


def test_owners_come_sorted_and_the_last_one_takes_the_shard_along() -> None:
    one = after(*(cmd.RemoveShardOwner(ShardID(1), NodeID(n)) for n in (4, 6)), store=GROUP)
    two = after(cmd.CopyShardOwner(ShardID(1), NodeID(4)), store=one)
    assert [owner.node_id for owner in shards(two)[0].owners] == [4, 5]
    none = after(*(cmd.RemoveShardOwner(ShardID(1), NodeID(n)) for n in (4, 5)), store=two)
    [group] = policy(none).shard_groups
    assert (group.shards, group.deleted_at_ns) == ((), NOW)


def test_an_owner_need_not_exist() -> None:
    strange = after(cmd.CopyShardOwner(ShardID(1), NodeID(999)), store=GROUP)
    assert shards(strange)[0].owners[-1].node_id == 999


def test_dropping_the_only_shard_deletes_its_group_which_is_pruned_two_weeks_later() -> None:
    dropped = after(cmd.DropShard(ShardID(1)), store=GROUP)
    assert policy(dropped).shard_groups[0].deleted_at_ns == NOW
    kept = after(cmd.PruneShardGroups(), store=dropped, now_ns=NOW + 14 * DAY_NS)
    assert kept == dropped
    pruned = after(cmd.PruneShardGroups(), store=dropped, now_ns=NOW + 14 * DAY_NS + 1)
    assert policy(pruned).shard_groups == ()


def test_truncating_ends_present_groups_there_and_future_ones_at_their_start() -> None:
    later = T0 + 3 * WEEK_NS
    store = after(cmd.CreateShardGroup("db", "autogen", later), store=GROUP)
    cut = policy(after(cmd.TruncateShardGroups(T0), store=store)).shard_groups
    assert {group.truncated_at_ns for group in cut} == {
        T0,
        next(g.start_time_ns for g in cut if g.start_time_ns > T0),
    }
    again = after(
        cmd.TruncateShardGroups(T0), cmd.CreateShardGroup("db", "autogen", T0), store=store
    )
    assert [g.start_time_ns for g in policy(again).shard_groups if g.id == 3] == [T0]


def test_grants_go_with_their_database() -> None:
    store = after(
        cmd.CreateUser("u", "h", admin=False),
        cmd.SetPrivilege("u", "db", 1),
        cmd.SetPrivilege("u", "db", 3),
        store=DB,
    )
    assert store.users[0].privileges == (UserPrivilege("db", 3),)
    assert after(cmd.DropDatabase("db"), store=store).users[0].privileges == ()


def test_continuous_queries_of_one_name_differ_by_more_than_case() -> None:
    store = after(cmd.CreateContinuousQuery("db", "cq", "Q"), store=DB)
    assert after(cmd.CreateContinuousQuery("db", "cq", "q"), store=store) == store
    other = cmd.CreateContinuousQuery("db", "cq", "other")
    assert refusal(other, store) == "continuous query already exists"


def test_a_policy_that_is_renamed_is_the_default_no_more_unless_it_is_reported() -> None:
    silent = after(cmd.UpdateRetentionPolicy("db", "autogen", new_policy="n"), store=DB)
    assert silent.databases[0].default_retention_policy == "autogen"
    reply = after(
        cmd.UpdateRetentionPolicy("db", "autogen", new_policy="n", default=True), store=DB
    )
    assert reply.databases[0].default_retention_policy == "n"
