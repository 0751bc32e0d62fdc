"""Look before copying: which shards there are, and which have changed since their archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from resources.clients.server import Server, ServerFacts
from resources.engine.changes import ShardState, judge, probe, weigh
from resources.engine.events import BackupPlanned, Tell, Warned
from resources.engine.options import BackupOptions
from resources.engine.selection import choose, select, split_present
from resources.errors import (
    ArchiveCorrupt,
    BackupNotFound,
    NothingMatches,
    PeerClosedEarly,
    RepositoryError,
    TargetNotEmpty,
    WireError,
)
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.repository import BackupRepository


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What a backup will do. It was made by looking; nothing is written yet."""

    meta: bytes
    metastore: Metastore
    facts: ServerFacts
    """Read before anything else, so its clock is a lower bound for every shard's."""
    states: tuple[ShardState, ...]
    """Every wanted shard that is on the server's disk."""
    absent: tuple[ShardPlace, ...]
    """Wanted shards that only the metastore knows: the server plans them ahead of time."""

    @property
    def to_copy(self) -> tuple[ShardState, ...]:
        return tuple(state for state in self.states if state.stale)

    @property
    def unchanged(self) -> tuple[ShardState, ...]:
        return tuple(state for state in self.states if not state.stale)


def plan_backup(
    server: Server, repository: BackupRepository, options: BackupOptions, *, tell: Tell
) -> BackupPlan:
    """Find out what a backup has to copy.

    Raises:
        NothingMatches: no such node, database, policy or shard.
        TargetNotEmpty: the repository holds backups of another server.
        RepositoryError: a manifest there is damaged.
        WireError: the server cannot be reached or understood.
    """
    if options.prefer and options.prefer != server.address:
        raise NothingMatches(
            f"-from {options.prefer}: no such node", hint=f"the only node is {server.address}"
        )
    facts, silence = server.facts()
    meta, metastore = server.metastore()
    wanted = choose(select(metastore, options.limits), options.only)
    present, absent = split_present(wanted, server.shards_on_disk())
    try:
        backups = repository.current()
    except BackupNotFound:
        backups = None
    if backups is not None:
        _check_identity(repository, backups, metastore, server.address)
    if silence is not None:
        tell(
            Warned(
                f"{silence.what}; without HTTP the server's clock is unknown, so every shard is "
                "copied (-http names the HTTP address)"
            )
        )
    states = _look(server, repository, present, backups, facts, options)
    tell(
        BackupPlanned(
            copy=sum(state.stale for state in states),
            unchanged=sum(not state.stale for state in states),
            absent=len(absent),
        )
    )
    return BackupPlan(meta, metastore, facts, tuple(states), tuple(absent))


def _look(
    server: Server,
    repository: BackupRepository,
    present: Iterable[ShardPlace],
    backups: BackupSet | None,
    facts: ServerFacts,
    options: BackupOptions,
) -> list[ShardState]:
    archives: Mapping[ShardID, Archive] = backups.archives if backups else {}
    missing = {a.entry.shard_id: a for a in backups.missing} if backups else {}
    sizes = repository.store.names()
    decided: dict[ShardID, ShardState] = {}
    ask: list[tuple[ShardPlace, Archive]] = []
    for place in present:
        previous = missing.get(place.shard_id) or archives.get(place.shard_id)
        if previous is not None and not _same_place(previous, place):
            previous = None
        state = judge(
            place,
            previous,
            full=options.full or facts.clock_ns is None,
            archive_there=previous is not None and _is_whole(previous, sizes),
        )
        if state is not None:
            decided[place.shard_id] = state
        elif previous is not None:
            ask.append((place, previous))
    if ask:
        news = _probe_all(server, ask, options.parallel)
        later, _ = server.facts()  # after the probes, which make the server write its caches
        for (place, previous), found in zip(ask, news, strict=True):
            stats = later.shards.get(place.shard_id)
            decided[place.shard_id] = weigh(place, previous, found, stats)
    return [decided[place.shard_id] for place in present]


def _probe_all(server: Server, ask: list[tuple[ShardPlace, Archive]], parallel: int) -> list[str]:
    def one(item: tuple[ShardPlace, Archive]) -> str:
        place, previous = item
        evidence = previous.entry.evidence
        assert evidence is not None  # noqa: S101 - `judge` settled the others
        try:
            return probe(server, place, evidence)
        except (PeerClosedEarly, ArchiveCorrupt):
            return "no-answer"  # the copy will tell what is wrong, or succeed
        except WireError as error:
            error.add_note(f"while looking at shard {place.shard_id}")
            raise

    try:
        return in_threads(server, one, ask, parallel)
    finally:
        server.resume()


def in_threads(
    server: Server, one: Callable[..., str], items: list[tuple[ShardPlace, Archive]], n: int
) -> list[str]:
    with ThreadPoolExecutor(max_workers=n, thread_name_prefix="probe") as pool:
        try:
            return list(pool.map(one, items))
        except BaseException:
            server.abort()  # who waits for a silent server would hold up the end
            raise


def _is_whole(archive: Archive, sizes: Mapping[str, int]) -> bool:
    """Whether its file is there, and of the size it was stored with."""
    size_bytes, evidence = sizes.get(archive.entry.file_name), archive.entry.evidence
    if size_bytes is None:
        return False
    return evidence is None or evidence.stored_bytes == size_bytes


def _same_place(previous: Archive, place: ShardPlace) -> bool:
    entry = previous.entry
    return not entry.database or (entry.database, entry.policy) == (place.database, place.policy)


def _check_identity(
    repository: BackupRepository, backups: BackupSet, metastore: Metastore, address: str
) -> None:
    """Shard ids mean nothing between servers, so one directory holds one server's backups."""
    try:
        known = decode_metastore(repository.read_meta(backups)).cluster_id
    except (RepositoryError, WireError):
        evidence = backups.newest.manifest.evidence
        if evidence is None:
            raise
        known = evidence.source.cluster_id
    if known != metastore.cluster_id:
        raise TargetNotEmpty(
            f"{repository.location} holds backups of another server (its number is {known}, "
            f"{address} has {metastore.cluster_id})",
            hint="use one directory for each server; a server that was set up anew is another one",
        )
