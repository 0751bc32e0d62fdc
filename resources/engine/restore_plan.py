"""Decide what a restore will do; the target is only looked at.

The plan is a value: `shardkeeper restore -plan` prints it, a test argues with it, and
`restore` carries out exactly this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from resources.engine.restore_notes import note_left_out, note_write_limits
from resources.engine.selection import select
from resources.errors import (
    BackupIncomplete,
    NothingMatches,
    TargetNotEmpty,
    UsageError,
    WouldExpire,
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
from resources.protocol.influxql import check_name
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.manifest import Limits

NOT_EMPTY = "problem setting snapshot: cannot restore into non-empty cluster"
"""The original's words; scripts look for them."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What to restore, and under which names.

    Attributes:
        limits: `-db`, `-rp`, `-shard`.
        new_database: `-newdb`; empty keeps the name.
        new_policy: `-newrp`; empty keeps the name.
        new_duration_ns: `-newduration`: how long restored policies keep points; 0 for ever.
        new_replica_n: `-newrf`: how many copies a cluster keeps; None: as many as the source.
        users: `-users`: create users that a cluster does not have.
        skip_expired: `-skip-expired`: leave out what the target would delete at once.
        allow_same_server: whether the target may be the server that was backed up.
        receipts: `-receipts`: read every copy back from the target, compare it with what was
            sent and keep the proof.
        keep_tombstoned: `-keep-tombstoned`: bring points back that were deleted at the source
            and were still in its files.
        parallel: uploads at once.
    """

    limits: Limits = field(default_factory=Limits)
    new_database: str = ""
    new_policy: str = ""
    new_duration_ns: int | None = None
    new_replica_n: int | None = None
    users: bool = False
    skip_expired: bool = False
    allow_same_server: bool = True
    receipts: bool = True
    keep_tombstoned: bool = False
    parallel: int = 2

    def check(self) -> None:
        """Refuse combinations that mean nothing.

        Raises:
            UsageError: `-newdb` without `-db`, `-newrp` without `-rp`, `-rp` without `-db`,
                `-users` with `-db`.
            UnsafeName: a new name that no server takes.
        """
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
        if self.new_database:
            check_name("database", self.new_database)
        if self.new_policy:
            check_name("retention policy", self.new_policy)


@dataclass(frozen=True, slots=True)
class ShardRestore:
    """One archive and the name it goes under; the target chooses the new shard's number."""

    place: ShardPlace
    archive: Archive
    new_database: str
    new_policy: str


@dataclass(frozen=True, slots=True)
class DatabaseRestore:
    """One database to be created on the target."""

    source: DatabaseInfo
    new_name: str
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
        return self.new_name != self.source.name


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Everything a restore will do, and what it will leave out."""

    backup: BackupSet
    meta: bytes
    metastore: Metastore
    databases: tuple[DatabaseRestore, ...]
    notes: tuple[str, ...]
    """One line each: what is left out or changed, and why."""
    keep_tombstoned: bool = False

    @property
    def deleted_ranges(self) -> int:
        """Deletes that were pending, as far as the manifests know: other tools' do not."""
        entries = (shard.archive.entry for shard in self.shards)
        return sum(entry.evidence.tombstones for entry in entries if entry.evidence)

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
    target: Metastore,
    options: RestoreOptions,
    *,
    now_ns: int,
    target_name: str,
    write_limits_known: bool = True,
) -> RestorePlan:
    """Plan a restore into a single server.

    Args:
        backup: the archives to choose from.
        meta, metastore: what the backup's meta file holds, as bytes and decoded.
        target: the target's metastore.
        now_ns: the target's clock, for what its retention would delete.
        target_name: what to call the target in messages.
        write_limits_known: whether the target, by its version, knows write limits.

    Raises:
        NothingMatches: the backup has no such database, policy or shard.
        BackupIncomplete: an archive that is needed is missing or was never made.
        TargetNotEmpty: a database of that name is there already, or the target is the source
            and must not be.
        WouldExpire: shards would expire on arrival.
        UsageError, UnsafeName: the options mean nothing.
    """
    options.check()
    if not options.allow_same_server and target.cluster_id == metastore.cluster_id:
        raise TargetNotEmpty(
            f"{target_name} is the server that this backup was taken from",
            hint="point the restore at another server; or, to restore beside the original under "
            "a new name, set allow_same_server",
        )
    notes: list[str] = []
    wanted = [place for place in select(metastore, options.limits) if not _internal(place)]
    if options.limits.database == INTERNAL_DATABASE:
        raise NothingMatches(
            f"{INTERNAL_DATABASE} is the server's own monitoring and is never restored"
        )
    _refuse_incomplete(backup, wanted, options)
    found = [p for p in wanted if p.shard_id in backup.archives]
    _check_places(backup, found)
    found = _without_expired(found, metastore, options, now_ns, notes)
    databases = [
        _database(db, [p for p in found if p.database == db.name], backup, options, notes)
        for db in _databases(metastore, wanted, found, backup, options, notes)
    ]
    if not databases:
        raise NothingMatches(
            "the backup holds nothing to restore",
            hint="shardkeeper restore -list shows what it holds",
        )
    _refuse_taken(databases, target, target_name)
    told = replace(metastore, users=()) if options.users else metastore
    note_left_out(backup, told, wanted, found, options.limits, notes)
    if not write_limits_known:
        note_write_limits([rp for db in databases for rp in db.policies], notes)
    return RestorePlan(
        backup, meta, metastore, tuple(databases), tuple(notes), options.keep_tombstoned
    )


def _internal(place: ShardPlace) -> bool:
    return place.database == INTERNAL_DATABASE


def _refuse_incomplete(
    backup: BackupSet, wanted: Sequence[ShardPlace], options: RestoreOptions
) -> None:
    ids = {place.shard_id for place in wanted}
    gone = [archive for archive in backup.missing if archive.entry.shard_id in ids]
    if gone:
        raise BackupIncomplete(
            f"{gone[0].entry.file_name} is listed by {gone[0].manifest_file} and missing"
            + (f", and {len(gone) - 1} more" if len(gone) > 1 else ""),
            hint="copy it back; or restore an older state (-as-of TIME), or other databases (-db)",
        )
    evidence = backup.newest.manifest.evidence
    failed = {f.shard_id for f in evidence.failed} if evidence else set[ShardID]()
    never = sorted(ids & failed - backup.archives.keys())
    if never:
        raise BackupIncomplete(
            f"{backup.newest.file_name} is partial: shard {never[0]} could not be saved, and no "
            "earlier archive of it is here",
            hint="restore the other databases with -db, or the other shards with -shard",
        )
    unread = sorted(ids & set(evidence.unchanged if evidence else ()) - backup.archives.keys())
    if unread:
        raise BackupIncomplete(
            f"{backup.newest.file_name} is incremental: the archive of shard {unread[0]}"
            + (f", and of {len(unread) - 1} more," if len(unread) > 1 else "")
            + " is in an earlier backup, which is not here or not read",
            hint="restore the directory without -full, and with -as-of "
            f"{backup.newest.file_name.removesuffix('.manifest')} for this very state",
        )
    if options.limits.shard_id is not None and not ids & backup.archives.keys():
        raise BackupIncomplete(
            f"the backup holds no archive of shard {options.limits.shard_id}",
            hint="shardkeeper restore -list shows the shards it holds",
        )


def _check_places(backup: BackupSet, found: Sequence[ShardPlace]) -> None:
    """An archive must be of the place that the metastore gives its shard."""
    for place in found:
        entry = backup.archives[place.shard_id].entry
        # influxd 1.6 leaves both names empty when only -shard is given.
        if entry.database and (entry.database, entry.policy) != (place.database, place.policy):
            raise BackupIncomplete(
                f"{entry.file_name} is of {shown(entry.database)}.{shown(entry.policy)}, but shard "
                f"{place.shard_id} belongs to {shown(place.database)}.{shown(place.policy)}",
                hint="the directory mixes backups of several servers; restore one with -full",
            )


def _without_expired(
    found: list[ShardPlace],
    metastore: Metastore,
    options: RestoreOptions,
    now_ns: int,
    notes: list[str],
) -> list[ShardPlace]:
    """Deal with shards that the target's retention service would delete within minutes."""
    expired: list[ShardPlace] = []
    for place in found:
        duration_ns = options.new_duration_ns
        if duration_ns is None:
            database = metastore.database(place.database)
            policy = database.retention_policy(place.policy) if database else None
            duration_ns = policy.duration_ns if policy else 0
        if duration_ns and place.group.end_time_ns + duration_ns < now_ns:
            expired.append(place)
    if not expired:
        return found
    first = expired[0]
    text = (
        f"{len(expired)} of {len(found)} shards are older than their retention policy keeps "
        f"points (the first is shard {first.shard_id} of {first.database}.{first.policy})"
    )
    if not options.skip_expired:
        raise WouldExpire(
            f"{text}; the target would delete them within minutes",
            hint="-newduration 0s keeps them for ever, -skip-expired leaves them out",
        )
    notes.append(f"{text}: left out")
    gone = {place.shard_id for place in expired}
    return [place for place in found if place.shard_id not in gone]


def _databases(
    metastore: Metastore,
    wanted: Sequence[ShardPlace],
    found: Sequence[ShardPlace],
    backup: BackupSet,
    options: RestoreOptions,
    notes: list[str],
) -> list[DatabaseInfo]:
    """The databases to create: those with archives, and those that were truly empty."""
    with_archives = {place.database for place in found}
    with_shards = {place.database for place in wanted}
    evidence = backup.newest.manifest.evidence
    covers_all = evidence is not None and not backup.newest.manifest.limited
    chosen: list[DatabaseInfo] = []
    for db in metastore.databases:
        if db.name == INTERNAL_DATABASE or options.limits.database not in ("", db.name):
            continue
        if options.limits.shard_id is not None and db.name not in with_archives:
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
    new_name = options.new_database or db.name
    whole = not only and options.limits.shard_id is None
    queries = tuple(cq.query for cq in db.continuous_queries)
    if queries and (not whole or new_name != db.name):
        why = "is renamed" if whole else "is restored in part"
        notes.append(
            f"{len(queries)} continuous queries of {shown(db.name)} are left out, because the "
            f"database {why} and they name it; SHOW CONTINUOUS QUERIES on the source has them"
        )
        queries = ()
    subscriptions = sum(len(rp.subscriptions) for rp in policies)
    if subscriptions:
        notes.append(f"{subscriptions} subscriptions of {shown(db.name)} are left out")
    durations: dict[str, int] = {}
    if options.new_duration_ns is not None:
        durations = {rp.name: options.new_duration_ns for rp in policies}
    return DatabaseRestore(
        source=db,
        new_name=new_name,
        policies=policies,
        new_policy=options.new_policy,
        durations=durations,
        shards=tuple(
            ShardRestore(
                place,
                backup.archives[place.shard_id],
                new_name,
                options.new_policy or place.policy,
            )
            for place in found
        ),
        continuous_queries=queries,
    )


def _refuse_taken(
    databases: Sequence[DatabaseRestore], target: Metastore, target_name: str
) -> None:
    taken = [db.new_name for db in databases if target.database(db.new_name) is not None]
    if not taken:
        return
    names = ", ".join(shown(name) for name in taken[:5]) + (" …" if len(taken) > 5 else "")
    example = databases[0].source.name
    raise TargetNotEmpty(
        NOT_EMPTY,
        hint=f"{target_name} has {names} already; restore beside it with "
        f"-db {example} -newdb NAME, or drop it first",
    )
