"""What a restore decides before it touches anything."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.restore.plan import (
    NOT_EMPTY_SERVER,
    RestoreOptions,
    RestorePlan,
    plan_restore,
)
from resources.engine.restore.target_state import TargetState
from resources.errors import (
    BackupIncomplete,
    NothingMatches,
    PlanError,
    TargetNotEmpty,
    UsageError,
)
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
)
from resources.repository.backup_set import Archive, BackupSet, StoredManifest
from resources.repository.formats.details import BackupDetails, FailedShard, SourceInfo
from resources.repository.formats.manifest import Limits, Manifest, MetaEntry, ShardEntry

HOUR_NS = 3_600_000_000_000
NOW_NS = 1_000 * HOUR_NS


def group(number: int, *shards: int, start_h: int = 0) -> ShardGroupInfo:
    start = start_h * HOUR_NS
    return ShardGroupInfo(
        ShardGroupID(number),
        start,
        start + HOUR_NS,
        None,
        None,
        tuple(ShardInfo(ShardID(i)) for i in shards),
    )


SOURCE = Metastore(
    term=0,
    index=9,
    cluster_id=5,
    databases=(
        DatabaseInfo(
            "home",
            "keep",
            (
                RetentionPolicyInfo(
                    "keep", 0, HOUR_NS, 1, (group(1, 1), group(2, 2, 3)),
                    (SubscriptionInfo("s", "ALL", ("udp://h:1",)),),
                ),
                RetentionPolicyInfo("day", 24 * HOUR_NS, HOUR_NS, 1, (group(3, 4, start_h=990),)),
            ),
            (ContinuousQueryInfo("q", "CREATE CONTINUOUS QUERY q ON home …"),),
        ),
        DatabaseInfo("_internal", "m", (RetentionPolicyInfo("m", 0, 1, 1, (group(4, 5),)),)),
        DatabaseInfo("other", "r", (RetentionPolicyInfo("r", 0, 1, 1, (group(5, 6),)),)),
        DatabaseInfo("empty", "autogen", (RetentionPolicyInfo("autogen", 0, 1, 1),)),
    ),
    users=(UserInfo("ann", "$2a$10$secret", True),),
    data_nodes=(),
    meta_nodes=(),
    max_node_id=0,
    max_shard_group_id=5,
    max_shard_id=6,
)  # fmt: skip
NOWHERE = replace(SOURCE, databases=(), users=(), cluster_id=6)
PLACES = {1: "keep", 2: "keep", 3: "keep", 4: "day"}
COMPLETE = BackupDetails(
    "0.1.0", "incremental", 0, SourceInfo("server", "h:8088", "1.6.7", 5), "c" * 64
)


def archive(shard_id: int) -> Archive:
    database, policy = ("home", PLACES[shard_id]) if shard_id in PLACES else ("other", "r")
    if shard_id == 5:
        database, policy = "_internal", "m"
    entry = ShardEntry(database, policy, ShardID(shard_id), f"T.s{shard_id}.tar.gz", 1024, 0)
    return Archive(entry, "T.manifest")


def backup(
    *shards: int, details: BackupDetails | None = COMPLETE, missing: tuple[int, ...] = ()
) -> BackupSet:
    manifest = Manifest(MetaEntry("T.meta", 1), (), details=details)
    return BackupSet(
        StoredManifest("T.manifest", manifest),
        {ShardID(i): archive(i) for i in shards},
        tuple(archive(i) for i in missing),
    )


WHOLE = backup(1, 2, 3, 4, 5, 6)


def plan(
    options: RestoreOptions, source: BackupSet = WHOLE, target: Metastore = NOWHERE
) -> RestorePlan:
    return plan_restore(source, b"", SOURCE, state(target), options)


def state(target: Metastore) -> TargetState:
    return TargetState("target:8088", target, NOW_NS)


def test_everything_is_restored_but_the_servers_own_monitoring() -> None:
    made = plan(RestoreOptions())
    assert [db.name for db in made.databases] == ["home", "other", "empty"]
    assert [shard.place.shard_id for shard in made.shards] == [1, 2, 3, 4, 6]
    assert made.databases[0].continuous_queries == ("CREATE CONTINUOUS QUERY q ON home …",)


def test_users_and_subscriptions_are_left_out_and_named_without_their_hashes() -> None:
    notes = "\n".join(plan(RestoreOptions()).notes)
    assert "the restore leaves out 1 user ('ann')" in notes
    assert "the restore leaves out 1 subscription of 'home'" in notes
    assert "secret" not in notes


def test_a_rename_moves_the_shards_and_leaves_queries_that_name_the_old_database() -> None:
    made = plan(RestoreOptions(Limits("home"), new_database="home2"))
    assert {(s.database, s.policy) for s in made.shards} == {
        ("home2", "keep"),
        ("home2", "day"),
    }
    assert made.databases[0].continuous_queries == ()
    assert any("continuous queries of 'home' are left out" in note for note in made.notes)


def test_one_policy_is_restored_under_a_new_name() -> None:
    made = plan(RestoreOptions(Limits("home", "keep"), "x", "kept"))
    assert [rp.name for rp in made.databases[0].policies] == ["keep"]
    assert {(s.place.shard_id, s.policy) for s in made.shards} == {
        (1, "kept"),
        (2, "kept"),
        (3, "kept"),
    }


def test_one_shard_brings_its_policy_and_nothing_else() -> None:
    made = plan(RestoreOptions(Limits(shard_id=ShardID(4))))
    assert [s.place.shard_id for s in made.shards] == [4]
    assert [rp.name for rp in made.databases[0].policies] == ["day"]


@pytest.mark.fault(70)
def test_what_would_expire_on_arrival_needs_a_choice() -> None:
    old_group = group(3, 4, start_h=900)
    day = replace(SOURCE.databases[0].retention_policies[1], shard_groups=(old_group,))
    home = replace(SOURCE.databases[0], retention_policies=(day,))
    old = replace(SOURCE, databases=(home,))

    def planned(options: RestoreOptions) -> RestorePlan:
        return plan_restore(backup(4), b"", old, state(NOWHERE), options)

    with pytest.raises(PlanError, match="delete them within minutes") as caught:
        planned(RestoreOptions())
    assert "-newduration 0s" in caught.value.hint
    assert "-skip-expired" in caught.value.hint
    kept = planned(RestoreOptions(new_duration_ns=0))
    assert [s.place.shard_id for s in kept.shards] == [4]
    assert kept.databases[0].durations == {"day": 0}
    assert planned(RestoreOptions(skip_expired=True)).shards == ()
    one = Limits(shard_id=ShardID(4))
    with pytest.raises(NothingMatches, match="nothing to restore"):
        planned(RestoreOptions(one, skip_expired=True))


@pytest.mark.fault(62)
@pytest.mark.parametrize("name", ["home", "other"])
def test_a_database_that_exists_stops_everything(name: str) -> None:
    target = replace(NOWHERE, databases=(DatabaseInfo(name, ""),))
    with pytest.raises(TargetNotEmpty) as caught:
        plan(RestoreOptions(), target=target)
    assert caught.value.what == NOT_EMPTY_SERVER
    assert repr(name) in caught.value.hint
    assert "-newdb" in caught.value.hint


def test_the_targets_own_monitoring_is_no_obstacle() -> None:
    plan(RestoreOptions(), target=replace(NOWHERE, databases=(DatabaseInfo("_internal", ""),)))


@pytest.mark.fault(48)
def test_a_missing_archive_stops_only_what_needs_it() -> None:
    source = backup(1, 2, 4, 5, 6, missing=(3,))
    with pytest.raises(BackupIncomplete, match=r"T\.s3\.tar\.gz is listed by T\.manifest"):
        plan(RestoreOptions(), source)
    assert [s.place.shard_id for s in plan(RestoreOptions(Limits("other")), source).shards] == [6]


@pytest.mark.fault(75)
def test_a_shard_that_was_never_saved_stops_only_what_needs_it() -> None:
    partial = replace(COMPLETE, failed=(FailedShard(ShardID(3), "broken"),))
    with pytest.raises(BackupIncomplete, match="shard 3 could not be saved"):
        plan(RestoreOptions(), backup(1, 2, 4, 5, 6, details=partial))
    plan(RestoreOptions(Limits("other")), backup(1, 2, 4, 5, 6, details=partial))


def test_an_older_archive_of_a_shard_that_failed_is_good_enough() -> None:
    partial = replace(COMPLETE, failed=(FailedShard(ShardID(3), "broken"),))
    made = plan(RestoreOptions(), backup(1, 2, 3, 4, 5, 6, details=partial))
    assert len(made.shards) == 5


def test_a_database_without_archives_is_not_created_empty_from_a_limited_backup() -> None:
    made = plan(RestoreOptions(), backup(6, details=None))
    assert [db.name for db in made.databases] == ["other", "empty"]
    assert any("'home' is left out" in note for note in made.notes)
    with pytest.raises(BackupIncomplete, match="no archive of database 'home'"):
        plan(RestoreOptions(Limits("home")), backup(6, details=None))


@pytest.mark.fault(21, 72)
def test_archives_of_another_server_in_the_directory_are_noticed() -> None:
    strange = Archive(replace(archive(1).entry, database="elsewhere"), "T.manifest")
    source = replace(WHOLE, archives={**WHOLE.archives, ShardID(1): strange})
    with pytest.raises(BackupIncomplete, match="is of 'elsewhere'") as caught:
        plan(RestoreOptions(), source)
    assert "several servers" in caught.value.hint


def test_a_manifest_without_names_still_finds_its_place() -> None:
    """Influxd 1.6 leaves database and policy empty when only -shard is given."""
    nameless = Archive(replace(archive(1).entry, database="", policy=""), "T.manifest")
    source = replace(backup(1, details=None), archives={ShardID(1): nameless})
    made = plan(RestoreOptions(Limits(shard_id=ShardID(1))), source)
    assert made.shards[0].database == "home"


def test_flags_that_need_another_say_so() -> None:
    with pytest.raises(UsageError, match="-newdb needs -db"):
        RestoreOptions(new_database="x")
    with pytest.raises(UsageError, match="-newrp needs -rp"):
        RestoreOptions(Limits("home"), new_policy="x")
    with pytest.raises(UsageError, match="-rp needs -db"):
        RestoreOptions(Limits(policy="keep"))
    with pytest.raises(UsageError, match="-newshard needs -shard"):
        RestoreOptions(new_shard_id=ShardID(1))
    with pytest.raises(UsageError, match="-users goes with everything"):
        RestoreOptions(Limits("home"), users=True)


def test_a_new_name_that_no_server_takes_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        RestoreOptions(Limits("home"), new_database="../x")


def test_the_servers_own_database_is_no_target() -> None:
    with pytest.raises(UsageError, match="keeps this database for itself"):
        RestoreOptions(Limits("home"), new_database="_internal")


def test_the_servers_own_monitoring_cannot_be_asked_for() -> None:
    with pytest.raises(NothingMatches, match="never restored"):
        plan(RestoreOptions(Limits("_internal")))
