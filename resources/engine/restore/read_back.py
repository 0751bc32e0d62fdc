"""What arrived? The protocol has no answer to an upload, so the shard is read back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.server import Server
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.receipt import How, Receipt
from resources.errors import ArchiveCorrupt, PeerClosedEarly, ReadBackMismatch, counted
from resources.model import ShardID
from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.archives.archive import ArchiveReader, content_of
from resources.repository.formats.details import FileFacts, FileID
from resources.repository.repository import BackupRepository
from resources.tsm.crc import crc32

if TYPE_CHECKING:  # few restores need numpy, which takes longer to load than a small one takes
    from resources.tsm.merge import ContentDigest

BUFFER_BYTES = 256 << 10


class SentFile(Struct):
    """A file as it was sent, or as it came back."""

    name: str
    size_bytes: int
    crc32: int

    @property
    def id(self) -> FileID:
        return self.name, self.size_bytes, self.crc32


class Sent(Struct):
    """What went to a server as one shard."""

    files: list[SentFile]
    facts: Sequence[FileFacts] = ()
    """What is known of them; of others too."""
    series: int | None = None
    """None if it is not known."""
    deleted_ranges: int = 0
    """Applied on the way."""
    applied: bool = False
    """Whether deletes were applied; else what was deleted was sent, too."""
    whole: bool = False
    """Whether the archive went out up to its end marker."""
    ended: bool = False
    """Whether the connection ended in order after that."""


def read_back(
    server: Server,
    repository: BackupRepository,
    shard: ShardRestore,
    new_shard_id: ShardID,
    sent: Sent,
) -> Receipt:
    """Read a restored shard from its server and hold it against what was sent.

    Raises:
        ReadBackMismatch: something is missing, added or different.
        WireError: it cannot be read.
    """
    began = time.monotonic()
    back = files_there(server, new_shard_id)
    receipt = compared(server, repository, shard, new_shard_id, sent, back)
    return replace(receipt, seconds=time.monotonic() - began)


def compared(
    server: Server,
    repository: BackupRepository,
    shard: ShardRestore,
    new_shard_id: ShardID,
    sent: Sent,
    back: Sequence[SentFile],
) -> Receipt:
    """Hold the files that came back against what was sent; points, if these are other files.

    Raises:
        ReadBackMismatch, WireError: as `read_back`.
    """
    if sorted(file.id for file in back) == sorted(file.id for file in sent.files):
        return receipt_of(server, new_shard_id, sent, "identical")
    there = _points_there(server, repository, new_shard_id)
    wanted = _points_sent(repository, shard, applied=sent.applied)
    if there != wanted:
        raise ReadBackMismatch(
            f"shard {new_shard_id} on {server.address} came back with "
            f"{counted(there.points, 'value')} of {there.series} series in "
            f"{counted(len(back), 'file')}, and {counted(wanted.points, 'value')} of "
            f"{wanted.series} series in {counted(len(sent.files), 'file')} were sent",
            hint="look into the server's log, then restore again",
        )
    return Receipt(
        new_shard_id=new_shard_id,
        node=server.address,
        how="same points",
        content=there.sha256,
        files=tuple(FileFacts(*file.id) for file in sorted(back, key=lambda file: file.id)),
        series=there.series,
        points=there.points,
        min_time_ns=there.min_time_ns,
        max_time_ns=there.max_time_ns,
        deleted_ranges=sent.deleted_ranges,
        seconds=0.0,
    )


def receipt_of(server: Server, new_shard_id: ShardID, sent: Sent, how: How) -> Receipt:
    """The receipt of a copy that holds, byte for byte, what was sent."""
    facts = {file.id: file for file in sent.facts}
    files = [facts.get(file.id, FileFacts(*file.id)) for file in sent.files]
    files.sort(key=lambda file: file.id)
    known = all(file.points is not None for file in files)
    return Receipt(
        new_shard_id=new_shard_id,
        node=server.address,
        how=how,
        content=content_of(files),
        files=tuple(files),
        series=sent.series,
        points=sum(file.points or 0 for file in files) if known else None,
        min_time_ns=min((f.min_time_ns for f in files if f.min_time_ns is not None), default=None),
        max_time_ns=max((f.max_time_ns for f in files if f.max_time_ns is not None), default=None),
        deleted_ranges=sent.deleted_ranges,
        seconds=0.0,
    )


def files_there(server: Server, shard_id: ShardID) -> list[SentFile]:
    """The files of a shard as its server hands them out, tombstones too; none if it is empty.

    Raises:
        WireError: it cannot be read.
    """
    walker, buffer = TarWalker(), memoryview(bytearray(BUFFER_BYTES))
    files: list[SentFile] = []
    try:
        with server.open_shard(shard_id) as stream:
            while n := stream.recv_into(buffer):
                for piece in walker.feed(buffer[:n]):
                    if isinstance(piece, MemberStart):
                        member = piece.member
                        files.append(SentFile(member_place(member.name).file, member.size, 0))
                    elif isinstance(piece, MemberData):
                        files[-1].crc32 = crc32(piece.data, files[-1].crc32)
        walker.finish()
    except ArchiveCorrupt as error:
        raise _broken_stream(server, shard_id, error) from None
    return files


def _broken_stream(server: Server, shard_id: ShardID, error: ArchiveCorrupt) -> PeerClosedEarly:
    """It was cut or changed on its way: another reading may be whole."""
    return PeerClosedEarly(
        f"{server.address}: {error.what} while reading shard {shard_id} back",
        hint="look at the network and at the server's log",
    )


def _points_sent(
    repository: BackupRepository, shard: ShardRestore, *, applied: bool
) -> ContentDigest:
    from resources.repository.archives.unpacked import UnpackedShard

    with (
        UnpackedShard(
            repository.scratch_dir, keep_damaged=shard.archive.may_be_damaged
        ) as unpacked,
        repository.open_archive(shard.archive) as source,
    ):
        reader = ArchiveReader(source, max_bytes=shard.archive.entry.size_bytes)
        for chunk in reader.chunks():
            unpacked.feed(chunk)
        unpacked.finish()
        return unpacked.digest(apply_tombstones=applied)


def _points_there(server: Server, repository: BackupRepository, shard_id: ShardID) -> ContentDigest:
    from resources.repository.archives.unpacked import UnpackedShard

    buffer = memoryview(bytearray(BUFFER_BYTES))
    with UnpackedShard(repository.scratch_dir) as unpacked:
        try:
            with server.open_shard(shard_id) as stream:
                while n := stream.recv_into(buffer):
                    unpacked.feed(buffer[:n])
            unpacked.finish()
        except ArchiveCorrupt as error:
            raise _broken_stream(server, shard_id, error) from None
        return unpacked.digest(apply_tombstones=True)
