"""New files of a shard are read twice: only that finds a key whose bit flipped on the way.

A block has a checksum, and the index of a TSM file is checked against its blocks in everything but
its keys: the file has each key once, and a flipped bit gives another series or field, mostly still
in order. A second read gets the key right. So each TSM file that the earlier archive does not
have, by name, size and CRC-32, is requested again, together with everything newer. That costs as
many bytes as are new, so there is a limit. A file never changes while it keeps its name, whereas a
server may replace several files by one at any time. Tombstones have CRCs.

Test: tests/wire/test_flipped_keys.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from resources.clients.snapshotter import ShardStream
from resources.clients.source import BackupSource
from resources.errors import ArchiveCorrupt
from resources.model import ShardID
from resources.protocol.tar import MemberData, MemberStart, TarWalker
from resources.repository.formats.details import FileFacts, ShardDetails
from resources.tsm.crc import crc32

SECOND_NS = 1_000_000_000
EARLIER_S = 2
"""A tar has times in whole seconds, and a server sends only files newer than the given time."""


class SecondRead(Struct, frozen=True):
    """The files to request again."""

    files: tuple[FileFacts, ...]
    """Files that were read only once so far."""
    since_ns: int | None
    """A time before all of them; None: the whole shard."""
    size_bytes: int
    """The least number of bytes that will come."""


def second_read(
    files: tuple[FileFacts, ...], modified_s: Mapping[str, int], previous: ShardDetails | None
) -> SecondRead:
    """The files of an archive that no backup has read before.

    Args:
        files: the archive's.
        modified_s: when the server last wrote to each file, by name.
        previous: the shard's earlier archive, whose files have been read before.
    """
    before = {file.id for file in (previous.files if previous is not None else ())}
    new = tuple(file for file in files if file.is_tsm and file.id not in before)
    if not new:
        return SecondRead((), None, 0)
    since_s = min(modified_s[file.name] for file in new) - EARLIER_S
    sent = sum(file.size_bytes for file in files if modified_s[file.name] >= since_s)
    everything = len(new) == len(files) or since_s <= 0
    return SecondRead(new, None if everything else since_s * SECOND_NS, sent)


def read_again(
    source: BackupSource,
    shard_id: ShardID,
    node: str,
    wanted: SecondRead,
    *,
    limit_bytes: int,
    buffer: memoryview,
) -> bool:
    """Compare the new files of a shard with a second read; returns whether all came twice.

    Args:
        limit_bytes: more than this is not read again.

    Raises:
        ArchiveCorrupt: the two reads differ.
        WireError: the second read failed.
    """
    if not wanted.files:  # the earlier archive has all of them
        return True
    if wanted.size_bytes > limit_bytes:
        return False
    if wanted.since_ns is not None and source.leftovers.expected:
        return False  # such a server cannot send a part of its files
    with source.open_shard(shard_id, node=node, since_ns=wanted.since_ns) as stream:
        return compare(wanted, stream, buffer)


def compare(wanted: SecondRead, stream: ShardStream, buffer: memoryview) -> bool:
    """Read the stream to its end and compare it with the first read.

    Returns False if files are missing, because the server has compacted them meanwhile.

    Raises:
        ArchiveCorrupt: a file came differently, or the stream is damaged.
        WireError: from the stream.
    """
    walker = TarWalker()
    found: dict[str, tuple[int, int]] = {}
    crc = 0
    while n := stream.recv_into(buffer):
        for piece in walker.feed(buffer[:n]):
            if isinstance(piece, MemberStart):
                crc = 0
            elif isinstance(piece, MemberData):
                crc = crc32(piece.data, crc)
            else:
                name = piece.member.name.rpartition("/")[2]
                found[name] = piece.member.size, crc
    walker.finish()
    for file in wanted.files:
        if found.get(file.name, (file.size_bytes, file.crc32)) != (file.size_bytes, file.crc32):
            raise ArchiveCorrupt(
                f"{file.name} came differently when it was read again",
                hint="the network, or a machine on the way, changes data",
            )
    return all(file.name in found for file in wanted.files)
