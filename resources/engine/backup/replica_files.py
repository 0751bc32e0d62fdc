"""Which files does a replica have? Only as much of its stream is read as it takes to know.

A node that reports a shard as cold has nothing of it in memory, no pending deletes, and one
generation of files. A compaction increments the generation or sequence, so the first file's name
and size, together with the total size, identify the content. Other small replicas are read
whole. Neither relies on a clock.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go, IsIdle; compact.go, FullyCompacted,
compactGroup (the new file's generation and sequence).
"""

from __future__ import annotations

import hashlib

from resources.clients.source import BackupSource
from resources.model import ShardID
from resources.protocol.tar import Member, MemberData, MemberStart, TarWalker, member_place
from resources.tsm.crc import crc32

MAX_WHOLE_BYTES = 256 << 10
"""A stream that is shorter is read whole."""
ALL, FIRST = "all ", "first "


def files_of(source: BackupSource, node: str, shard_id: ShardID) -> str:
    """A name for a replica's files. The request makes the node write its cache out.

    "all …" covers every byte, in the order of the files' names; the names themselves change when
    a node compacts a shard in which there was nothing to remove. "first …" covers only the first
    file's name and size.

    Raises:
        WireError, ArchiveCorrupt: the reply cannot be read.
    """
    walker, buffer = TarWalker(), memoryview(bytearray(MAX_WHOLE_BYTES // 4))
    files: list[str] = []
    first, crc = "", 0
    with source.open_shard(shard_id, node=node) as stream:
        while n := stream.recv_into(buffer):
            for piece in walker.feed(buffer[:n]):
                if isinstance(piece, MemberStart):
                    crc = 0
                    first = first or f"{_name(piece.member)} {piece.member.size}"
                elif isinstance(piece, MemberData):
                    crc = crc32(piece.data, crc)
                else:
                    kind = _name(piece.member).rpartition(".")[2]
                    files.append(f"{kind} {piece.member.size} {crc:08x}")
            if first and walker.offset > MAX_WHOLE_BYTES:
                return FIRST + _digest([first])
        walker.finish()
    return ALL + _digest(files)


def is_proof(files: str, *, at_rest: bool) -> bool:
    """Whether equal names mean equal files: all was read, or the first file identifies all."""
    return files.startswith(ALL) or (at_rest and files.startswith(FIRST))


def _name(member: Member) -> str:
    return member_place(member.name).file


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
