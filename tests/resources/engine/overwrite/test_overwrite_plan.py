"""What a cluster's metastore becomes when a backup's takes its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from resources.engine.overwrite.overwrite_plan import Overwrite, plan_overwrite
from resources.errors import PlanError, TargetNotEmpty, WouldExpire
from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    ShardGroupInfo,
    ShardID,
    UserInfo,
)
from resources.protocol.meta import decode_metastore, encode_metastore
from tests import builders as b

DAY_NS = b.DAY_NS


def group(
    number: int, shards: Mapping[int, Sequence[int]], *, day: int = 1, deleted: int | None = None
) -> ShardGroupInfo:
    made = (b.shard(i, *owners) for i, owners in shards.items())
    return b.group(number, *made, start_ns=day * DAY_NS, deleted_at_ns=deleted)


def database(name: str, *groups: ShardGroupInfo, days: int = 0, copies: int = 2) -> DatabaseInfo:
    return b.database(name, b.policy("rp", *groups, keep_ns=days * DAY_NS, replica_n=copies))


def metastore(*databases: DatabaseInfo, nodes: Sequence[int] = (4, 5, 6)) -> Metastore:
    return b.metastore(
        *databases,
        nodes=nodes,
        index=50,
        cluster_id=8,
        max_node_id=max(nodes, default=1),
        max_shard_group_id=20,
        max_shard_id=40,
        term=2,
        meta_nodes=(b.meta_node(),),
    )


def plan(
    backup: Metastore,
    live: Metastore,
    on_disk: Mapping[int, Sequence[int]] | None = None,
    *,
    skip_expired: bool = False,
) -> Overwrite:
    inventory = {ShardID(i): [b.node(n).tcp_addr for n in ns] for i, ns in (on_disk or {}).items()}
    return plan_overwrite(
        encode_metastore(backup),
        encode_metastore(live),
        inventory,
        now_ns=30 * DAY_NS,
        skip_expired=skip_expired,
        target_name="m:8091",
    )


def owners(planned: Overwrite) -> dict[int, list[int]]:
    return {p.shard_id: [o.node_id for o in p.shard.owners] for p in planned.after.places()}


def test_databases_and_users_are_the_backups_nodes_and_identity_the_clusters() -> None:
    backup = replace(
        metastore(database("old", group(3, {7: [4, 5]})), nodes=(4, 5)),
        users=(UserInfo("ann", "$2a$10$then", True),),
        term=1,
        index=9,
        max_shard_id=10,
        max_shard_group_id=5,
        meta_nodes=(NodeInfo(NodeID(2), "gone:8091", "gone:8089"),),
    )
    live = replace(
        metastore(database("new", group(20, {40: [6]}))),
        users=(UserInfo("ann", "$2a$10$now", True), UserInfo("eve", "$2a$10$e", False)),
    )
    planned = plan(backup, live, {7: [4, 5], 40: [6]})
    assert planned.after == replace(live, databases=backup.databases, users=backup.users)
    assert decode_metastore(planned.meta) == planned.after
    assert planned.live == encode_metastore(live)
    assert [p.shard_id for p in planned.recovered] == [7]
    assert [p.shard_id for p in planned.forgotten] == [40]
    assert planned.without_files == ()
    assert set(planned.notes) == {
        "database 'new' is forgotten",
        "database 'old' comes back",
        "shards 40 are forgotten: no query finds them any more, and their files stay on the data "
        "nodes",
        "user 'ann' gets the password and grants of the backup",
        "user 'eve' is forgotten",
    }


@pytest.mark.parametrize(
    ("backup_max", "live_max", "stray", "highest"),
    [(40, 90, 1, 90), (90, 40, 1, 90), (40, 41, 95, 95)],
)
def test_no_number_that_was_ever_given_away_is_given_again(
    backup_max: int, live_max: int, stray: int, highest: int
) -> None:
    backup = replace(metastore(), max_shard_id=backup_max, max_shard_group_id=backup_max)
    live = replace(metastore(), max_shard_id=live_max, max_shard_group_id=live_max, max_node_id=77)
    after = plan(backup, live, {stray: [4]}).after
    assert after.max_shard_id == highest
    assert after.max_shard_group_id == max(backup_max, live_max)
    assert after.max_node_id == 77
    assert plan(replace(backup, max_node_id=99), live).after.max_node_id == 99


def test_the_clusters_own_monitoring_is_neither_replaced_nor_brought_back() -> None:
    backup = metastore(database("_internal", group(1, {1: [4]})), database("db"))
    live = metastore(database("_internal", group(2, {2: [5]})))
    planned = plan(backup, live, {2: [5]})
    assert planned.after.database("_internal") == live.databases[0]
    assert planned.shards == planned.recovered == planned.forgotten == ()
    gone = plan(backup, metastore()).after
    assert gone.database("_internal") is None


@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_the_backups_already_is_not_changed_where_nodes_watch_themselves_either(
    at: int,
) -> None:
    databases = [database("one"), database("two")]
    databases.insert(at, database("_internal", group(2, {2: [5]})))
    live = metastore(*databases)
    assert plan(live, live).after == live


def test_owners_that_are_no_members_go_and_a_shard_without_any_is_given_to_whoever_has_it() -> None:
    shards = {7: [9, 4], 8: [9], 9: [8, 9], 10: [6, 5]}
    backup = metastore(database("db", group(3, shards)), nodes=(4, 8, 9))
    planned = plan(backup, metastore(), {7: [4], 8: [5], 10: [5]})
    assert owners(planned) == {7: [4], 8: [5], 9: [4, 5], 10: [6, 5]}
    assert "shard 7: node 9 is gone, so it is owned by node 4" in planned.notes
    assert "shard 8: node 9 is gone, so it is owned by node 5" in planned.notes
    assert "shard 9: node 8, 9 is gone, so it is owned by node 4, 5" in planned.notes
    assert not any("shard 10" in note for note in planned.notes)
    assert [place.shard_id for place in planned.without_files] == [9]


def test_shards_without_owners_are_dealt_out_by_the_replication_factor() -> None:
    backup = metastore(database("db", group(3, {7: [], 8: []}), copies=2))
    assert owners(plan(backup, metastore())) == {7: [4, 5], 8: [6, 4]}
    once = metastore(database("db", group(3, {7: []}), copies=9))
    assert owners(plan(once, metastore())) == {7: [4, 5, 6]}


def test_another_clusters_metastore_is_refused() -> None:
    with pytest.raises(TargetNotEmpty, match="is of cluster 9, and m:8091 is cluster 8"):
        plan(replace(metastore(), cluster_id=9), metastore())


def test_files_that_the_backups_policy_would_delete_are_not_let_go_without_being_asked() -> None:
    groups = group(3, {7: [4]}, day=1), group(4, {8: [4]}, day=29)
    backup = metastore(database("db", *groups, days=7))
    longer = metastore(database("db", *groups, days=100))
    with pytest.raises(WouldExpire, match="shards 7 on the nodes of m:8091 are older"):
        plan(backup, longer, {7: [4], 8: [4]})
    skipped = plan(backup, longer, {7: [4], 8: [4]}, skip_expired=True)
    assert owners(skipped) == {8: [4]}
    assert [place.shard_id for place in skipped.forgotten] == [7]
    # Of what has no files, or expires anyway, nothing is lost.
    assert owners(plan(backup, longer, {8: [4]})) == {7: [4], 8: [4]}
    assert owners(plan(backup, backup, {7: [4], 8: [4]})) == {7: [4], 8: [4]}


def test_deleted_groups_stay_as_they_were_backed_up() -> None:
    gone = group(3, {7: [4]}, deleted=5)
    planned = plan(metastore(database("db", gone, days=7)), metastore(), {7: [4]})
    assert planned.after.databases == (database("db", gone, days=7),)


def test_what_a_cluster_would_not_survive_is_not_planned() -> None:
    twice = metastore(database("db", group(3, {7: [4]})), database("db"))
    with pytest.raises(PlanError, match="a database twice"):
        plan(twice, metastore())
    taken = metastore(database("db", group(3, {2: [5]})))
    with pytest.raises(PlanError, match="a shard ID twice"):
        plan(taken, metastore(database("_internal", group(2, {2: [5]}))))


def test_fields_that_are_unknown_to_us_stay() -> None:
    strange = bytes([0xFA, 0x07, 3]) + b"new"  # field 127
    planned = plan_overwrite(
        encode_metastore(metastore(database("db"))) + strange,
        encode_metastore(metastore()),
        {},
        now_ns=0,
        target_name="m:8091",
    )
    assert strange in planned.meta


def test_policies_and_queries_that_differ_are_reported() -> None:
    query = ContinuousQueryInfo("q", "CREATE CONTINUOUS QUERY q ON db BEGIN … END")
    short = replace(database("db", days=7), continuous_queries=(query,))
    other = replace(short.retention_policies[0], name="extra")
    backup = metastore(replace(short, retention_policies=(*short.retention_policies, other)))
    notes = plan(backup, metastore(database("db"))).notes
    assert notes == (
        "continuous queries of 'db' become those of the backup: 'q'",
        "policy 'db'.'extra' comes back",
        "policy 'db'.'rp' becomes that of the backup: keeps points for 604800 s, replication 2, "
        "0 subscriptions",
    )
    assert plan(metastore(database("db")), backup).notes == (
        "continuous queries of 'db' become those of the backup: none",
        "policy 'db'.'extra' is forgotten",
        "policy 'db'.'rp' becomes that of the backup: keeps all points, replication 2, "
        "0 subscriptions",
    )
