"""Streams that influxd wrote are read, and those that we write influxd accepts."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.clients.snapshotter import SnapshotterClient
from resources.protocol.tar import (
    END_MARKER,
    MemberData,
    MemberEnd,
    MemberName,
    MemberStart,
    TarWalker,
    encode_header,
    member_place,
    padding,
)
from tests.influxd import Influxd

WIRE = Path(__file__).parents[2] / "fixtures" / "wire"


def rewritten(stream: bytes, *, database: str = "", shard_id: int | None = None) -> bytes:
    """The same members under headers of ours, and perhaps another place."""
    walker = TarWalker()
    out = bytearray()
    for piece in walker.feed(memoryview(stream)):
        match piece:
            case MemberStart(member):
                place = member_place(member.name)
                if shard_id is not None:
                    # A late generation: names in a shard that exists start again from 1.
                    file = "000000090" + place.file[9:]
                    place = replace(place, database=database, shard_id=shard_id, file=file)
                out += encode_header(place.path, member.size, member.mtime_s)
            case MemberData(data):
                out += data
            case MemberEnd(member):
                out += padding(member.size)
    walker.finish()
    assert walker.end_padding == 0
    return bytes(out) + END_MARKER


@pytest.mark.parametrize(
    ("file", "places"),
    [
        ("shard-1.tar", [MemberName("telegraf", "autogen", 1, "000000001-000000001.tsm")]),
        ("shard-3.tar", [MemberName("sp äce", "dots.and-dash", 3, "000000001-000000001.tsm")]),
        ("shard-unchanged.tar", []),
    ],
)
def test_recorded_streams_are_read_and_written_again(file: str, places: list[MemberName]) -> None:
    stream = (WIRE / file).read_bytes()
    walker = TarWalker()
    list(walker.feed(memoryview(stream)))
    walker.finish()
    assert [member_place(member.name) for member in walker.members] == places
    ours = rewritten(stream)
    assert len(ours) == len(stream)
    with tarfile.open(fileobj=BytesIO(stream)) as theirs, tarfile.open(fileobj=BytesIO(ours)) as us:
        for their_member, our_member in zip(theirs, us, strict=True):
            for field in ("name", "size", "mtime", "mode", "type", "linkname"):
                assert getattr(our_member, field) == getattr(their_member, field)


@pytest.mark.wire
@pytest.mark.parametrize("database", ["tär", "t" * 120])
def test_a_server_takes_what_we_write(influxd: Influxd, database: str) -> None:
    client = SnapshotterClient(influxd.bind_addr)
    target = f"{database} 2"
    for name, value in ((database, 1), (target, 2)):
        influxd.create_database(name)
        influxd.write(name, f"cpu value={value} 160000000000000000{value}")
        influxd.flush(name)
    (source,), (place,) = (client.shard_paths(name) for name in (database, target))
    stream = bytearray()
    buffer = bytearray(65_536)
    with client.open_shard(source.shard_id) as arriving:
        while got := arriving.recv_into(buffer):
            stream += buffer[:got]
    with client.upload(place.shard_id) as upload:
        upload.sendall(rewritten(bytes(stream), database=target, shard_id=place.shard_id))
        upload.finish()
    rows = influxd.rows("SELECT value FROM cpu", db=target)
    assert [row[1] for row in rows] == [1, 2]
