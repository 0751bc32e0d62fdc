"""Plan a backup: which shards there are, and which have changed since their archive."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct, field

from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.change_detection import ShardState, scan_server
from resources.engine.backup.clocks import clocks_at
from resources.engine.backup.identity import check_identity
from resources.engine.backup.idle_replicas import Comparison
from resources.engine.backup.lost_metastore import require_metastore
from resources.engine.backup.observed import ObservedSource, SourceState
from resources.engine.backup.scan_cluster import scan_cluster
from resources.engine.backup.served import Unserved, named, unserved
from resources.engine.backup.skipped_shards import LeftAlone
from resources.engine.events import BackupPlanned, Emit, FirstBackup, Warned
from resources.engine.options import BackupOptions
from resources.engine.selection import (
    choose,
    describe_orphans,
    overlapping,
    select,
    set_aside,
    split_present,
)
from resources.errors import (
    BackupNotFound,
    NothingMatches,
    RepositoryMissing,
    WireError,
    shown,
)
from resources.model import INTERNAL_DATABASE, Metastore, ShardID, ShardPlace, is_passing
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FailedShard
from resources.repository.formats.proof import Clocks
from resources.repository.known_archives import KnownArchives
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository


class Era(Struct, frozen=True):
    """Which of a repository's eras a backup belongs to."""

    continues: str = ""
    """The backup that it began with; empty: the first era."""
    begins: bool = False
    """Whether this backup begins an era."""
    floors: Mapping[ShardID, int] = field(default_factory=dict[ShardID, int])
    """If this backup begins an era: the ordering keys in the era before, by shard."""


class BackupPlan(Struct, frozen=True):
    """What a backup will do. Planning only reads; nothing is written yet."""

    meta: bytes
    metastore: Metastore
    facts: SourceFacts
    """Read before anything else, so its clock is a lower bound for every shard's."""
    states: tuple[ShardState, ...]
    """Wanted shards that are on a node's disk, or may be on a node that does not answer."""
    absent: tuple[ShardPlace, ...]
    """Wanted shards that only the metastore has: the server plans them ahead of time."""
    unserved: tuple[FailedShard, ...]
    """Wanted shards that only the metastore has, although they held something."""
    copies: Comparison
    """How the owners' replicas compare; empty for a single server."""
    address: str
    """The source's name in messages."""
    left_alone: LeftAlone
    """Shards whose reading brings the source down."""
    clocks: Clocks | None = None
    """The source's clock at the time of `facts`, and ours; None if it did not report one."""
    first: Mapping[str, SourceFacts] = field(default_factory=dict[str, SourceFacts])
    """What the nodes reported of their shards before anything else, by address."""
    era: Era = field(default_factory=Era)

    @property
    def to_copy(self) -> tuple[ShardState, ...]:
        return tuple(state for state in self.states if state.stale)

    @property
    def unchanged(self) -> tuple[ShardState, ...]:
        return tuple(state for state in self.states if not state.stale)


def plan_backup(
    source: BackupSource,
    repository: BackupRepository,
    options: BackupOptions,
    *,
    emit: Emit,
    seen: ObservedSource | None = None,
    cache: ManifestCache | None = None,
) -> BackupPlan:
    """Determine what a backup has to copy.

    Args:
        seen: what is known already; None: the source is polled.
        cache: manifests of the repository that were read already; None: all are read.

    Raises:
        NothingMatches: no such node, database, policy or shard.
        SourceChanged: the repository holds backups of another server, or of another state of it.
        RepositoryMissing: the directory is empty and should not be.
        RepositoryError: a manifest there is damaged.
        WireError: the source cannot be reached or understood.
    """
    facts, silence = source.facts()
    clocks = clocks_at(facts.clock_ns) if facts.clock_ns is not None else None
    seen = seen or ObservedSource(*source.metastore())
    metastore = seen.metastore
    wanted = _wanted(source, metastore, options)
    earlier = _earlier_backups(repository, options, cache, emit=emit)
    if not options.new_era:
        where = repository.location if earlier else ""
        require_metastore(metastore, facts.orphans, source.address, where)
    backups = None if options.new_era else earlier
    if backups is not None:
        odd = check_identity(repository, backups, metastore, facts, clocks, source.address)
        _warn_of_previous(backups, odd, emit)
    left_alone = LeftAlone(source, repository.store, metastore.cluster_id)
    skipped = left_alone.skipped(options.limits.shard_id)
    known = KnownArchives(repository, backups, options.again | _accepted(backups, options))
    left = [place for place in wanted if place.shard_id not in skipped]
    try:
        inventory = seen.inventory or source.inventory(metastore)
        now = SourceState(metastore, inventory, facts, silence, clocks)
        scanned = _scan(source, now, left, known, options, emit=emit)
    finally:
        left_alone.note(emit=emit)
    _report_plan(scanned, emit)
    return BackupPlan(
        seen.meta,
        metastore,
        facts,
        scanned.states,
        scanned.absent,
        (*scanned.failed, *_failed(wanted, skipped)),
        scanned.copies,
        source.address,
        left_alone,
        clocks,
        _first(source, facts, scanned.states, options),
        _era(backups, earlier),
    )


def _failed(wanted: Sequence[ShardPlace], skipped: Mapping[ShardID, str]) -> Iterator[FailedShard]:
    for place in wanted:
        if place.shard_id in skipped:
            yield FailedShard(place.shard_id, skipped[place.shard_id])


def _report_plan(scanned: _Scanned, emit: Emit) -> None:
    n_stale = sum(state.stale for state in scanned.states)
    emit(BackupPlanned(n_stale, len(scanned.states) - n_stale, len(scanned.absent)))


def _wanted(source: BackupSource, metastore: Metastore, options: BackupOptions) -> list[ShardPlace]:
    """The shards that the options choose.

    Raises:
        NothingMatches: no such node, database, policy or shard.
    """
    _check_node(source, metastore, options.prefer)
    wanted = choose(select(metastore, options.limits), options.only)
    if not options.internal:
        wanted = [place for place in wanted if place.database != INTERNAL_DATABASE]
    if not options.limits.database:
        wanted = [place for place in wanted if not is_passing(place.database)]
    wanted = overlapping(wanted, options.start_ns, options.end_ns)
    return [] if options.only_meta else wanted


def _earlier_backups(
    repository: BackupRepository,
    options: BackupOptions,
    cache: ManifestCache | None,
    *,
    emit: Emit,
) -> BackupSet | None:
    """The backups in the directory; None if it is empty and allowed to be."""
    try:
        return repository.current() if cache is None else cache.listed()
    except BackupNotFound:
        _check_directory(repository, options, emit=emit)
        return None


def _warn_of_previous(backups: BackupSet, odd: str, emit: Emit) -> None:
    if odd:
        emit(Warned(odd))
    for stored in backups.from_copies:
        emit(Warned(stored.note))


class _Scanned(Struct, frozen=True):
    """The wanted shards, classified; the fields are those of the plan."""

    states: tuple[ShardState, ...]
    absent: tuple[ShardPlace, ...]
    failed: tuple[FailedShard, ...]
    copies: Comparison


def _scan(
    source: BackupSource,
    now: SourceState,
    wanted: Sequence[ShardPlace],
    known: KnownArchives,
    options: BackupOptions,
    *,
    emit: Emit,
) -> _Scanned:
    """Compare the wanted shards with their archives."""
    if now.facts.orphans:
        emit(Warned(describe_orphans(now.facts.orphans)))
    wanted, refused = set_aside(wanted, now.inventory.copies)
    if source.kind == "cluster":
        states, absent, copies = scan_cluster(source, now, wanted, known, options, emit=emit)
        return _Scanned(tuple(states), tuple(absent), tuple(refused), copies)
    if not now.facts.shards and wanted:
        emit(Warned(_untold(now.silence)))
    present, gone = split_present(wanted, now.inventory.copies.keys())
    missing = _unserved(gone, now.metastore, known, now.facts, emit=emit)
    states = scan_server(source, now, present, known, options)
    failed = (*missing.failed, *refused)
    return _Scanned(tuple(states), tuple(missing.planned), failed, Comparison())


def _accepted(backups: BackupSet | None, options: BackupOptions) -> frozenset[ShardID]:
    """Shards whose archives are made anew, without the files that are taken for deleted."""
    if backups is None or options.damaged != "accept":
        return frozenset()
    found = ((i, a.entry.details) for i, a in backups.archives.items())
    return frozenset(i for i, details in found if details is not None and details.gone)


def _era(backups: BackupSet | None, earlier: BackupSet | None) -> Era:
    if earlier is None:
        return Era()
    if backups is not None:
        return Era(continues=backups.era)
    floors = {i: a.entry.last_modified_ns for i, a in earlier.archives.items()}
    return Era(begins=True, floors=floors)


def _first(
    source: BackupSource, facts: SourceFacts, states: Sequence[ShardState], options: BackupOptions
) -> dict[str, SourceFacts]:
    """What nodes report of the shards that will be read, by address; each is asked once.

    A single server is its own node, and `facts` are what it reports.
    """
    described = {source.address: facts}
    copies = () if options.peek else (c for s in states if s.stale for c in s.copies)
    for node in sorted({copy.node for copy in copies} - described.keys()):
        with suppress(WireError):  # its figures are read again with its shards
            described[node] = source.figures(node)
    return described


def _unserved(
    gone: Sequence[ShardPlace],
    metastore: Metastore,
    known: KnownArchives,
    facts: SourceFacts,
    *,
    emit: Emit,
) -> Unserved:
    now_ns = facts.clock_ns or time.time_ns()
    missing = unserved(gone, metastore, known.has_heard_of, now_ns)
    if warning := named(missing.planned, now_ns):
        emit(Warned(warning))
    return missing


def _untold(silence: WireError | None) -> str:
    """A warning about a server that does not report figures."""
    why = f"{silence.what}; " if silence else ""
    next_step = (silence.hint if silence else "") or "-http names the HTTP address"
    return (
        f"{why}without HTTP it is not known whether the server has written its caches out, so "
        f"archives may lack its newest points, and every shard is copied ({next_step}; "
        "-require-complete refuses such archives)"
    )


def _check_node(source: BackupSource, metastore: Metastore, prefer: str) -> None:
    nodes = [node.tcp_addr for node in metastore.data_nodes] or [source.address]
    if prefer and prefer not in nodes:
        raise NothingMatches(
            f"-from {prefer}: no such node", hint=f"the nodes are {', '.join(nodes)}"
        )


def _check_directory(repository: BackupRepository, options: BackupOptions, *, emit: Emit) -> None:
    """Require that a directory without backups is a new one, not a missing mount.

    Raises:
        RepositoryMissing: backups were made there, or its file system is not mounted.
    """
    if options.remembered:
        raise RepositoryMissing(
            f"{repository.location} holds no backup, and {options.remembered} was made there",
            hint="mount its file system; if the backups were taken away on purpose, set "
            "new_directory: true",
        )
    point = repository.store.unmounted()
    if point:
        raise RepositoryMissing(
            f"{repository.location} holds no backup, and nothing is mounted on {shown(point)}, "
            "as /etc/fstab says",
            hint=f"mount {shown(point)}; or choose another directory",
        )
    point = repository.store.unmounted(on_demand=True)
    if point:
        emit(
            Warned(
                f"nothing is mounted on {shown(point)}, which /etc/fstab names with noauto: "
                "the backup goes to the disk below it"
            )
        )
    if not options.full and not options.peek:
        emit(FirstBackup(repository.location))
