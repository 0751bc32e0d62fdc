"""Sends and receives shards as tar streams, with the behaviour of a server.

Sending: members in the order of their names, times to the nearest second, exactly two zero
blocks at the end. Receiving is more lenient than `resources.protocol.tar`, as servers are: an
archive that is cut between two members counts as complete, and members of other shards are skipped.
Nothing is read beyond the end marker.

Source: influxdb tsdb/engine/tsm1/engine.go, Backup, Export, overlay and
readFileFromBackup; Go, archive/tar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

from msgspec import Struct

from resources.embedded.shards.shard import ShardMember, ShardUpload
from resources.errors import ArchiveCorrupt, ShardkeeperError
from resources.protocol.tar import (
    BLOCK,
    END_MARKER,
    Extension,
    decode_extension,
    decode_header,
    encode_header,
    member_place,
    padding,
)
from resources.tsm.layout import CRC
from resources.tsm.reader import TSMFile
from resources.tsm.source import FileSource, read_exactly
from resources.tsm.writer import TSMWriter

PIECE_BYTES = 256 * 1024
MAX_MEMBER_BYTES = 4 * 2**30
MAX_EXTENSION_BYTES = 64 * 1024

Receive = Callable[[int], bytes]
"""Returns at most that many bytes; none at the end."""

# --- sending ------------------------------------------------------------------------------


def backup_stream(
    members: Sequence[ShardMember], since_ns: int | None, coarse_ns: int = 1
) -> Iterator[bytes]:
    """The members that changed after `since_ns`; `coarse_ns` is the tick of their times."""
    for member in sorted(members, key=lambda member: member.name):
        if since_ns is not None and member.mtime_ns // coarse_ns * coarse_ns <= since_ns:
            continue
        yield encode_header(member.name, member.size_bytes, _nearest_s(member.mtime_ns))
        with member.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        yield padding(member.size_bytes)
    yield END_MARKER


def export_stream(
    members: Sequence[ShardMember], start_ns: int | None, end_ns: int | None
) -> Iterator[bytes]:
    """Send the whole blocks that touch the range; nothing without both bounds.

    Tombstones are sent unchanged; at a file with a tombstone the stream breaks off.

    Raises:
        ShardkeeperError: a file has a tombstone.

    Source: influxdb tsdb/engine/tsm1/engine.go, timeStampFilterTarFile. The original sends
    one block if a single bound is missing, a bug that is not modelled.
    """
    names = {member.name for member in members}
    for member in sorted(members, key=lambda member: member.name):
        if start_ns is None or end_ns is None:
            continue
        raw = member.path.read_bytes()
        if member.name.endswith(".tsm"):
            if member.name.removesuffix(".tsm") + ".tombstone" in names:
                yield encode_header(member.name, len(raw), _nearest_s(member.mtime_ns))
                raise ShardkeeperError("open: no such file")
            raw = _exported(member, start_ns, end_ns)
        if raw:
            yield encode_header(member.name, len(raw), _nearest_s(member.mtime_ns))
            yield raw + padding(len(raw))
    yield END_MARKER


def _exported(member: ShardMember, start_ns: int, end_ns: int) -> bytes:
    kept = BytesIO()
    writer = TSMWriter(kept.write)
    with member.path.open("rb") as file:
        source = FileSource(file.fileno())
        index = list(TSMFile(source).index())
        entries = [entry for key in index for entry in key.entries]
        if all(start_ns <= entry.min_time and entry.max_time <= end_ns for entry in entries):
            return member.path.read_bytes()
        for key in index:
            for entry in key.entries:
                if entry.max_time >= start_ns and entry.min_time <= end_ns:
                    block = read_exactly(source, entry.offset, entry.size)[CRC.size :]
                    writer.write_block(key.key, key.type, block, entry.min_time, entry.max_time)
    if not kept.tell():
        return b""
    writer.finish()
    return kept.getvalue()


def _nearest_s(time_ns: int) -> int:
    return (time_ns + 500_000_000) // 1_000_000_000


# --- receiving ----------------------------------------------------------------------------


class _Arriving(Struct, frozen=True):
    name: str
    size: int


def receive_shard(receive: Receive, place: tuple[str, str, int], upload: ShardUpload) -> int:
    """Read the TSM files of one shard from a tar stream; returns their number.

    Members of other shards, tombstones and indexes are skipped silently. One difference to the
    original, which compares only the start of the name: it takes a member of shard 397 for one of
    shard 39 and writes it beside that shard's directory; here it is skipped.

    Raises:
        ArchiveCorrupt: the stream is not a tar archive, or ends inside a member.
        OSError: `receive` raises it.
    """
    taken = 0
    for member in _members(receive):
        data = _data(receive, member)
        file = _file_of(member.name, place)
        if file is None:
            for _ in data:
                pass
        else:
            upload.add(file, data)
            taken += 1
        _exactly(receive, -member.size % BLOCK, "padding")
    return taken


def _file_of(name: str, place: tuple[str, str, int]) -> str | None:
    database, policy, shard_id = place
    prefix = f"{database}/{policy}/{shard_id}/"
    if not name.endswith("tsm") or not name.startswith(prefix):
        return None
    try:
        return member_place(name).file
    except ArchiveCorrupt:
        return None


def _members(receive: Receive) -> Iterator[_Arriving]:
    extension = Extension()
    while block := _block(receive):
        if not any(block):
            _block(receive)  # the second block of the end marker, or the end of the stream
            return
        header = decode_header(block)
        if header.kind in "xLg":
            if header.size > MAX_EXTENSION_BYTES:
                raise ArchiveCorrupt(f"an extended header of {header.size} bytes")
            payload = _exactly(receive, header.size + -header.size % BLOCK, "extended header")
            if header.kind != "g":
                extension = decode_extension(header.kind, payload[: header.size])
            continue
        name = header.name if extension.name is None else extension.name
        size = header.size if extension.size is None else extension.size
        extension = Extension()
        if size > MAX_MEMBER_BYTES:
            raise ArchiveCorrupt(f"a member of {size} bytes")
        yield _Arriving(name, size)


def _data(receive: Receive, member: _Arriving) -> Iterator[bytes]:
    left = member.size
    while left:
        piece = receive(min(left, PIECE_BYTES))
        if not piece:
            raise ArchiveCorrupt(f"the stream ended inside a member, {left} bytes before its end")
        left -= len(piece)
        yield piece


def _block(receive: Receive) -> bytes:
    """Read a header block; empty at the end of the stream."""
    block = receive(BLOCK)
    return block and block + _exactly(receive, BLOCK - len(block), "header")


def _exactly(receive: Receive, size: int, what: str) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = receive(size - len(got))
        if not piece:
            raise ArchiveCorrupt(f"the stream ended inside a {what}")
        got += piece
    return bytes(got)
