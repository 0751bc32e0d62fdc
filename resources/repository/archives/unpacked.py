"""A shard's files side by side in temporary files, to compare points and not bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Self

from resources.errors import StoreFailed, TSMError
from resources.protocol.tar import MemberData, MemberEnd, MemberStart, TarWalker, member_place
from resources.tsm.check import check_tsm
from resources.tsm.damage import FileDamage
from resources.tsm.deletions import Deletions
from resources.tsm.merge import (
    ContentDigest,
    SeriesPoints,
    ShardFile,
    content_digest,
    series_points,
)
from resources.tsm.reader import TSMFile
from resources.tsm.sound import SoundFile, salvaged
from resources.tsm.source import FileSource, temporary_file
from resources.tsm.tombstone import iter_tombstones


class UnpackedShard:
    """Takes a tar stream; the files are gone when the block ends.

    Needs room for the whole shard, which is why it is only used where bytes cannot be compared.

    Args:
        directory: where the files are kept meanwhile.
        keep_damaged: whether files may be damaged; what is whole in them is read then.

    Attributes:
        damaged: what is wrong with files that were opened, by name.
    """

    def __init__(self, directory: str | None, *, keep_damaged: bool = False) -> None:
        self._directory = directory
        self._keep_damaged = keep_damaged
        self.damaged: dict[str, FileDamage] = {}
        self._walker = TarWalker()
        self._files: dict[str, IO[bytes]] = {}
        self._current: IO[bytes] | None = None
        self._opened: dict[bool, list[ShardFile]] = {}
        """Once each: there may be millions of tombstones."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def feed(self, view: memoryview) -> None:
        """Take the next bytes of the tar.

        Raises:
            StoreFailed: no room for the files.
            ArchiveCorrupt, UnsafeName: what arrives is no shard's tar.
        """
        for piece in self._walker.feed(view):
            try:
                if isinstance(piece, MemberStart):
                    name = member_place(piece.member.name).file
                    self._current = temporary_file(self._directory)
                    self._files[name] = self._current
                elif isinstance(piece, MemberData) and self._current is not None:
                    self._current.write(piece.data)
                elif isinstance(piece, MemberEnd) and self._current is not None:
                    self._current.flush()
            except OSError as error:
                raise StoreFailed(
                    f"a temporary file for comparing points: {error.strerror}",
                    hint="make room in the backup directory for the largest shard",
                ) from None

    def finish(self) -> None:
        self._walker.finish()

    def digest(self, *, apply_tombstones: bool) -> ContentDigest:
        """Digest of all points."""
        return content_digest(self.shard_files(apply_tombstones=apply_tombstones))

    def points(self) -> Iterator[SeriesPoints]:
        """All points that are not deleted, by ascending key; see `series_points`."""
        return series_points(self.shard_files(apply_tombstones=True))

    @property
    def tsm_names(self) -> list[str]:
        """In order of their generations."""
        return [name for name in sorted(self._files) if name.endswith(".tsm")]

    def points_of(self, name: str) -> Iterator[SeriesPoints]:
        """What one file has that its tombstones do not delete, by ascending key."""
        return series_points([self._shard_file(name, apply_tombstones=True)])

    def shard_files(self, *, apply_tombstones: bool) -> list[ShardFile]:
        """The TSM files in order of their generations; valid until `close`."""
        if apply_tombstones not in self._opened:
            self._opened[apply_tombstones] = [
                self._shard_file(name, apply_tombstones=apply_tombstones) for name in self.tsm_names
            ]
        return self._opened[apply_tombstones]

    def _shard_file(self, name: str, *, apply_tombstones: bool) -> ShardFile:
        deleted = Deletions()
        beside = self._files.get(name.removesuffix(".tsm") + ".tombstone")
        if apply_tombstones and beside is not None:
            file = FileSource(beside.fileno())
            keep = self._keep_damaged
            deleted = Deletions.sound(file) if keep else Deletions(iter_tombstones(file))
        return self._tsm_file(name), deleted

    def _tsm_file(self, name: str) -> TSMFile:
        source = FileSource(self._files[name].fileno())
        if self._keep_damaged:
            try:
                check_tsm(source)
            except TSMError as error:
                _, self.damaged[name] = salvaged(source, error.what)
                return SoundFile(source)
        return TSMFile(source)
