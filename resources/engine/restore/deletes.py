"""Deletes that were pending when a shard was backed up, applied to what is sent.

A server takes TSM files only, so deletes that lie beside them as tombstones would be lost, and
the deleted points come back. The archive stays as it is; one TSM file at a time passes
through scratch space, and only files that have tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.archive import MAX_TOMBSTONE_BYTES, ArchiveReader
from resources.repository.backup_set import Archive
from resources.repository.repository import BackupRepository
from resources.tsm.tombstone import Deleted, by_key, parse_tombstones

FLUSH_BYTES = 256 << 10


def deletes_in(
    repository: BackupRepository, archive: Archive, unless_stopped: Callable[[], None]
) -> Mapping[str, Deleted]:
    """By name of the TSM file, what its tombstones delete.

    Raises:
        ArchiveCorrupt, TSMError: the archive or a tombstone file is broken.
    """
    found: dict[str, Deleted] = {}
    walker, raw, name = TarWalker(), bytearray(), ""
    with repository.open_archive(archive) as source:
        reader = ArchiveReader(source, max_bytes=archive.entry.size_bytes)
        for chunk in reader.chunks():
            unless_stopped()
            for piece in walker.feed(chunk):
                if isinstance(piece, MemberStart):
                    name = member_place(piece.member.name).file
                    raw.clear()
                elif name.endswith(".tsm"):
                    continue
                elif isinstance(piece, MemberData):
                    if len(raw) + len(piece.data) <= MAX_TOMBSTONE_BYTES:  # as was checked
                        raw += piece.data
                else:
                    deleted = by_key(parse_tombstones(raw))
                    if deleted:
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
