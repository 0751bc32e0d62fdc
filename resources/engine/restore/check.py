"""Before a target is touched: is every archive there that will be sent, and is it what was stored?

An archive of ours is there if its file has the size that its manifest lists. Its bytes are read
once, while they are sent (`upload.Uploader`): the end marker, without which a server does not take
a shard for complete, goes out when digest, checksums and tar have been found right, and what an
archive that fails has left is undone. `-precheck digests` compares all digests before that, and so
does a restore into a shard that is there, since its undoing takes files out of a live shard.

Archives of other tools have no digest. They are inspected before, as if they were backed up.

Tests: tests/wire/bad_input/test_damaged_backups.py, tests/faults/test_upload.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from resources.engine.backup.damaged import describe_left_out
from resources.engine.events import Run, Warned
from resources.engine.restore.plan import RestoreOptions, RestorePlan, ShardRestore
from resources.errors import ArchiveCorrupt, ShardkeeperError, counted
from resources.model import ShardID, ShardLocation
from resources.repository.archives.archive import read_archive, scratch_in
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FileFacts, ShardDetails
from resources.repository.repository import BackupRepository
from resources.runtime.workers import each_in_threads

_OfOurs = Literal["nothing", "sizes", "digests"]
READ_BYTES = 1 << 20
PARALLEL = 2
OLDER = (
    "restore an older state with -as-of TIME, or the other shards with -db, -rp or -shard; if the "
    "source still has it, backup -full copies it again"
)


class ArchiveContents(Struct, frozen=True):
    """What an archive holds: as its backup found, or as was found by reading it now."""

    files: tuple[FileFacts, ...]
    """What is sent later is held against these."""
    series: int | None
    """None if several TSM files may repeat each other's."""
    tombstones: int
    gone: tuple[FileFacts, ...] = ()
    """Of earlier archives, lost at the source; the archive does not have them."""

    @property
    def damaged(self) -> tuple[FileFacts, ...]:
        """Files that came damaged from the server; what is whole in them is sent."""
        return tuple(file for file in self.files if file.damage is not None)


class CheckedArchives(Struct, frozen=True, kw_only=True):
    """Archives that are checked: what sending them needs to know.

    Attributes:
        contents: what the archives hold, by shard of the backup.
    """

    repository: BackupRepository
    options: RestoreOptions
    contents: Mapping[ShardID, ArchiveContents]
    run: Run

    def applies_deletes(self, shard_id: ShardID) -> bool:
        """Whether something is deleted from a shard's files on their way."""
        return bool(self.contents[shard_id].tombstones) and not self.options.keep_tombstoned

    def check(self) -> None:
        """Check for a request to stop.

        Raises:
            Stopped: the run must end early.
        """
        self.run.check("the restore was complete")


class CheckedRestore(CheckedArchives, frozen=True, kw_only=True):
    """A restore whose archives are checked: what all of its steps work with."""

    plan: RestorePlan


def left_out(
    shards: Sequence[ShardRestore], contents: Mapping[ShardID, ArchiveContents]
) -> tuple[str, ...]:
    """What a restore leaves out since it was damaged at the source, a line for each shard."""
    found = ((shard, contents[shard.place.shard_id]) for shard in shards)
    lost = ((shard.place, (*one.damaged, *one.gone)) for shard, one in found)
    return tuple(describe_left_out(place, files) for place, files in lost if files)


def check_archives(
    repository: BackupRepository,
    plan: RestorePlan,
    options: RestoreOptions,
    run: Run,
    *,
    checked_before: bool = False,
) -> CheckedRestore:
    """Check every archive that a restore will send, as far as is done before it is sent.

    Args:
        checked_before: whether a killed run of the same restore has done so; then our own are not
            looked at again.

    Raises:
        ArchiveCorrupt, TSMError: the first archive that is not what it should be.
        Stopped: the run is to end early.
    """
    shards = plan.shards
    how: _OfOurs = "digests" if options.new_shard_id is not None else options.precheck
    if checked_before:
        how = "nothing"
    found = each_in_threads(
        lambda shard: _check(repository, shard, run, how),
        shards,
        parallel=PARALLEL,
        name="check",
        give_up=run.stop.set,
    )
    checked = {shard.place.shard_id: one for shard, one in zip(shards, found, strict=True)}
    for text in left_out([s for s in shards if s.archive.entry.details is None], checked):
        run.emit(Warned(text))  # of the others the plan has said it
    pending = sum(contents.tombstones for contents in found)
    if pending:
        run.emit(Warned(describe_deletes(pending, keep=options.keep_tombstoned)))
    return CheckedRestore(
        repository=repository, plan=plan, options=options, contents=checked, run=run
    )


def describe_deletes(n: int, *, keep: bool) -> str:
    pending = f"{counted(n, 'delete was', 'deletes were')} pending at the source"
    return f"{pending}; their points come back" if keep else f"{pending}; the restore applies them"


def _check(
    repository: BackupRepository,
    shard: ShardRestore,
    run: Run,
    how: _OfOurs,
) -> ArchiveContents:
    def unless_stopped() -> None:
        run.check("anything was changed")

    details = shard.archive.entry.details
    try:
        if details is not None:
            _compare(repository, shard.archive, details, how, unless_stopped)
            return ArchiveContents(details.files, details.series, details.tombstones, details.gone)
        return _inspect(repository, shard, unless_stopped)
    except ShardkeeperError as error:
        error.add_note(f"in {shard.archive.entry.file_name}; the target was not touched")
        error.hint = error.hint or OLDER
        raise


def _compare(
    repository: BackupRepository,
    archive: Archive,
    details: ShardDetails,
    how: _OfOurs,
    unless_stopped: Callable[[], None],
) -> None:
    unless_stopped()
    if how == "nothing":
        return
    digest = hashlib.sha256()
    with repository.open_archive(archive) as source:
        if source.size_bytes != details.stored_bytes:
            raise ArchiveCorrupt(
                f"{archive.entry.file_name}: {source.size_bytes} bytes, manifest says "
                f"{details.stored_bytes}",
                hint=OLDER,
            )
        if how == "sizes":
            return
        buffer = memoryview(bytearray(READ_BYTES))
        while n := source.readinto(buffer):
            unless_stopped()
            digest.update(buffer[:n])
    require_digest(archive, details, digest.hexdigest())


def require_digest(archive: Archive, details: ShardDetails, sha256: str) -> None:
    """Require the digest that the manifest lists.

    Raises:
        ArchiveCorrupt: the stored file has another one.
    """
    if sha256 != details.sha256:
        raise ArchiveCorrupt(
            f"{archive.entry.file_name} is not what was stored: its SHA-256 differs from the "
            "manifest's",
            hint=OLDER,
        )


def _inspect(
    repository: BackupRepository, shard: ShardRestore, unless_stopped: Callable[[], None]
) -> ArchiveContents:
    entry, place = shard.archive.entry, shard.place
    with (
        scratch_in(repository.scratch_dir) as scratch,
        repository.open_archive(shard.archive) as source,
    ):
        facts = read_archive(
            source,
            max_bytes=entry.size_bytes,
            place=ShardLocation(place.database, place.policy, place.shard_id),
            checked="full",
            scratch=scratch,
            each_chunk=lambda _: unless_stopped(),
            keep_damaged=True,
        )
    if facts.size_bytes != entry.size_bytes:
        raise ArchiveCorrupt(
            f"{entry.file_name}: {facts.size_bytes} bytes inside, manifest says {entry.size_bytes}",
            hint=OLDER,
        )
    return ArchiveContents(facts.files, facts.series, facts.tombstones)
