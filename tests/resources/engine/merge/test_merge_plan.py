"""What a merge will do, and what it leaves out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from resources.engine.merge.merge_plan import MergeOptions, MergePlan, plan_merge
from resources.engine.restore.plan import plan_restore
from resources.engine.restore.target_state import TargetState
from resources.errors import NothingMatches, PlanError, UsageError
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
)
from resources.protocol.meta import encode_metastore
from resources.repository.backup_set import Archive, BackupSet, StoredManifest
from resources.repository.formats.details import BackupDetails, ShardDetails, SourceInfo
from resources.repository.formats.manifest import Limits, Manifest, MetaEntry, ShardEntry

DAY_NS = 86_400_000_000_000
NOW_NS = 30 * DAY_NS
TEMPORARY = "shardkeeper_merge_x"


def group(number: int, day: int) -> ShardGroupInfo:
    """Shard group and shard have one number."""
    return ShardGroupInfo(
        ShardGroupID(number),
        day * DAY_NS,
        (day + 1) * DAY_NS,
        None,
        None,
        (ShardInfo(ShardID(number)),),
    )


def policy(
    name: str, *groups: ShardGroupInfo, days: int = 0, heard: int = 0
) -> RetentionPolicyInfo:
    ears = tuple(SubscriptionInfo(f"s{i}", "ALL", ("udp://h:1",)) for i in range(heard))
    return RetentionPolicyInfo(name, days * DAY_NS, DAY_NS, 1, groups, ears)


def metastore(*databases: DatabaseInfo) -> Metastore:
    return Metastore(0, 9, 5, databases, (), (), (), 0, 99, 99)


SOURCE = metastore(
    DatabaseInfo(
        "home",
        "week",
        (
            policy("week", group(1, 1), group(2, 10), group(3, 29), heard=1),
            policy("long", group(4, 20)),
            policy("bare"),
        ),
        (ContinuousQueryInfo("q", "CREATE CONTINUOUS QUERY q ON home BEGIN … END"),),
    )
)


def live(*policies: RetentionPolicyInfo, name: str = "home") -> Metastore:
    return metastore(DatabaseInfo(name, policies[0].name, policies))


LIVE = live(policy("week"), policy("long"))


def archive(number: int, points: int | None) -> Archive:
    details = ShardDetails(
        sha256="a" * 64,
        stored_bytes=100,
        content="b" * 64,
        checked="full",
        files=(),
        series=1,
        points=points,
        min_time_ns=None,
        max_time_ns=None,
        tombstones=0,
        node="s:8088",
        read_at_ns=None,
        modified_ns=None,
        seconds=0.1,
        group_start_ns=0,
        group_end_ns=1,
    )
    rp = "week" if number < 4 else "long"
    entry = ShardEntry("home", rp, ShardID(number), f"T.s{number}.tar.gz", 1024, 0, details=details)
    return Archive(entry, "T.manifest")


def plan(
    options: MergeOptions | None = None,
    target: Metastore = LIVE,
    *,
    points: tuple[int | None, ...] = (1, 2, 3, 4),
) -> MergePlan:
    options = options or MergeOptions(Limits("home"))
    archives = {ShardID(i): archive(i, n) for i, n in enumerate(points, 1)}
    details = BackupDetails("0", "full", 0, SourceInfo("server", "s:8088", "1.8", 5), "c" * 64)
    manifest = Manifest(MetaEntry("T.meta", 1), (), details=details)
    restore = plan_restore(
        BackupSet(StoredManifest("T.manifest", manifest), archives, ()),
        encode_metastore(SOURCE),
        SOURCE,
        TargetState("s:8088", metastore(), NOW_NS),
        options.restore_options(TEMPORARY),
    )
    return plan_merge(restore, target, options, now_ns=NOW_NS, target_name="s:8088")


def shards(planned: MergePlan) -> list[int]:
    return [shard.place.shard_id for shard in planned.shards]


def test_every_shard_goes_through_a_temporary_database_into_the_policy_of_its_name() -> None:
    planned = plan()
    assert shards(planned) == [1, 2, 3, 4]
    assert (planned.temporary, planned.into) == (TEMPORARY, "home")
    assert planned.policies == {"week": "week", "long": "long"}
    assert planned.points == 10
    [beside] = planned.restore.databases
    assert beside.name == TEMPORARY
    assert set(beside.durations.values()) == {0}  # nothing expires while it is copied
    assert beside.continuous_queries == ()
    assert planned.kept_from_ns == {}
    assert planned.notes == ()


def test_points_are_unknown_if_one_archive_does_not_report() -> None:
    assert plan(points=(1, None, 3, 4)).points is None


def test_another_database_and_policy_may_take_the_points() -> None:
    options = MergeOptions(Limits("home", "week"), into_database="other", into_policy="all")
    planned = plan(options, live(policy("all"), name="other"))
    assert planned.into == "other"
    assert planned.policies == {"week": "all"}
    assert shards(planned) == [1, 2, 3]


def test_a_policy_without_points_need_not_be_there_and_one_with_points_must() -> None:
    assert plan(target=live(policy("week"), policy("long"), policy("more"))).policies
    with pytest.raises(NothingMatches, match="has no retention policy 'long'") as refused:
        plan(target=live(policy("week")))
    assert refused.value.hint.startswith(
        'create it: CREATE RETENTION POLICY "long" ON "home" DURATION INF REPLICATION 1'
    )


def test_without_the_live_database_restore_is_named() -> None:
    with pytest.raises(NothingMatches, match="has no database 'home'") as refused:
        plan(target=metastore())
    assert "shardkeeper restore -db home" in refused.value.hint
    with pytest.raises(NothingMatches) as refused:
        plan(MergeOptions(Limits("home"), into_database="other"))
    assert refused.value.hint.endswith("-newdb other")


@pytest.mark.parametrize(
    ("start", "end", "chosen"),
    [(None, None, [1, 2, 3, 4]), (10, 20, [2]), (11, None, [3, 4]), (None, 10, [1]),
     (2, 10, None), (29, 30, [3]), (40, None, None)],
)  # fmt: skip
def test_only_shards_with_a_moment_of_the_time_are_restored(
    start: int | None, end: int | None, chosen: list[int] | None
) -> None:
    options = MergeOptions(
        Limits("home"),
        start_ns=None if start is None else start * DAY_NS,
        end_ns=None if end is None else end * DAY_NS,
    )
    if chosen is None:
        with pytest.raises(NothingMatches, match="no points of 'home' to merge"):
            plan(options)
    else:
        assert shards(plan(options)) == chosen


def test_points_that_the_live_policy_would_refuse_are_left_out_only_when_asked() -> None:
    """It keeps points for a week, so from day 23 on: shards 1 and 2 are older, 3 is not."""
    target = live(policy("week", days=7), policy("long"))
    with pytest.raises(PlanError, match=r"2 of 4 shards are older than 'home'\.'week'"):
        plan(target=target)
    planned = plan(MergeOptions(Limits("home"), skip_expired=True), target)
    assert shards(planned) == [3, 4]
    assert planned.kept_from_ns == {"week": 23 * DAY_NS}
    assert planned.notes == (
        "2 of 4 shards are older than 'home'.'week' keeps points (the first is shard 1): left out",
    )


def test_a_shard_that_is_too_old_in_part_is_taken_and_that_is_reported() -> None:
    target = live(policy("week", days=1), policy("long"))
    planned = plan(MergeOptions(Limits("home", shard_id=ShardID(3))), target)
    assert shards(planned) == [3]
    later = live(policy("week"), policy("long", days=1))
    with pytest.raises(PlanError, match="the first is shard 4"):
        plan(target=later)
    half = policy("week", days=19)
    planned = plan(MergeOptions(Limits("home", "week"), skip_expired=True), live(half))
    assert shards(planned) == [3]
    partly = plan(
        MergeOptions(Limits("home", "long")),
        live(RetentionPolicyInfo("long", 9 * DAY_NS + 1, 1, 1)),
    )
    assert "points of 1 shard may be older" in partly.notes[0]


def test_subscriptions_of_the_live_database_are_reported_and_the_backups_are_nobodys_business() -> (
    None
):
    planned = plan(target=live(policy("week", heard=2), policy("long"), policy("other", heard=5)))
    assert planned.notes == (
        "2 subscriptions of 'home' will receive what is merged, like all writes (Kapacitor, for "
        "example)",
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (MergeOptions(), "merge needs -db"),
        (MergeOptions(Limits("home"), into_policy="x"), "-newrp needs -rp"),
        (MergeOptions(Limits("home"), start_ns=5, end_ns=5), "-end is not after -start"),
        (MergeOptions(Limits("home"), most_points=0), "room for one point"),
        (
            MergeOptions(
                Limits("home"), manifest="T.manifest", as_of=datetime(2026, 1, 1, tzinfo=UTC)
            ),
            "-full reads one manifest",
        ),
    ],
)
def test_what_means_nothing_is_refused(options: MergeOptions, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        options.check()


@pytest.mark.parametrize("name", ["_internal", "a/b", ".."])
def test_names_that_no_live_database_has_are_refused(name: str) -> None:
    with pytest.raises((NothingMatches, UsageError)):
        MergeOptions(Limits("home"), into_database=name).check()
