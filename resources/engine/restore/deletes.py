"""Deletes that were pending when a shard was backed up, applied to what is sent.

A server takes TSM files only, so deletes that lie beside them as tombstones would be lost, and
the deleted points come back. The archive stays as it is; one TSM file at a time passes
through scratch space, and only files that have tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.archives.archive import ArchiveReader, scratch_in
from resources.repository.backup_set import Archive
from resources.repository.repository import BackupRepository

if TYPE_CHECKING:
    from resources.tsm.deletions import Deletions

FLUSH_BYTES = 256 << 10


def deletes_in(
    repository: BackupRepository, archive: Archive, unless_stopped: Callable[[], None]
) -> Mapping[str, Deletions]:
    """By name of the TSM file, what its tombstones delete.

    Raises:
        ArchiveCorrupt, TSMError: the archive or a tombstone file is broken.
    """
    # Most restores have no deletes, and numpy takes longer to load than a small one takes.
    from resources.tsm.deletions import Deletions

    found: dict[str, Deletions] = {}
    walker, name = TarWalker(), ""
    with (
        repository.open_archive(archive) as source,
        scratch_in(repository.scratch_dir) as scratch,
    ):
        reader = ArchiveReader(source, max_bytes=archive.entry.size_bytes)
        for chunk in reader.chunks():
            unless_stopped()
            for piece in walker.feed(chunk):
                if isinstance(piece, MemberStart):
                    name = member_place(piece.member.name).file
                    if not name.endswith(".tsm"):
                        scratch.start(piece.member.size)
                elif name.endswith(".tsm"):
                    continue
                elif isinstance(piece, MemberData):
                    scratch.write(piece.data)
                elif len(deleted := Deletions.sound(scratch.source())):
                    found[name.removesuffix(".tombstone") + ".tsm"] = deleted
    walker.finish()
    return found


class Gathered:
    """Many small writes become few large ones."""

    def __init__(self, sink: Callable[[bytes | bytearray | memoryview], object]) -> None:
        self.size_bytes = 0
        self._sink = sink
        self._held = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._held += data
        self.size_bytes += len(data)
        if len(self._held) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self._sink(bytes(self._held))
            self._held.clear()
