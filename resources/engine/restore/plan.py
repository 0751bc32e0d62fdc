"""Decide what a restore will do; the target is only looked at.

The plan is a value: `shardkeeper restore -plan` prints it, a test argues with it, and
`restore` carries out exactly this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from resources.engine.restore.archives import check_places, require_complete_backup
from resources.engine.restore.expiry import without_expired
from resources.engine.restore.into_shard import find_shard, kept_for_ns
from resources.engine.restore.notes import note_left_out, note_write_limits
from resources.engine.restore.target_state import TargetState
from resources.engine.selection import check_new_name, select, split_named
from resources.errors import (
    BackupIncomplete,
    DatabaseExists,
    NothingMatches,
    TargetNotEmpty,
    UsageError,
    counted,
    shown,
)
from resources.model import (
    INTERNAL_DATABASE,
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardID,
    ShardPlace,
)
from resources.protocol.influxql import objection_to
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.manifest import Limits

NOT_EMPTY = "problem setting snapshot: cannot restore into non-empty cluster"
NOT_EMPTY_SERVER = "problem setting snapshot: cannot restore into non-empty server"
"""The original's words; scripts look for them."""


Precheck = Literal["sizes", "digests"]


class RestoreOptions(Struct, frozen=True):
    """What to restore, and under which names.

    Options that mean nothing together do not exist: making them raises.

    Attributes:
        limits: `-db`, `-rp`, `-shard`.
        new_database: `-newdb`; empty keeps the name.
        new_policy: `-newrp`; empty keeps the name.
        new_duration_ns: `-newduration`: how long restored policies keep points; 0 for ever.
        new_replica_n: `-newrf`: how many copies a cluster keeps; None: as many as the source.
        new_shard_id: `-newshard`: the shard of the target that takes the archive of the single
            shard in `limits`; None: the target makes new ones.
        users: `-users`: create users that a cluster does not have.
        skip_expired: `-skip-expired`: leave out what the target would delete at once.
        allow_same_server: whether the target may be the server that was backed up.
        receipts: `-receipts`: read every copy back from the target, compare it with what was
            sent and keep the proof.
        keep_tombstoned: `-keep-tombstoned`: bring points back that were deleted at the source
            and were still in its files.
        precheck: `-precheck`: whether our archives' digests are compared before the target is
            touched, or their sizes alone; then their bytes are checked while they are sent.
        parallel: uploads at once; a server mostly keeps them waiting while it opens files.
        per_node: the limit of these for one data node; None: no further limit.
        workers: `-workers`: processes that upload; None: by cores and by what there is to do; 1:
            this process alone.

    Raises:
        UsageError: `-newdb` without `-db`, `-newrp` without `-rp`, `-rp` without `-db`,
            `-users` with `-db`, `-newshard` without `-shard` or with what makes policies, or
            a new name that no server takes.
    """

    limits: Limits = field(default_factory=Limits)
    new_database: str = ""
    new_policy: str = ""
    new_duration_ns: int | None = None
    new_replica_n: int | None = None
    new_shard_id: ShardID | None = None
    users: bool = False
    skip_expired: bool = False
    allow_same_server: bool = True
    receipts: bool = True
    keep_tombstoned: bool = False
    precheck: Precheck = "sizes"
    parallel: int = 4
    per_node: int | None = None
    workers: int | None = 1

    def __post_init__(self) -> None:
        if self.new_database and not self.limits.database:
            raise UsageError("-newdb needs -db", hint="name the database to restore with -db")
        if self.limits.policy and not self.limits.database:
            raise UsageError("-rp needs -db", hint="name the database that the policy belongs to")
        if self.new_policy and not self.limits.policy:
            raise UsageError("-newrp needs -rp", hint="name the policy to restore with -rp")
        if self.users and self.limits:
            raise UsageError(
                "-users goes with everything, not with -db",
                hint="restore the whole backup, or create the users by hand",
            )
        if self.new_shard_id is not None:
            self._check_new_shard()
        if self.new_database:
            check_new_name("-newdb", self.new_database)
        if self.new_policy:
            check_new_name("-newrp", self.new_policy)

    def _check_new_shard(self) -> None:
        if self.limits.shard_id is None:
            raise UsageError("-newshard needs -shard", hint="name the shard to restore with -shard")
        for flag, given in (
            ("-newduration", self.new_duration_ns is not None),
            ("-newrf", self.new_replica_n is not None),
            ("-skip-expired", self.skip_expired),
        ):
            if given:
                raise UsageError(
                    f"{flag} does not go with -newshard: the shard's policy is there and stays as "
                    "it is"
                )


class ShardRestore(Struct, frozen=True):
    """One archive and the name it goes under.

    The target chooses the new shard's number, unless the plan says which one it goes into.
    """

    place: ShardPlace
    archive: Archive
    database: str
    """Where it goes on the target, as `policy` does; `place` has the source's names."""
    policy: str


class DatabaseRestore(Struct, frozen=True):
    """One database to be created on the target."""

    source: DatabaseInfo
    name: str
    """Its name on the target."""
    policies: tuple[RetentionPolicyInfo, ...]
    """Those of the source that are restored, with the names they have there."""
    new_policy: str
    """The new name, if a single policy is restored and renamed; else empty."""
    durations: Mapping[str, int]
    """By source policy, where it changes; ns, 0 is for ever."""
    shards: tuple[ShardRestore, ...]
    continuous_queries: tuple[str, ...]
    """Statements to run when the data is there: only if the whole database keeps its name."""

    @property
    def renamed(self) -> bool:
        return self.name != self.source.name


class RestorePlan(Struct, frozen=True):
    """Everything a restore will do, and what it will leave out."""

    backup: BackupSet
    meta: bytes
    metastore: Metastore
    databases: tuple[DatabaseRestore, ...] = ()
    notes: tuple[str, ...] = ()
    """One line each: what is left out or changed, and why."""
    keep_tombstoned: bool = False
    into: ShardPlace | None = None
    """The target's shard that takes the single archive; None: databases are created."""

    @property
    def deleted_ranges(self) -> int:
        """Deletes that were pending, as far as the manifests know: other tools' do not."""
        entries = (shard.archive.entry for shard in self.shards)
        return sum(entry.details.tombstones for entry in entries if entry.details)

    @property
    def shards(self) -> tuple[ShardRestore, ...]:
        return tuple(shard for database in self.databases for shard in database.shards)

    @property
    def size_bytes(self) -> int:
        return sum(shard.archive.entry.size_bytes for shard in self.shards)


def plan_restore(
    backup: BackupSet,
    meta: bytes,
    metastore: Metastore,
    target: TargetState,
    options: RestoreOptions,
) -> RestorePlan:
    """Plan a restore; what is more to be said of a cluster is not noted here.

    Args:
        backup: the archives to choose from.
        meta, metastore: what the backup's meta file holds, as bytes and decoded.

    Raises:
        NothingMatches: the backup has no such database, policy or shard.
        BackupIncomplete: an archive that is needed is missing or was never made.
        TargetNotEmpty: a database of that name is there already, or the target is the source
            and must not be.
        PlanError: the shard that `-newshard` names cannot take the archive.
        WouldExpire: shards would expire on arrival.
    """
    _require_allowed(target, metastore, options)
    notes: list[str] = []
    wanted = _select(metastore, options.limits)
    require_complete_backup(backup, wanted, options.limits)
    found = [p for p in wanted if p.shard_id in backup.archives]
    check_places(backup, found)
    if options.new_shard_id is not None:
        return _into_shard(RestorePlan(backup, meta, metastore), target, found[0], options)
    found = without_expired(
        found,
        metastore,
        options.new_duration_ns,
        skip=options.skip_expired,
        now_ns=target.now_ns,
        notes=notes,
    )
    databases = [
        _database(db, [p for p in found if p.database == db.name], backup, options, notes)
        for db in _databases(metastore, wanted, found, backup, options, notes)
    ]
    if not databases:
        raise NothingMatches(
            "the backup holds nothing to restore",
            hint="shardkeeper restore -list shows what it holds",
        )
    _require_free(databases, target)
    reported = replace(metastore, users=()) if options.users else metastore
    note_left_out(backup, reported, wanted, found, options.limits, notes)
    if not target.write_limits_known:
        note_write_limits([rp for db in databases for rp in db.policies], notes)
    return RestorePlan(
        backup, meta, metastore, tuple(databases), tuple(notes), options.keep_tombstoned
    )


def _require_allowed(target: TargetState, metastore: Metastore, options: RestoreOptions) -> None:
    if not options.allow_same_server and target.metastore.cluster_id == metastore.cluster_id:
        raise TargetNotEmpty(
            f"{target.name} is the server that this backup was taken from",
            hint="point the restore at another server; or, to restore beside the original under "
            "a new name, set allow_same_server",
        )


def _select(metastore: Metastore, limits: Limits) -> list[ShardPlace]:
    chosen, odd = split_named(select(metastore, limits))
    if odd and not chosen:
        raise NothingMatches(
            f"no backup can hold database {shown(odd[0].database)}, policy {shown(odd[0].policy)}",
            hint="no statement could have made a name like that; restore the others with -db",
        )
    if limits.database == INTERNAL_DATABASE:
        raise NothingMatches(
            f"{INTERNAL_DATABASE} is the server's own monitoring and is never restored"
        )
    return [place for place in chosen if place.database != INTERNAL_DATABASE]


def _into_shard(
    empty: RestorePlan, target: TargetState, source: ShardPlace, options: RestoreOptions
) -> RestorePlan:
    """The plan of `-newshard`: nothing is created, so nothing is left out either."""
    assert options.new_shard_id is not None  # noqa: S101 - that is what brings us here
    into = find_shard(
        target,
        options.new_shard_id,
        source,
        database=options.new_database or source.database,
        policy=options.new_policy or source.policy,
    )
    found = empty.metastore.database(source.database)
    assert found is not None  # noqa: S101 - its shard was found in there
    database = replace(
        _database(found, [source], empty.backup, options, []),
        durations={source.policy: kept_for_ns(target.metastore, into)},
    )
    return replace(empty, databases=(database,), keep_tombstoned=options.keep_tombstoned, into=into)


def _databases(
    metastore: Metastore,
    wanted: Sequence[ShardPlace],
    found: Sequence[ShardPlace],
    backup: BackupSet,
    options: RestoreOptions,
    notes: list[str],
) -> list[DatabaseInfo]:
    """The databases to create: those with archives, and those that were truly empty.

    A backup of metadata alone brings all, without points, as the original does.
    """
    with_archives = {place.database for place in found}
    with_shards = {place.database for place in wanted}
    details = backup.newest.manifest.details
    covers_all = details is not None and not backup.newest.manifest.limited
    if details is not None and details.strategy == "only-meta" and not backup.archives:
        covers_all = True
        notes.append("the backup is of metadata alone: databases and policies come without points")
    chosen: list[DatabaseInfo] = []
    for db in metastore.databases:
        if db.name == INTERNAL_DATABASE or options.limits.database not in ("", db.name):
            continue
        if options.limits.shard_id is not None and db.name not in with_archives:
            continue
        if objection := objection_to(db.name):
            notes.append(f"database {shown(db.name)} is left out: its name {objection}")
            continue
        if db.name in with_archives or db.name not in with_shards or covers_all:
            chosen.append(db)
        elif options.limits.database:
            raise BackupIncomplete(
                f"the backup holds no archive of database {shown(db.name)}",
                hint="shardkeeper restore -list shows what it holds",
            )
        else:
            notes.append(
                f"database {shown(db.name)} is left out: the backup knows it and holds no archive "
                "of it"
            )
    return chosen


def _database(
    db: DatabaseInfo,
    found: Sequence[ShardPlace],
    backup: BackupSet,
    options: RestoreOptions,
    notes: list[str],
) -> DatabaseRestore:
    only = options.limits.policy
    if options.limits.shard_id is not None and not only:
        only = found[0].policy if found else ""
    policies = tuple(rp for rp in db.retention_policies if not only or rp.name == only)
    name = options.new_database or db.name
    whole = not only and options.limits.shard_id is None
    queries = tuple(cq.query for cq in db.continuous_queries)
    if queries and (not whole or name != db.name):
        why = "is renamed" if whole else "is restored in part"
        notes.append(
            f"{len(queries)} continuous queries of {shown(db.name)} are left out, because the "
            f"database {why} and they name it; SHOW CONTINUOUS QUERIES on the source has them"
        )
        queries = ()
    subscriptions = sum(len(rp.subscriptions) for rp in policies)
    if subscriptions:
        notes.append(
            f"the restore leaves out {counted(subscriptions, 'subscription')} of {shown(db.name)}"
        )
    durations: dict[str, int] = {}
    if options.new_duration_ns is not None:
        durations = {rp.name: options.new_duration_ns for rp in policies}
    return DatabaseRestore(
        source=db,
        name=name,
        policies=policies,
        new_policy=options.new_policy,
        durations=durations,
        shards=tuple(
            ShardRestore(
                place,
                backup.archives[place.shard_id],
                name,
                options.new_policy or place.policy,
            )
            for place in found
        ),
        continuous_queries=queries,
    )


def _require_free(databases: Sequence[DatabaseRestore], target: TargetState) -> None:
    there = target.metastore
    taken = [db.name for db in databases if there.database(db.name) is not None]
    if not taken:
        return
    names = ", ".join(shown(name) for name in taken[:5]) + (" …" if len(taken) > 5 else "")
    example = databases[0].source.name
    raise DatabaseExists(
        NOT_EMPTY if there.data_nodes else NOT_EMPTY_SERVER,
        hint=f"{target.name} has {names} already; restore beside it with "
        f"-db {example} -newdb NAME, or drop it first",
    )
