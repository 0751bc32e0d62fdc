"""Plan a merge; the target is only read.

A merge restores beside the live database, under a temporary name, and copies from there with
InfluxQL statements. The plan is a value: `shardkeeper merge -plan` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from resources.engine.restore.plan import (
    DatabaseRestore,
    RestoreOptions,
    RestorePlan,
    ShardRestore,
)
from resources.engine.selection import check_new_name
from resources.errors import NothingMatches, UsageError, WouldExpire, counted, shown
from resources.model import INTERNAL_DATABASE, DatabaseInfo, Metastore, RetentionPolicyInfo
from resources.protocol.influxql import quote_identifier
from resources.repository.formats.manifest import Limits

MAX_POINTS = 200_000
"""The limit of values that one statement copies; a slice of that size takes about a second."""
EXPIRY_MARGIN_NS = 120 * 10**9
"""How long before its expiry a point counts as expired, so that a slice is copied in time."""
TEMPORARY = "shardkeeper_merge_"
"""The prefix of temporary databases' names."""


class MergeOptions(Struct, frozen=True):
    """What to merge, and into which live database.

    Attributes:
        limits: `-db`, `-rp`, `-shard`; the database is required.
        into_database: `-newdb`: the live database; empty: the one of the same name.
        into_policy: `-newrp`: its policy; empty: the one of the same name.
        start_ns, end_ns: `-start`, `-end`: only points from the start on and before the end.
        as_of: `-as-of`: the newest backup that began no later.
        manifest: `-full`: one backup alone, by the name of its manifest.
        skip_expired: `-skip-expired`: leave out points that the live policy would not keep.
        most_points: the limit of values that one statement copies.
        parallel: uploads at once.
    """

    limits: Limits = field(default_factory=Limits)
    into_database: str = ""
    into_policy: str = ""
    start_ns: int | None = None
    end_ns: int | None = None
    as_of: datetime | None = None
    manifest: str = ""
    skip_expired: bool = False
    most_points: int = MAX_POINTS
    parallel: int = 2

    @property
    def database(self) -> str:
        """The live database."""
        return self.into_database or self.limits.database

    def check(self) -> None:
        """Require a combination of options that makes sense.

        Raises:
            UsageError: no `-db`, `-newrp` without `-rp`, `-as-of` with `-full`, an end before
                the start, slices without room for a point, or a name that no server takes.
            NothingMatches: the database is `_internal`.
        """
        if not self.limits.database:
            raise UsageError("merge needs -db", hint="name the database to merge; one at a time")
        if self.into_policy and not self.limits.policy:
            raise UsageError("-newrp needs -rp", hint="name the policy to merge with -rp")
        if self.manifest and self.as_of is not None:
            raise UsageError("-full reads one manifest, so -as-of has nothing to choose from")
        if self.start_ns is not None and self.end_ns is not None and self.end_ns <= self.start_ns:
            raise UsageError(
                "-end is not after -start", hint="-start names the earlier time, -end the later one"
            )
        if self.most_points < 1:
            raise UsageError("a slice needs room for one point at least")
        if INTERNAL_DATABASE in (self.limits.database, self.database):
            raise NothingMatches(
                f"{INTERNAL_DATABASE} is the server's own monitoring and is never merged"
            )
        check_new_name("-newdb" if self.into_database else "-db", self.database)
        if self.into_policy:
            check_new_name("-newrp", self.into_policy)

    def restore_options(self, temporary: str) -> RestoreOptions:
        """Options of the temporary restore: no expiry and one copy, because it is dropped soon."""
        return RestoreOptions(
            limits=self.limits,
            new_database=temporary,
            new_duration_ns=0,
            new_replica_n=1,
            parallel=self.parallel,
        )


class MergePlan(Struct, frozen=True):
    """Everything that a merge will do, and what it will leave out."""

    temporary: str
    """The name of the database to copy from."""
    into: str
    policies: Mapping[str, str]
    """The live policy that each policy goes into."""
    restore: RestorePlan
    """The restore of the temporary database."""
    kept_from_ns: Mapping[str, int]
    """By live policy with a duration: the oldest point that it still takes."""
    notes: tuple[str, ...]

    @property
    def shards(self) -> tuple[ShardRestore, ...]:
        return self.restore.shards

    @property
    def points(self) -> int | None:
        """The number of stored points; None if a manifest of other tools does not have it."""
        counts = [_points(shard) for shard in self.shards]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


def plan_merge(
    restore: RestorePlan,
    target: Metastore,
    options: MergeOptions,
    *,
    now_ns: int,
    target_name: str,
) -> MergePlan:
    """Plan a merge.

    Args:
        restore: the plan of the restore beside the live database, with all its shards.
        target: the target's metastore.
        now_ns: the target's clock, for the points that its policies would not take.
        target_name: the target's name in messages.

    Raises:
        NothingMatches: the live database or one of its policies does not exist, or there is
            nothing to merge.
        PlanError: shards are older than the live policy keeps points.
        UsageError, UnsafeName: the options do not make sense.
    """
    options.check()
    live = target.database(options.database)
    if live is None:
        raise NothingMatches(
            f"{target_name} has no database {shown(options.database)} to merge into",
            hint="restore brings it back whole: shardkeeper restore -db "
            + options.limits.database
            + (f" -newdb {options.into_database}" if options.into_database else ""),
        )
    [database] = restore.databases
    shards = [s for s in database.shards if _wanted(s, options)]
    policies = _policies(database, shards, live, options, target_name)
    kept_from_ns = {
        rp.name: now_ns - rp.duration_ns
        for rp in live.retention_policies
        if rp.name in policies.values() and rp.duration_ns
    }
    notes: list[str] = []
    shards = _without_expired(shards, policies, kept_from_ns, options, notes)
    if not shards:
        raise NothingMatches(
            f"the backup holds no points of {shown(options.limits.database)} to merge",
            hint="shardkeeper restore -list shows what it holds; -as-of reads an earlier one",
        )
    _note_subscriptions(live, policies, notes)
    smaller = replace(database, shards=tuple(shards), continuous_queries=())
    return MergePlan(
        temporary=database.name,
        into=live.name,
        policies={s.place.policy: policies[s.place.policy] for s in shards},
        restore=replace(restore, databases=(smaller,)),
        kept_from_ns=kept_from_ns,
        notes=(*(note for note in restore.notes if not _about_queries(note)), *notes),
    )


def _wanted(shard: ShardRestore, options: MergeOptions) -> bool:
    group = shard.place.group
    return (options.start_ns is None or group.end_time_ns > options.start_ns) and (
        options.end_ns is None or group.start_time_ns < options.end_ns
    )


def _policies(
    database: DatabaseRestore,
    shards: Sequence[ShardRestore],
    live: DatabaseInfo,
    options: MergeOptions,
    target_name: str,
) -> dict[str, str]:
    with_points = {shard.place.policy for shard in shards}
    found: dict[str, str] = {}
    for rp in database.policies:
        if rp.name not in with_points:
            continue
        name = options.into_policy or rp.name
        if live.retention_policy(name) is None:
            there = ", ".join(shown(each.name) for each in live.retention_policies)
            raise NothingMatches(
                f"database {shown(live.name)} on {target_name} has no retention policy "
                f"{shown(name)} to merge into; it has {there or 'none'}",
                hint=f"create it: {_create(live, name, rp)}; or name another one with -rp and "
                "-newrp",
            )
        found[rp.name] = name
    return found


def _create(live: DatabaseInfo, name: str, rp: RetentionPolicyInfo) -> str:
    duration = f"{rp.duration_ns // 10**9}s" if rp.duration_ns else "INF"
    return (
        f"CREATE RETENTION POLICY {quote_identifier(name)} ON {quote_identifier(live.name)} "
        f"DURATION {duration} REPLICATION {max(1, rp.replica_n)}"
    )


def _without_expired(
    shards: Sequence[ShardRestore],
    policies: Mapping[str, str],
    kept_from_ns: Mapping[str, int],
    options: MergeOptions,
    notes: list[str],
) -> list[ShardRestore]:
    """Remove shards that the live policy refuses because of their age, or refuse the merge."""

    def kept_from(shard: ShardRestore) -> int | None:
        return kept_from_ns.get(policies[shard.place.policy])

    expired: list[ShardRestore] = []
    partly: list[ShardRestore] = []
    for shard in shards:
        limit_ns = kept_from(shard)
        if limit_ns is None:
            continue
        if shard.place.group.end_time_ns <= limit_ns:
            expired.append(shard)
        elif shard.place.group.start_time_ns < limit_ns:
            partly.append(shard)
    if expired:
        place = expired[0].place
        all_ = f"of {counted(len(shards), 'shard')}"
        text = (
            f"{counted(len(expired), f'{all_} is', f'{all_} are')} older than "
            f"{shown(options.database)}.{shown(policies[place.policy])} keeps points (the first is "
            f"shard {place.shard_id})"
        )
        if not options.skip_expired:
            raise WouldExpire(
                f"{text}; the server would refuse them",
                hint="-skip-expired leaves them out; ALTER RETENTION POLICY on the live database "
                "keeps points longer",
            )
        notes.append(f"{text}: left out")
    if partly:
        notes.append(
            f"points of {counted(len(partly), 'shard')} may be older than the live policy keeps "
            "them; those are left out"
        )
    gone = {shard.place.shard_id for shard in expired}
    return [shard for shard in shards if shard.place.shard_id not in gone]


def _note_subscriptions(live: DatabaseInfo, policies: Mapping[str, str], notes: list[str]) -> None:
    names = set(policies.values())
    count = sum(len(rp.subscriptions) for rp in live.retention_policies if rp.name in names)
    if count:
        notes.append(
            f"{counted(count, 'subscription')} of {shown(live.name)} will receive what is merged, "
            "like all writes (Kapacitor, for example)"
        )


def _about_queries(note: str) -> bool:
    """Whether a note is about queries or subscriptions: the live database has its own."""
    return "continuous queries of" in note or re.search(r"\bsubscriptions? of", note) is not None


def _points(shard: ShardRestore) -> int | None:
    details = shard.archive.entry.details
    return None if details is None else details.points
