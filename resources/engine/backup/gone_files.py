"""A file of the last archive that its server does not have any more: compacted, deleted, or lost?

A server that cannot open a TSM file when it starts, or while it compacts, renames it to `.bad`,
says so in its log alone, and serves the shard without it. Such a file leaves no trace in what is
sent. Compaction and deletes take files away, too, so it is the points that decide. Of a file that
is gone

- compaction leaves the points in another file, in which they are found;
- a delete takes points of some series in some time, seldom all of one file and none of another.

So a file is lost if no point is left that it alone had, and no other file that was there lacks
points of each of its series as well. And a running process loses files by failed compactions
alone, which it counts; the others are lost at a start. Points that were deleted on purpose just as
they lay in a file, before a restart, look the same: then a person decides, with `-damaged accept`.

The archive of such a shard is marked like one with damaged blocks, and so is each that follows,
until the file is back or its loss is accepted.

Source: influxdb tsdb/engine/tsm1/file_store.go, Open; engine.go, compactGroup ("Renaming a corrupt
TSM file"), from 1.8 on; compact.go, compact: the output has the last generation of its group.

Held by: tests/wire/test_gone_files.py; tests/resources/engine/backup/test_gone_files.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.source import BackupSource
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.completeness import Sample
from resources.errors import RepositoryError, TSMError
from resources.repository.archives.archive import ArchiveReader
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FileFacts, ShardDetails
from resources.repository.repository import BackupRepository
from resources.tsm.damage import FileDamage

if TYPE_CHECKING:
    from resources.repository.archives.unpacked import UnpackedShard

MAX_READ_BYTES = 2 << 30
"""Larger archives are not read again; then file names decide."""
BUFFER_BYTES = 256 << 10


class GoneFiles(Struct, frozen=True):
    """Finds files that a server lost; one instance serves all threads of a run."""

    source: BackupSource
    repository: BackupRepository

    def found(
        self, state: ShardState, node: str, files: Sequence[FileFacts], sample: Sample | None
    ) -> tuple[FileFacts, ...]:
        """Files of earlier archives that are lost, as those archives had them.

        Args:
            node: where the shard was read.
            files: what came.
            sample: what the node told before; None if it tells nothing.

        Raises:
            WireError, ArchiveCorrupt: the shard could not be read once more.
        """
        previous = state.previous
        details = previous.entry.details if previous else None
        if previous is None or details is None or details.node != node:
            return ()  # replicas have files of their own, and are compared by their points
        now = {file.id for file in files}
        before = tuple(file for file in details.gone if file.id not in now)
        there = {file.name for file in files if file.damage is not None}  # with other bytes
        suspects = [
            file
            for file in details.files
            if file.is_tsm and file.id not in now and file.name not in there
        ]
        if not suspects or not may_lose_files(details, sample):
            return before
        lost = self._lost(state, node, previous, suspects, files)
        return (*before, *(_gone(file, previous) for file in suspects if file.name in lost))

    def _lost(
        self,
        state: ShardState,
        node: str,
        previous: Archive,
        suspects: Sequence[FileFacts],
        files: Sequence[FileFacts],
    ) -> Collection[str]:
        from resources.engine.backup.gone_points import lost_files

        names = [file.name for file in suspects]
        largest = max(previous.entry.size_bytes, sum(file.size_bytes for file in files))
        with suppress(RepositoryError, TSMError):  # the earlier archive is damaged, or no room
            if largest <= MAX_READ_BYTES:
                with self._earlier(previous) as old, self._now(state, node) as new:
                    return lost_files(old, new, names)
        known = previous.entry.details
        return not_compacted(names, files, known.files if known else ())

    def _earlier(self, archive: Archive) -> UnpackedShard:
        from resources.repository.archives.unpacked import UnpackedShard

        unpacked = UnpackedShard(self.repository.scratch_dir, keep_damaged=True)
        try:
            with self.repository.open_archive(archive) as stored:
                for chunk in ArchiveReader(stored, max_bytes=archive.entry.size_bytes).chunks():
                    unpacked.feed(chunk)
            unpacked.finish()
        except BaseException:
            unpacked.close()
            raise
        return unpacked

    def _now(self, state: ShardState, node: str) -> UnpackedShard:
        from resources.repository.archives.unpacked import UnpackedShard

        unpacked = UnpackedShard(self.repository.scratch_dir, keep_damaged=True)
        buffer = memoryview(bytearray(BUFFER_BYTES))
        try:
            with self.source.open_shard(state.place.shard_id, node=node) as stream:
                while n := stream.recv_into(buffer):
                    unpacked.feed(buffer[:n])
            unpacked.finish()
        except BaseException:
            unpacked.close()
            raise
        return unpacked


def may_lose_files(details: ShardDetails, sample: Sample | None) -> bool:
    """Whether the node was started since the archive was made, or failed to compact.

    Args:
        sample: what it told before the shard was read now; None: it may have been.
    """
    if sample is None or sample.stats.compaction_errors:
        return True
    if details.proof is not None:
        return details.proof.figures.started_ns != sample.started_ns
    return details.read_at_ns is None or sample.started_ns > details.read_at_ns


def not_compacted(
    suspects: Iterable[str], files: Iterable[FileFacts], before: Iterable[FileFacts]
) -> frozenset[str]:
    """Files that no compaction can have taken over, by names alone.

    What compaction writes comes in the place of the last file of its group, new and with a
    sequence greater than 1; between that file and the group's first nothing else is left.
    """
    known = {file.id for file in before}
    there = sorted((file.name, file.id) for file in files if file.is_tsm)
    lost: list[str] = []
    for name in suspects:
        following = next(((n, i) for n, i in there if n > name), None)
        if following is None or following[1] in known or following[0].endswith("-000000001.tsm"):
            lost.append(name)
    return frozenset(lost)


def _gone(file: FileFacts, archive: Archive) -> FileFacts:
    if file.damage is not None:
        return replace(file, damage=replace(file.damage, parts=0))
    return replace(file, damage=FileDamage(0, file.size_bytes, (), archive.manifest_file))
