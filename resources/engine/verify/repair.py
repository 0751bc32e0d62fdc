"""Repair stored backups: from second copies, and from the source while it has the shards.

No sound file is changed or replaced. A damaged file keeps its bytes, under a name that ends in
`.damaged`. What is copied again is stored as a new backup.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.source import BackupSource
from resources.engine.backup.run import BackupReport, back_up
from resources.engine.events import (
    Emit,
    Repaired,
    Run,
)
from resources.engine.lock_events import emit_left, emit_waiting
from resources.engine.options import BackupOptions
from resources.engine.verify.inventory import Problem
from resources.engine.verify.repair_record import LostArchive, encode_lost_archives
from resources.engine.verify.verify import VerifyReport, verify
from resources.errors import NameTaken, NothingMatches, RepositoryError, RepositoryLocked, counted
from resources.model import INTERNAL_DATABASE, ShardID, ShardLocation
from resources.repository.backup_set import BackupSet
from resources.repository.formats.names import REPAIR_SUFFIX, BackupName, copy_of
from resources.repository.manifest_replica import decode_file, lost_manifests, read_raw
from resources.repository.repository import BackupRepository
from resources.repository.storage.held_lock import Held
from resources.repository.storage.lock_record import LOCK_NAME
from resources.runtime.failpoints import passing

COMMAND = "verify -repair"


class Needs(Struct, frozen=True):
    """What the newest state does not have and must be read from the source again."""

    shards: frozenset[ShardID] = frozenset()
    metastore: bool = False

    def __bool__(self) -> bool:
        return bool(self.shards) or self.metastore

    @classmethod
    def of(cls, report: VerifyReport) -> Needs:
        """Empty while a manifest is unreadable: no backup can follow it then."""
        if report.blocked or not report.points:
            return cls()
        newest = report.points[-1]
        return cls(frozenset(shard.shard_id for shard in newest.gaps), bool(newest.trouble))


def sweep_after_dead_runs(repository: BackupRepository, *, emit: Emit) -> None:
    """Take away what killed runs left, also where nothing else is to be repaired.

    Every run that takes the repository's lock does that. A run that is at work is left alone.

    Raises:
        StoreFailed: the directory cannot be written to.
    """
    if not (repository.store.has(LOCK_NAME) or repository.store.has_stages()):
        return
    with (
        suppress(RepositoryLocked),
        repository.locked(command=COMMAND, on_wait=emit_waiting(emit)) as held,
    ):
        emit_left(held.left, emit)


def repair_manifests(repository: BackupRepository, *, emit: Emit) -> None:
    """Write manifests and their copies again, each from the other, unless both are damaged.

    Raises:
        RepositoryLocked: another run works there.
        StoreFailed: the directory cannot be written to.
    """
    if not manifests_to_repair(repository):
        return
    with repository.locked(command=COMMAND, on_wait=emit_waiting(emit)) as held:
        emit_left(held.left, emit)
        for bad, good in manifests_to_repair(repository):
            raw = read_raw(repository.store, good)
            aside = _set_aside(repository, held, bad)
            passing("repair.set-aside")
            with held.stage.create(bad) as sink:
                sink.write(raw)
            what = f"; the old file is {aside} now" if aside else ""
            emit(Repaired(bad, f"written again from {good}{what}"))


def manifests_to_repair(repository: BackupRepository) -> list[tuple[str, str]]:
    """Manifests or copies to write again, each with the file that has its bytes."""
    names = {name for name in repository.store.names() if name.endswith(".manifest")}
    found: list[tuple[str, str]] = []
    for name in sorted(names | set(lost_manifests(repository.store))):
        copy, sound = copy_of(name), dict[str, bool]()
        for file_name in (name, copy):
            with suppress(RepositoryError):
                details = decode_file(repository.store, file_name, name).details
                if details is not None:
                    sound[file_name] = details.has_copy
        if sound == {copy: True}:
            found.append((name, copy))
        elif sound == {name: True}:
            found.append((copy, name))
    return found


def download_again(
    source: BackupSource, repository: BackupRepository, needs: Needs, *, emit: Emit
) -> BackupReport:
    """Make a backup that has everything that the newest state does not have.

    It is incremental, so it also copies what has changed since. In a directory whose newest
    backup left shards out, it copies only what is missing. A shard that the source no longer has
    is not in the new state. Newer shards of its database are, for example of a database that was
    restored under its name.

    Raises:
        ShardkeeperError: as `back_up`; then nothing was stored.
    """
    current = repository.current()
    internal = any(a.entry.database == INTERNAL_DATABASE for a in current.archives.values())
    options = BackupOptions(again=needs.shards, internal=internal)
    if current.newest.manifest.limited:
        only = _missing_at(source, current, needs.shards)
        options = replace(options, only=only, only_meta=not only)
    try:
        report = back_up(source, repository, options, Run(emit), command=COMMAND)
    except NothingMatches:
        options = BackupOptions(only_meta=True)
        report = back_up(source, repository, options, Run(emit), command=COMMAND)
    for saved in report.saved:
        entry = saved.entry
        if entry.shard_id in needs.shards:
            emit(Repaired(entry.file_name, f"shard {entry.shard_id} copied from {saved.node}"))
    return report


def _missing_at(
    source: BackupSource, current: BackupSet, shards: frozenset[ShardID]
) -> frozenset[ShardLocation]:
    """The shards to copy: the missing ones, or the newer shards of their databases."""
    if not shards:
        return frozenset()
    _, metastore = source.metastore()
    there = {place.shard_id: ShardLocation.of(place) for place in metastore.places()}
    lists = (*current.archives.values(), *current.missing)
    databases = {a.entry.database for a in lists if a.entry.shard_id in shards - there.keys()}
    instead = {shard for shard, at in there.items() if at.database in databases}
    chosen = (shards & there.keys()) | (instead - current.archives.keys())
    return frozenset(there[shard] for shard in chosen)


def settle(
    repository: BackupRepository, before: VerifyReport, stored: Collection[str], *, emit: Emit
) -> VerifyReport:
    """Set aside damaged files that are no longer needed, and report what is left.

    Args:
        before: the report before the repair.
        stored: archives that were copied since; only these are read.

    Raises:
        RepositoryLocked: another run works there.
        StoreFailed: the directory cannot be written to.
    """

    def verify_again(bad: Mapping[str, str]) -> VerifyReport:
        return verify(repository, choose=lambda _: stored, bad=bad)

    now = verify_again(before.bad)
    useless = [problem for problem in now.problems if _is_useless(problem, now)]
    if useless:
        with repository.locked(command=COMMAND, on_wait=emit_waiting(emit)) as held:
            lost_archives = [_lose(repository, held, problem, emit) for problem in useless]
            passing("repair.all-aside")
            _write_down(
                repository,
                held,
                [lost for lost in lost_archives if lost.listed_by],
                emit,
            )
        gone = {problem.file_name for problem in useless}
        now = verify_again({name: what for name, what in before.bad.items() if name not in gone})
    return replace(now, archives=before.archives, size_bytes=before.size_bytes)


def _is_useless(problem: Problem, report: VerifyReport) -> bool:
    """Whether the newest state does not need the file, so that it can be set aside."""
    if problem.kind in ("receipt", "repair"):
        return True
    if report.blocked or problem.kind not in ("archive", "meta") or not problem.listed_by:
        return False
    newest = report.points[-1]
    if problem.kind == "meta":
        return problem.listed_by != f"{newest.name}.manifest"
    return problem.file_name not in {shard.file_name for shard in newest.gaps}


def _lose(repository: BackupRepository, held: Held, problem: Problem, emit: Emit) -> LostArchive:
    aside = _set_aside(repository, held, problem.file_name)
    if aside:
        emit(Repaired(problem.file_name, f"set aside as {aside}, since {problem.what}"))
    return LostArchive(problem.file_name, problem.listed_by, problem.what, aside)


def _set_aside(repository: BackupRepository, held: Held, name: str) -> str:
    """The new name of the file; empty if the file does not exist."""
    return held.stage.set_aside(name) if repository.store.has(name) else ""


def _write_down(
    repository: BackupRepository, held: Held, lost_archives: list[LostArchive], emit: Emit
) -> None:
    if not lost_archives:
        return
    raw, name = (
        encode_lost_archives(lost_archives, at_ns=time.time_ns()),
        BackupName.of(repository.clock()),
    )
    while True:
        with suppress(NameTaken):
            with held.stage.create(f"{name}{REPAIR_SUFFIX}") as sink:
                sink.write(raw)
            break
        name = name.next()
    what = f"lists {counted(len(lost_archives), 'lost file')} of earlier backups"
    emit(Repaired(f"{name}{REPAIR_SUFFIX}", what))
