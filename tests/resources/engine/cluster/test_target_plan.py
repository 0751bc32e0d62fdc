"""What a restore sets as a cluster's metastore."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from msgspec.structs import replace

from resources.engine.cluster.target_plan import (
    GAP,
    HIGHEST_ID,
    ClusterChange,
    draft_databases,
    plan_cluster_change,
)
from resources.engine.restore.plan import RestoreOptions, RestorePlan, plan_restore
from resources.engine.restore.target_state import TargetState
from resources.errors import PlanError, TargetNotEmpty
from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
    SubscriptionInfo,
    UserInfo,
)
from resources.protocol.commands import SetData, decode_command
from resources.protocol.meta import decode_metastore, encode_metastore
from resources.repository.backup_set import Archive, BackupSet, StoredManifest
from resources.repository.formats.details import BackupDetails, SourceInfo
from resources.repository.formats.manifest import Limits, Manifest, MetaEntry, ShardEntry

DAY_NS = 86_400_000_000_000


def group(
    number: int,
    *shards: int,
    day: int = 0,
    deleted: int | None = None,
    truncated: int | None = None,
) -> ShardGroupInfo:
    return ShardGroupInfo(
        ShardGroupID(number),
        day * DAY_NS,
        (day + 1) * DAY_NS,
        deleted,
        truncated,
        tuple(ShardInfo(ShardID(i), (ShardOwner(NodeID(77)),)) for i in shards),
    )


def policy(name: str, replica_n: int, *groups: ShardGroupInfo) -> RetentionPolicyInfo:
    return RetentionPolicyInfo(
        name, 0, DAY_NS, replica_n, groups, (SubscriptionInfo("s", "ALL", ("udp://h:1",)),)
    )


def node(number: int) -> NodeInfo:
    return NodeInfo(NodeID(number), f"data-{number}:8086", f"data-{number}:8088")


SOURCE = Metastore(
    term=3,
    index=50,
    cluster_id=5,
    databases=(
        DatabaseInfo(
            "home",
            "keep",
            (
                policy("keep", 2, group(6, 31, 30, 32, day=3), group(5, 20, 21, 22, day=1)),
                policy("long", 3, group(7, 33, day=9), group(8, 34, day=2, deleted=4)),
            ),
            (ContinuousQueryInfo("q", "CREATE CONTINUOUS QUERY q ON home BEGIN … END"),),
        ),
        DatabaseInfo("_internal", "m", (policy("m", 1, group(9, 35)),)),
        DatabaseInfo("hollow", "autogen", (policy("autogen", 1),)),
    ),
    users=(UserInfo("ann", "$2a$10$secret", True),),
    data_nodes=(node(77),),
    meta_nodes=(),
    max_node_id=77,
    max_shard_group_id=9,
    max_shard_id=35,
)
FRESH = Metastore(
    term=2,
    index=11,
    cluster_id=8,
    databases=(),
    users=(),
    data_nodes=(node(6), node(4), node(5)),
    meta_nodes=(NodeInfo(NodeID(1), "meta-1:8091", "meta-1:8089"),),
    max_node_id=6,
    max_shard_group_id=0,
    max_shard_id=0,
)
OTHERS = DatabaseInfo(
    "theirs",
    "a",
    (replace(policy("a", 1, replace(group(40, 90), shards=(ShardInfo(ShardID(90)),)))),),
)
USED = replace(
    FRESH,
    databases=(OTHERS,),
    users=SOURCE.users,
    max_shard_group_id=44,
    max_shard_id=95,
)
ARCHIVED = {30: "keep", 31: "keep", 32: "keep", 20: "keep", 21: "keep", 33: "long"}


def restoring(
    options: RestoreOptions = RestoreOptions(),  # noqa: B008 - frozen
    source: Metastore = SOURCE,
) -> RestorePlan:
    """A plan for a backup that holds shard 22 as known, but without an archive: it was empty."""
    archives = {
        ShardID(i): Archive(
            ShardEntry("home", rp, ShardID(i), f"T.s{i}.tar.gz", 1024, 0), "T.manifest"
        )
        for i, rp in ARCHIVED.items()
    }
    details = BackupDetails("0", "full", 0, SourceInfo("cluster", "m:8091", "1.8", 5), "c" * 64)
    manifest = Manifest(MetaEntry("T.meta", 1), (), details=details)
    return plan_restore(
        BackupSet(StoredManifest("T.manifest", manifest), archives, ()),
        encode_metastore(source),
        source,
        TargetState("m:8091", FRESH, 20 * DAY_NS, write_limits_known=False),
        options,
    )


def change(
    target: Metastore = FRESH,
    plan: RestorePlan | None = None,
    on_disk: Collection[int] = (),
    replica_n: int | None = None,
) -> ClusterChange:
    plan = plan or restoring()
    return plan_cluster_change(
        plan,
        draft_databases(plan, replica_n),
        encode_metastore(target),
        [ShardID(i) for i in on_disk],
    )


def groups_of(planned: ClusterChange, database: str, rp: str) -> list[tuple[int, list[int]]]:
    there = decode_metastore(planned.meta).database(database)
    assert there is not None
    found = there.retention_policy(rp)
    assert found is not None
    return [(g.id, [shard.id for shard in g.shards]) for g in found.shard_groups]


def test_a_fresh_cluster_gets_the_numbers_that_the_source_had():
    planned = change()
    assert planned.kept_ids
    assert groups_of(planned, "home", "long") == [(7, [33])]
    after = decode_metastore(planned.meta)
    assert (after.max_shard_group_id, after.max_shard_id) == (7, 33)


def test_groups_come_in_the_order_of_their_time_and_their_shards_in_their_own():
    assert groups_of(change(), "home", "keep") == [(5, [20, 21, 22]), (6, [31, 30, 32])]


def test_a_truncated_group_is_placed_by_where_it_was_cut_off():
    cut = group(6, 31, 30, 32, day=3, truncated=DAY_NS)
    keep = policy("keep", 2, group(5, 20, 21, 22, day=1), cut)
    home = replace(SOURCE.databases[0], retention_policies=(keep,))
    plan = restoring(RestoreOptions(Limits("home", "keep")), replace(SOURCE, databases=(home,)))
    assert [number for number, _ in groups_of(change(plan=plan), "home", "keep")] == [6, 5]


def test_a_group_keeps_a_shard_that_was_empty_so_that_series_find_their_places():
    planned = change()
    empty = [shard for shard in planned.shards if shard.restore is None]
    assert [shard.id for shard in empty] == [22]
    assert len(empty[0].owners) == 2


def test_a_cluster_with_shards_gets_new_numbers_with_a_gap():
    planned = change(USED)
    assert not planned.kept_ids
    first_group, first = 44 + GAP, 95 + GAP
    assert groups_of(planned, "home", "keep") == [
        (first_group, [first, first + 1, first + 2]),
        (first_group + 1, [first + 3, first + 4, first + 5]),
    ]
    assert planned.ids[ShardID(31)] == first + 3
    after = decode_metastore(planned.meta)
    assert (after.max_shard_group_id, after.max_shard_id) == (first_group + 2, first + 6)


@pytest.mark.parametrize("stray", [30, 22])
def test_a_number_that_any_disk_knows_is_not_given_again(stray: int):
    planned = change(on_disk=[stray, 2000])
    assert not planned.kept_ids
    assert min(planned.shard_ids) == 2000 + GAP


def test_numbers_with_which_a_cluster_could_not_go_on_are_not_kept():
    last = HIGHEST_ID * 2**15
    keep = policy("long", 1, group(last, 33, day=9))
    source = replace(SOURCE, databases=(replace(SOURCE.databases[0], retention_policies=(keep,)),))
    planned = change(plan=restoring(RestoreOptions(Limits("home")), source))
    assert groups_of(planned, "home", "long") == [(GAP, [GAP])]


def test_a_cluster_that_has_run_out_of_numbers_is_refused():
    with pytest.raises(PlanError, match="beyond"):
        change(replace(FRESH, max_shard_id=HIGHEST_ID - 3))


def test_a_backup_with_one_number_twice_is_refused():
    twice = policy("long", 1, group(7, 33, day=9), group(8, 33, day=10))
    source = replace(SOURCE, databases=(replace(SOURCE.databases[0], retention_policies=(twice,)),))
    with pytest.raises(PlanError, match="twice"):
        change(plan=restoring(RestoreOptions(Limits("home")), source))


def test_nothing_has_an_owner_yet():
    places = list(decode_metastore(change(USED).meta).places())
    assert places
    assert all(not place.shard.owners for place in places)


@pytest.mark.parametrize(("replica_n", "copies"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_copies_are_as_many_as_the_factor_says_and_there_are_nodes_for(replica_n: int, copies: int):
    planned = change(replica_n=replica_n)
    assert all(len({owner.id for owner in s.owners}) == copies for s in planned.shards)
    load = [sum(o.id == n for s in planned.shards for o in s.owners) for n in (4, 5, 6)]
    assert max(load) - min(load) <= 1
    home = decode_metastore(planned.meta).database("home")
    assert home is not None
    assert {rp.replica_n for rp in home.retention_policies} == {replica_n}


def test_without_a_new_factor_each_policy_keeps_its_own():
    copies = {(s.policy, len(s.owners)) for s in change().shards}
    assert copies == {("keep", 2), ("long", 3)}


def test_internal_is_left_out_and_deleted_groups_and_subscriptions_too():
    after = decode_metastore(change().meta)
    assert [db.name for db in after.databases] == ["home", "hollow"]
    assert not [rp.subscriptions for db in after.databases for rp in db.retention_policies if
                rp.subscriptions]  # fmt: skip
    assert not list(after.databases[0].continuous_queries)  # they come when the data is there


def test_a_policy_under_a_new_name_is_the_default_of_its_new_database():
    options = RestoreOptions(Limits("home", "long"), "copy", "brief")
    after = decode_metastore(change(plan=restoring(options)).meta)
    assert [(db.name, db.default_retention_policy) for db in after.databases] == [("copy", "brief")]
    assert [rp.name for rp in after.databases[0].retention_policies] == ["brief"]


def test_a_new_duration_is_set():
    options = RestoreOptions(Limits("home", "long"), new_duration_ns=99 * DAY_NS)
    after = decode_metastore(change(plan=restoring(options)).meta)
    assert after.databases[0].retention_policies[0].duration_ns == 99 * DAY_NS


def test_what_the_cluster_has_stays_byte_by_byte_fields_unknown_to_us_included():
    raw = encode_metastore(USED) + bytes([0xFA, 0x07, 3]) + b"new"  # field 127
    plan = restoring()
    planned = plan_cluster_change(plan, draft_databases(plan), raw, [])
    assert planned.meta.startswith(raw)
    after = decode_metastore(planned.meta)
    assert after.databases[0] == USED.databases[0]
    assert (after.users, after.data_nodes, after.meta_nodes) == (
        USED.users,
        USED.data_nodes,
        USED.meta_nodes,
    )


def test_what_is_planned_survives_being_made_a_command():
    planned = change(USED)
    command = decode_command(SetData(planned.meta).encode())
    assert command == SetData(planned.meta)


def test_a_database_that_has_appeared_is_not_written_into():
    there = replace(FRESH, databases=(DatabaseInfo("hollow", ""),))
    with pytest.raises(TargetNotEmpty, match="cannot restore into non-empty cluster"):
        change(there)


def test_a_cluster_without_data_nodes_has_no_place_for_shards():
    with pytest.raises(PlanError, match="no data nodes"):
        change(replace(FRESH, data_nodes=()))


def test_a_metastore_that_a_cluster_would_not_survive_is_not_planned():
    with pytest.raises(PlanError, match="meta node"):
        change(replace(FRESH, meta_nodes=()))
