"""Verify stored backups: read all of it, and report problems and what can be restored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from msgspec import Struct

from resources.engine.backup.damaged import describe_damage
from resources.engine.events import (
    PROGRESS_EVERY_S,
    Event,
    Run,
    VerifyProgress,
)
from resources.engine.verify.inventory import (
    Inventory,
    Kind,
    Problem,
    metastore_of,
    take_inventory,
)
from resources.engine.verify.repair_record import LostArchive
from resources.engine.verify.restore_points import DatabaseState, RestorePoint, restore_points
from resources.errors import ShardkeeperError, Stopped
from resources.model import ShardID, ShardLocation
from resources.repository.archives.archive import StoredArchive, inspect_archive, scratch_in
from resources.repository.backup_set import Archive, StoredManifest, keep_newest, newest_era
from resources.repository.formats.manifest import ShardEntry
from resources.repository.repository import BackupRepository
from resources.runtime.workers import running

Choice = Callable[[Collection[str]], Collection[str]]
"""Chooses the archives to read from the names of all."""


class VerifyReport(Struct, frozen=True):
    """The result of a verification."""

    manifests: int
    """Readable manifests, including those read from their copies."""
    receipts: int
    archives: int
    """Archives that were read."""
    listed: int
    """Archives that manifests list and that exist."""
    size_bytes: int
    """Stored size of the archives that were read."""
    problems: tuple[Problem, ...]
    known: tuple[LostArchive, ...]
    """Files that an earlier repair recorded as lost; the newest state does not need them."""
    points: tuple[RestorePoint, ...]
    """Every state, oldest first."""
    databases: tuple[DatabaseState, ...]
    """Databases of the newest state."""
    bad: Mapping[str, str]
    """Problems of archives, known or new, by file name."""
    damaged: Mapping[str, str]
    """Damage that an archive already had when it was read from its server, by file name."""
    damaged_now: tuple[str, ...]
    """Of the damaged archives, those in the newest state."""
    blocked: bool
    """Whether a manifest is readable neither from its file nor from its copy."""


def verify(
    repository: BackupRepository,
    *,
    parallel: int = 2,
    choose: Choice | None = None,
    bad: Mapping[str, str] | None = None,
    run: Run | None = None,
) -> VerifyReport:
    """Read every manifest, meta file, archive and receipt with every check there is.

    A manifest that cannot be read is a problem, not an empty list of shards.

    Args:
        choose: chooses the archives to read; of the others only existence and size are checked.
            None: all are read.
        bad: problems of archives that have been read already, by file name; they are not read
            again.
        run: receives the progress.

    Raises:
        BackupNotFound: there are no backups.
        RepositoryError: the store itself cannot be read.
    """
    found = take_inventory(repository)
    if not found.manifests and not found.problems:
        raise repository.no_backups(
            "name the directory that holds backups; if it did, is its file system mounted?"
        )
    for name, what in (bad or {}).items():
        if name in found.archives:
            found.bad.setdefault(name, what)
    there = {name: a for name, a in found.archives.items() if not found.is_gone(name)}
    wanted = set(there) if choose is None else {*choose(there)} & there.keys()
    chosen = [a for name, a in there.items() if name in wanted and name not in found.bad]
    damaged = _known_as_damaged(there.values())
    bad_ones, found_damaged = _read(repository, chosen, parallel, run or Run(_to_nobody))
    found.bad |= bad_ones
    damaged |= found_damaged
    damaged = {name: what for name, what in damaged.items() if name not in found.bad}
    points, databases = restore_points(found, partial(metastore_of, repository))
    problems, known = _check(found, points)
    return VerifyReport(
        manifests=len(found.manifests),
        receipts=found.receipts,
        archives=len(wanted),
        listed=len(there),
        size_bytes=sum(found.sizes[name] for name in wanted),
        problems=problems,
        known=known,
        points=points,
        databases=databases,
        bad=found.bad,
        damaged=damaged,
        damaged_now=tuple(sorted(damaged.keys() & _newest_files(found.manifests))),
        blocked=bool(found.broken),
    )


def _to_nobody(_event: Event) -> None:
    pass


def _check(
    found: Inventory, points: tuple[RestorePoint, ...]
) -> tuple[tuple[Problem, ...], tuple[LostArchive, ...]]:
    """The problems, and the known losses that the newest state does not need.

    A file that a repair recorded as lost stays known as long as it is missing.
    """
    newest = points[-1] if points else RestorePoint("")
    needed = {shard.file_name for shard in newest.gaps}
    known: list[LostArchive] = []
    problems: list[Problem] = []

    def add(name: str, what: str, kind: Kind, listed_by: str, *, matters: bool) -> None:
        lost = found.lost_archives.get(name)
        if lost is None or matters or not found.is_gone(name):
            problems.append(Problem(name, what, kind, listed_by))
        else:
            known.append(lost)

    by_name = {stored.file_name: stored.manifest.meta.file_name for stored in found.manifests}
    for manifest_file, what in found.metas.items():
        matters = bool(newest.trouble) and newest.name == manifest_file.removesuffix(".manifest")
        add(by_name[manifest_file], what, "meta", manifest_file, matters=matters)
    for name, what in found.bad.items():
        add(name, what, "archive", found.archives[name].manifest_file, matters=name in needed)
    details = found.manifests[-1].manifest.details if found.manifests else None
    for shard in newest.gaps:
        if found.broken:
            break  # the manifest that cannot be read may list it
        if not shard.file_name and details and shard.shard_id in details.unchanged:
            what = (
                f"shard {shard.shard_id} is unchanged since an earlier backup, which is not in "
                "the directory"
            )
            problems.append(Problem(f"{newest.name}.manifest", what, "archive"))
    order = ("manifest", "copy", "meta", "archive", "receipt", "repair", "stray")
    problems += found.problems
    problems.sort(key=lambda problem: (order.index(problem.kind), problem.file_name))
    return tuple(problems), tuple(known)


def _read(
    repository: BackupRepository,
    archives: Collection[Archive],
    parallel: int,
    run: Run,
) -> tuple[dict[str, str], dict[str, str]]:
    """Read archives in parallel; returns new problems, and damage from the source."""
    reader = _Reader(repository, run.stop)
    total = sum(archive.entry.size_bytes for archive in archives)
    bad: dict[str, str] = {}
    done, reported = 0, time.monotonic()
    work = running(
        reader.trouble,
        archives,
        parallel=parallel,
        name="verify",
        every_s=PROGRESS_EVERY_S,
        give_up=run.stop.set,
    )
    with work as ended:
        for one in ended:
            if one is not None:
                done += 1
                if (what := one[1].result()) is not None:
                    bad[one[0].entry.file_name] = what
            if one is None or time.monotonic() - reported >= PROGRESS_EVERY_S:
                run.emit(VerifyProgress(done, len(archives), reader.bytes_done, total))
                reported = time.monotonic()
    return bad, reader.damaged


def _newest_files(manifests: Iterable[StoredManifest]) -> set[str]:
    """The newest archive file of every shard."""
    kept: dict[ShardID, Archive] = {}
    for stored in newest_era(sorted(manifests, key=lambda m: m.file_name, reverse=True)):
        for entry in stored.manifest.files:
            keep_newest(kept, Archive(entry, stored.file_name))
    return {archive.entry.file_name for archive in kept.values()}


def _known_as_damaged(archives: Iterable[Archive]) -> dict[str, str]:
    """Damage that manifests record, also of archives that are not read now."""
    return {
        archive.entry.file_name: describe_damage(archive.entry.details.damaged)
        for archive in archives
        if archive.entry.details and archive.entry.details.damaged
    }


class _Reader:
    """Reads archives; one instance serves all threads.

    Attributes:
        damaged: damage of archives that are as they came from their server, by file name.
    """

    def __init__(self, repository: BackupRepository, stop: threading.Event) -> None:
        self._repository = repository
        self._stop = stop
        self.bytes_done = 0
        self.damaged: dict[str, str] = {}

    def trouble(self, archive: Archive) -> str | None:
        """A problem of the archive, of its file or its contents; None if there is none."""
        entry = archive.entry
        try:
            found = self._inspect(entry)
        except Stopped:
            raise
        except ShardkeeperError as error:
            return str(error)
        what = _differs(entry, found)
        gone = entry.details.gone if entry.details else ()
        if what is None and (damaged := (*found.facts.damaged, *gone)):
            self.damaged[entry.file_name] = describe_damage(damaged)
        return what

    def _inspect(self, entry: ShardEntry) -> StoredArchive:
        place = (
            ShardLocation(entry.database, entry.policy, entry.shard_id) if entry.database else None
        )
        with (
            scratch_in(self._repository.scratch_dir) as scratch,
            self._repository.store.open(entry.file_name) as source,
        ):
            return inspect_archive(
                source,
                max_bytes=entry.size_bytes,
                place=place,
                checked="full",
                scratch=scratch,
                each_chunk=self._count,
                keep_damaged=True,
            )

    def _count(self, chunk: memoryview) -> None:
        self.bytes_done += len(chunk)
        if self._stop.is_set():
            raise Stopped("stopped before everything was read")


def _differs(entry: ShardEntry, found: StoredArchive) -> str | None:
    """How an archive differs from its manifest; None if it does not."""
    if found.facts.size_bytes != entry.size_bytes:
        return f"{found.facts.size_bytes} bytes inside, manifest says {entry.size_bytes}"
    details = entry.details
    if details is None:
        return None
    if details.sha256 != found.sha256:
        return "its SHA-256 differs from the manifest's"
    if details.content != found.facts.content:
        return "it is the file that was stored, and holds other files than its manifest says"
    return None
