"""What arrived? The protocol has no answer to an upload, so the shard is read back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from resources.clients.server import Server
from resources.engine.restore_plan import ShardRestore
from resources.errors import ReadBackMismatch
from resources.model import ShardID
from resources.protocol.tar import MemberData, MemberStart, TarWalker, member_place
from resources.repository.archive import ArchiveReader
from resources.repository.repository import BackupRepository
from resources.repository.unpacked import UnpackedShard
from resources.tsm.crc import crc32
from resources.tsm.merge import ContentDigest

BUFFER_BYTES = 256 << 10


@dataclass(slots=True)
class SentFile:
    """A file as it was sent, or as it came back."""

    name: str
    size_bytes: int
    crc32: int
    open: bool = False
    """Its bytes are still arriving."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a shard on the target holds what was sent.

    Attributes:
        how: "identical" if every file came back byte for byte; "same points" if the server had
            rewritten its files meanwhile, and all points were decoded and compared.
        content: SHA-256 over names, sizes and CRC-32s of the files, or over the points.
    """

    new_shard_id: ShardID
    how: str
    content: str
    files: int


def read_back(
    server: Server,
    repository: BackupRepository,
    shard: ShardRestore,
    new_shard_id: ShardID,
    sent: Sequence[SentFile],
) -> Receipt:
    """Read a restored shard from its server and hold it against what was sent.

    Raises:
        ReadBackMismatch: something is missing, added or different.
        WireError: it cannot be read.
    """
    back = _fetch(server, new_shard_id)
    expected = sorted((file.name, file.size_bytes, file.crc32) for file in sent)
    if sorted((file.name, file.size_bytes, file.crc32) for file in back) == expected:
        digest = hashlib.sha256(repr(expected).encode()).hexdigest()
        return Receipt(new_shard_id, "identical", digest, len(back))
    there = _points_there(server, repository, new_shard_id)
    wanted = _points_sent(repository, shard)
    if there != wanted:
        raise ReadBackMismatch(
            f"shard {new_shard_id} on {server.address} came back with {there.points} points of "
            f"{there.series} series in {len(back)} files; {wanted.points} points of "
            f"{wanted.series} series in {len(sent)} files were sent",
            hint="look into the server's log, then restore again",
        )
    return Receipt(new_shard_id, "same points", there.sha256, len(back))


def _fetch(server: Server, shard_id: ShardID) -> list[SentFile]:
    walker, buffer = TarWalker(), memoryview(bytearray(BUFFER_BYTES))
    files: list[SentFile] = []
    with server.open_shard(shard_id) as stream:
        while n := stream.recv_into(buffer):
            for piece in walker.feed(buffer[:n]):
                if isinstance(piece, MemberStart):
                    member = piece.member
                    files.append(SentFile(member_place(member.name).file, member.size, 0))
                elif isinstance(piece, MemberData):
                    files[-1].crc32 = crc32(piece.data, files[-1].crc32)
    walker.finish()
    return files


def _points_sent(repository: BackupRepository, shard: ShardRestore) -> ContentDigest:
    with (
        UnpackedShard(repository.scratch_dir) as unpacked,
        repository.open_archive(shard.archive) as source,
    ):
        reader = ArchiveReader(source, max_bytes=shard.archive.entry.size_bytes)
        for chunk in reader.chunks():
            unpacked.feed(chunk)
        unpacked.finish()
        # The server ignores tombstones in an upload, and so does what was sent.
        return unpacked.digest(apply_tombstones=False)


def _points_there(server: Server, repository: BackupRepository, shard_id: ShardID) -> ContentDigest:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with (
        UnpackedShard(repository.scratch_dir) as unpacked,
        server.open_shard(shard_id) as stream,
    ):
        while n := stream.recv_into(buffer):
            unpacked.feed(buffer[:n])
        unpacked.finish()
        return unpacked.digest(apply_tombstones=True)
