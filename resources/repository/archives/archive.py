"""A shard's archive: taken in with every check, and read back with the same ones.

In:  tar stream → header walk → each TSM file into scratch, its blocks checked → gzip → store.
Out: gzip → tar header walk → the members' bytes.

Both directions share `Inspection`, so a stored archive gets the same checks as a shard that is
being stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from resources.errors import ArchiveCorrupt, ShardkeeperError, TSMError, UnsafeName, counted, shown
from resources.model import ShardID, ShardLocation
from resources.protocol.tar import (
    Member,
    MemberData,
    MemberStart,
    Piece,
    TarWalker,
    member_place,
)
from resources.repository.archives.gzip_stream import GzipReader, GzipWriter, Level
from resources.repository.formats.details import Checked, FileFacts
from resources.repository.storage.store import ObjectSource, Sink
from resources.tsm.crc import crc32
from resources.tsm.damage import Damage, FileDamage
from resources.tsm.source import ByteSource, Scratch
from resources.tsm.tombstone import iter_tombstones, sound_tombstones

MAX_TOMBSTONE_BYTES = 64 << 20
"""A tombstone file is read whole; a million deleted series take less."""


class ArchiveFacts(Struct, frozen=True):
    """What an archive holds, found by reading all of it."""

    size_bytes: int
    """Length of the tar."""
    content: str
    """SHA-256 over names, sizes and CRC-32s of the files: equal content, equal digest."""
    checked: Checked
    files: tuple[FileFacts, ...]
    series: int | None
    """None if several TSM files may repeat each other's series."""
    points: int | None
    """As stored: a point written twice counts twice until the server compacts its files."""
    min_time_ns: int | None
    max_time_ns: int | None
    tombstones: int

    @property
    def damaged(self) -> tuple[FileFacts, ...]:
        """Files that are damaged, kept as they are."""
        return tuple(file for file in self.files if file.damage is not None)


class StoredArchive(Struct, frozen=True):
    """An archive that is stored, and the digest to recognize it by."""

    facts: ArchiveFacts
    sha256: str
    stored_bytes: int
    read_twice: bool = False
    """Whether every TSM file came from its server twice and the same."""
    gone: tuple[FileFacts, ...] = ()
    """Files of earlier archives that the server lost."""


def content_of(files: Iterable[FileFacts]) -> str:
    """SHA-256 over lines `name size crc32`, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.size_bytes} {file.crc32:08x}\n".encode())
    return digest.hexdigest()


class Inspection:
    """Looks at every byte of a tar stream as it passes by.

    Args:
        place: whose files these must be; None accepts any one shard's, which `place` then
            names (manifests of influxd 1.6 leave it out).
        checked: "full" reads every block of every TSM file, "structure" headers and indexes.
        scratch: room for one file; the caller closes it.
        keep_damaged: whether a TSM or tombstone file may be damaged: what is wrong with it is in
            its facts then, which count what is sound.

    Raises (from `feed` and `finish`):
        ArchiveCorrupt, UnsafeName: the tar is cut, damaged, or holds what it must not.
        TSMError: a TSM or tombstone file is broken; the notes say which and where.
    """

    def __init__(
        self,
        place: ShardLocation | None,
        checked: Checked,
        scratch: Scratch,
        *,
        keep_damaged: bool = False,
    ) -> None:
        self.place = place
        self._keep_damaged = keep_damaged
        self._checked: Checked = checked
        self._scratch = scratch
        self._walker = TarWalker()
        self._files: list[FileFacts] = []
        self._tsm_files: list[FileFacts] = []
        self._series: list[int] = []
        self._tombstones = 0
        self._crc = 0

    def feed(self, view: memoryview) -> Iterator[Piece]:
        """Check the next bytes of the stream and pass on what they mean."""
        for piece in self._walker.feed(view):
            if isinstance(piece, MemberData):
                self._crc = crc32(piece.data, self._crc)
                self._scratch.write(piece.data)
            elif isinstance(piece, MemberStart):
                self._begin(piece.member)
            else:
                self._end(piece.member)
            yield piece

    def consume(self, view: memoryview) -> None:
        """Check the next bytes, for a caller who does not look at the pieces."""
        for _ in self.feed(view):
            pass

    def modified_s(self) -> dict[str, int]:
        """By file, when the server last wrote to it, to the second."""
        return {_file(member): member.mtime_s for member in self._walker.members}

    def finish(self) -> ArchiveFacts:
        """The stream has ended; it must have ended properly."""
        self._walker.finish()
        files = tuple(sorted(self._files, key=lambda file: file.name))
        tsm = self._tsm_files
        points = [file.points for file in tsm if file.points is not None]
        return ArchiveFacts(
            size_bytes=self._walker.offset,
            content=content_of(files),
            checked=self._checked,
            files=files,
            series=sum(self._series) if len(tsm) <= 1 else None,
            points=sum(points) if len(points) == len(tsm) else None,
            min_time_ns=min(
                (f.min_time_ns for f in tsm if f.min_time_ns is not None), default=None
            ),
            max_time_ns=max(
                (f.max_time_ns for f in tsm if f.max_time_ns is not None), default=None
            ),
            tombstones=self._tombstones,
        )

    def _begin(self, member: Member) -> None:
        place = member_place(member.name)
        found = ShardLocation(place.database, place.policy, ShardID(place.shard_id))
        if self.place is None:
            self.place = found
        if found != self.place:
            raise UnsafeName(
                f"the archive of shard {self.place.shard_id} "
                f"({self.place.database}/{self.place.policy}) holds {shown(member.name)}"
            )
        if not _is_tsm(member) and member.size > MAX_TOMBSTONE_BYTES:
            raise ArchiveCorrupt(f"{shown(member.name)} has {member.size} bytes")
        self._crc = 0
        self._scratch.start(member.size)

    def _end(self, member: Member) -> None:
        name = _file(member)
        source = self._scratch.source()
        is_tsm = _is_tsm(member)
        try:
            file = (self._tsm if is_tsm else self._tombstone)(name, member, source)
        except ShardkeeperError as error:
            error.add_note(f"in {name}, {member.offset} bytes into the archive")
            raise
        self._files.append(file)
        if is_tsm:
            self._tsm_files.append(file)

    def _tombstone(self, name: str, member: Member, source: ByteSource) -> FileFacts:
        file, before = FileFacts(name, member.size, self._crc), self._tombstones
        try:
            for _ in iter_tombstones(source):
                self._tombstones += 1
        except TSMError as error:
            if not self._keep_damaged:
                raise
            sound = sum(1 for _ in sound_tombstones(source))
            self._tombstones = before + sound
            why = (
                f"{error.what}; {counted(sound, 'delete')} in it can be read, and what others "
                "deleted comes back with a restore"
            )
            part = Damage(0, 0, "", None, None, why)
            return replace(file, damage=FileDamage(1, 0, (part,)))
        return file

    def _tsm(self, name: str, member: Member, source: ByteSource) -> FileFacts:
        # numpy takes longer to load than most incremental backups take otherwise.
        from resources.tsm.check import check_tsm

        damage = None
        try:
            facts = check_tsm(source, blocks=self._checked == "full")
        except TSMError as error:
            if not self._keep_damaged:
                raise
            from resources.tsm.sound import salvaged

            facts, damage = salvaged(source, error.what)
        self._series.append(facts.series)
        return FileFacts(
            name=name,
            size_bytes=member.size,
            crc32=self._crc,
            keys=facts.keys,
            points=facts.points,
            min_time_ns=facts.min_time_ns if facts.keys else None,
            max_time_ns=facts.max_time_ns if facts.keys else None,
            damage=damage,
        )


class ArchiveWriter:
    """Takes a shard's tar stream in; nothing of it counts until `finish` returned.

    Raises (from `feed` and `finish`): what `Inspection` and the sink raise.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        inner_name: str,
        place: ShardLocation,
        level: Level,
        checked: Checked,
        scratch: Scratch,
        proven: bool = False,
        keep_damaged: bool = False,
    ) -> None:
        self._stored = _HashedSink(sink)
        self._inspection = Inspection(place, checked, scratch, keep_damaged=keep_damaged)
        self._gzip = GzipWriter(self._stored.write, level=level, filename=inner_name, proven=proven)

    def feed(self, view: memoryview) -> None:
        self._inspection.consume(view)
        self._gzip.write(view)

    def modified_s(self) -> dict[str, int]:
        """As `Inspection.modified_s`."""
        return self._inspection.modified_s()

    def finish(self) -> StoredArchive:
        facts = self._inspection.finish()
        self._gzip.close()
        return StoredArchive(facts, self._stored.sha256.hexdigest(), self._stored.sink.size_bytes)


class _HashedSink:
    """It holds no reference to the writer, so buffers are freed as soon as the writer goes."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sha256.update(data)
        self.sink.write(data)


class ArchiveReader:
    """Reads a stored archive, inflated within the bounds of what it should hold.

    Args:
        source: the stored file.
        max_bytes: what the manifest says the tar's length is; more is refused while reading.
    """

    def __init__(self, source: ObjectSource, *, max_bytes: int) -> None:
        self._gzip = GzipReader(source.read, max_bytes=max_bytes)

    def chunks(self) -> Iterator[memoryview]:
        """The tar, piece by piece; a view is valid until the next one is asked for."""
        yield from self._gzip.read_chunks()


class HashedSource:
    """A stored file whose SHA-256 is computed while it is read."""

    def __init__(self, source: ObjectSource) -> None:
        self.size_bytes = source.size_bytes
        self.sha256 = hashlib.sha256()
        self._source = source

    def read(self, n: int, /) -> bytes:
        data = self._source.read(n)
        self.sha256.update(data)
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        n = self._source.readinto(buffer)
        self.sha256.update(memoryview(buffer)[:n])
        return n


def read_archive(
    source: ObjectSource,
    *,
    max_bytes: int,
    place: ShardLocation | None,
    checked: Checked,
    scratch: Scratch,
    each_chunk: Callable[[memoryview], None] = lambda _: None,
    keep_damaged: bool = False,
) -> ArchiveFacts:
    """Read a stored archive from end to end with every check.

    Args:
        each_chunk: called with each piece of the tar, before it is looked at.

    Raises:
        ArchiveCorrupt, TSMError: as `Inspection` and `GzipReader`.
    """
    inspection = Inspection(place, checked, scratch, keep_damaged=keep_damaged)
    for chunk in ArchiveReader(source, max_bytes=max_bytes).chunks():
        each_chunk(chunk)
        inspection.consume(chunk)
    return inspection.finish()


def inspect_archive(
    source: ObjectSource,
    *,
    max_bytes: int,
    place: ShardLocation | None,
    checked: Checked,
    scratch: Scratch,
    each_chunk: Callable[[memoryview], None] = lambda _: None,
    keep_damaged: bool = False,
) -> StoredArchive:
    """As `read_archive`, with the digest of what is stored."""
    hashed = HashedSource(source)
    facts = read_archive(
        hashed,
        max_bytes=max_bytes,
        place=place,
        checked=checked,
        scratch=scratch,
        each_chunk=each_chunk,
        keep_damaged=keep_damaged,
    )
    return StoredArchive(facts, hashed.sha256.hexdigest(), source.size_bytes)


@contextmanager
def scratch_in(directory: str | None) -> Generator[Scratch]:
    scratch = Scratch(directory)
    try:
        yield scratch
    finally:
        scratch.close()


def _file(member: Member) -> str:
    return member.name.rpartition("/")[2]


def _is_tsm(member: Member) -> bool:
    return member.name.endswith(".tsm")
