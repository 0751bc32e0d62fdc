"""What is new in a shard is read twice: nothing else can tell a key whose bit flipped on the way.

A block has a checksum, and the index of a TSM file is held against its blocks in everything but
its keys: those stand there once, and a flipped bit makes another series or field of one, mostly
still in order. A second reading has it right. So each TSM file that the earlier archive does not
have, by name, size and CRC-32, is asked for again, together with what is newer; that costs as
many bytes as are new, so it is done up to a limit. A file never changes while it has its name,
whereas a server may put one in the place of several at any time. Tombstones have CRCs.

The test is tests/wire/test_flipped_keys.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resources.clients.shard_stream import ShardStream
from resources.clients.source import Source
from resources.engine.backup.change_detection import ShardState
from resources.errors import ArchiveCorrupt
from resources.protocol.tar import MemberData, MemberStart, TarWalker
from resources.repository.formats.details import FileFacts, ShardDetails
from resources.tsm.crc import crc32

SECOND_NS = 1_000_000_000
EARLIER_S = 2
"""Times in a tar are rounded to seconds, and files are sent that are newer than what is asked."""


@dataclass(frozen=True, slots=True)
class SecondRead:
    """What to ask for again."""

    files: tuple[FileFacts, ...]
    """That were read once so far."""
    since_ns: int | None
    """A time before all of them; None: everything."""
    size_bytes: int
    """Of what will be sent, at least."""


def second_read(
    files: tuple[FileFacts, ...], modified_s: Mapping[str, int], previous: ShardDetails | None
) -> SecondRead:
    """What of an archive was not read before.

    Args:
        files: the archive's.
        modified_s: of each file, by name, when the server last wrote to it.
        previous: of the shard's earlier archive, whose files were read before.
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
    source: Source,
    state: ShardState,
    node: str,
    files: tuple[FileFacts, ...],
    modified_s: Mapping[str, int],
    *,
    limit_bytes: int,
    buffer: memoryview,
) -> bool:
    """Hold what is new in a shard against a second reading; says whether all came twice.

    Args:
        limit_bytes: more is not read again.

    Raises:
        ArchiveCorrupt: the readings differ.
        WireError: the second one failed.
    """
    previous = state.previous.entry.details if state.previous is not None else None
    wanted = second_read(files, modified_s, previous)
    if not wanted.files:  # each stands in the earlier archive, the same
        return True
    if wanted.size_bytes > limit_bytes:
        return False
    if wanted.since_ns is not None and source.leftovers.expected:
        return False  # such a server cannot be asked for a part of its files
    with source.open_shard(state.place.shard_id, node=node, since_ns=wanted.since_ns) as stream:
        return compare(wanted, stream, buffer)


def compare(wanted: SecondRead, stream: ShardStream, buffer: memoryview) -> bool:
    """Read the stream to its end and hold it against what came the first time.

    Files that the server has compacted meanwhile do not come again: False.

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
                hint="the network, or a machine between, changes what it carries",
            )
    return all(file.name in found for file in wanted.files)
