"""The points of an archive: unpacked, merged as a server merges them, without deleted ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from resources.errors import BackupIncomplete
from resources.points.filters import PointFilter
from resources.repository.archives.archive import ArchiveReader, HashedSource
from resources.repository.archives.unpacked import UnpackedShard
from resources.repository.backup_set import Archive
from resources.repository.repository import BackupRepository
from resources.tsm.damage import FileDamage
from resources.tsm.layout import BlockType
from resources.tsm.merge import (
    SeriesPoints,
    ShardFile,
    kept_keys,
    series_points,
    series_windows,
)


class ShardPoints:
    """An archive that is open for reading points."""

    def __init__(self, unpacked: UnpackedShard) -> None:
        self._unpacked = unpacked

    @property
    def damaged(self) -> dict[str, FileDamage]:
        """What is wrong with files that were read, by name; what is whole in them was read."""
        return self._unpacked.damaged

    def read(self, wanted: PointFilter) -> Iterator[SeriesPoints]:
        """Yield the wanted points of each key, keys ascending, with one key in memory at a time.

        Raises:
            TSMError: a file is broken, or a key has different types in two files.
        """
        return series_points(self._files(), times=wanted.times, keys=wanted.wants_key)

    def series(self, wanted: PointFilter) -> Iterator[list[SeriesPoints]]:
        """Yield the wanted points of all fields of a series, window by window.

        Memory does not grow with the length of a series; raises as `read`.
        """
        return series_windows(self._files(), times=wanted.times, keys=wanted.wants_key)

    def keys(self, wanted: PointFilter) -> Iterator[tuple[bytes, BlockType]]:
        """Yield the keys that may have wanted points, with their types; reads no block.

        Raises:
            TSMError: an index is broken.
        """
        return kept_keys(self._files(), times=wanted.times, keys=wanted.wants_key)

    def _files(self) -> list[ShardFile]:
        return self._unpacked.shard_files(apply_tombstones=True)


@contextmanager
def open_points(
    repository: BackupRepository, archive: Archive, *, check: Callable[[], None] = lambda: None
) -> Generator[ShardPoints]:
    """Unpack an archive into the repository's scratch space, for the block.

    Args:
        check: called for each piece of the archive; it may raise to end the reading.

    Raises:
        StoreFailed: no room for the files.
        ArchiveCorrupt, UnsafeName: it is no archive of a shard.
        BackupIncomplete: it is not the file that was stored.
    """
    with (
        UnpackedShard(repository.scratch_dir, keep_damaged=archive.may_be_damaged) as unpacked,
        repository.open_archive(archive) as source,
    ):
        hashed = HashedSource(source)
        for chunk in ArchiveReader(hashed, max_bytes=archive.entry.size_bytes).chunks():
            check()
            unpacked.feed(chunk)
        unpacked.finish()
        details = archive.entry.details
        if details is not None and hashed.sha256.hexdigest() != details.sha256:
            raise BackupIncomplete(
                f"{archive.entry.file_name}: its SHA-256 differs from the manifest's",
                hint="shardkeeper verify lists what is damaged, and what an earlier backup has",
            )
        yield ShardPoints(unpacked)
