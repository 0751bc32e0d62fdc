"""Which bit of a shard's stream may flip unnoticed: those of keys, and of nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from resources.errors import ShardkeeperError
from resources.model import ShardID, ShardLocation
from resources.repository.archives.archive import ArchiveFacts, Inspection, scratch_in
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource, Scratch

WIRE = Path("tests/fixtures/wire")


def inspected(stream: bytes | bytearray, place: ShardLocation, scratch: Scratch) -> ArchiveFacts:
    inspection = Inspection(place, "full", scratch)
    inspection.consume(memoryview(stream))
    return inspection.finish()


def keys_in(stream: bytes) -> set[int]:
    """Where keys stand in the indexes of the stream's files."""
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        members = [member for member in archive if member.name.endswith(".tsm")]
    places: set[int] = set()
    for member in members:
        data = stream[member.offset_data : member.offset_data + member.size]
        tsm = TSMFile(BytesSource(data))
        for key in tsm.index():
            at = member.offset_data + data.index(key.key, tsm.index_start)
            places |= set(range(at, at + len(key.key)))
    return places


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("shard-1.tar", ShardLocation("telegraf", "autogen", ShardID(1))),
        ("shard-3.tar", ShardLocation("sp äce", "dots.and-dash", ShardID(3))),
    ],
)
def test_only_bits_of_keys_flip_unnoticed(name: str, place: ShardLocation, tmp_path: Path) -> None:
    """Whatever else flips is refused, or means the same: an end of a number in a tar header."""
    stream = (WIRE / name).read_bytes()
    keys, unnoticed = keys_in(stream), set[int]()
    with scratch_in(str(tmp_path)) as scratch:
        good = inspected(stream, place, scratch)
        # What follows the files is zeros throughout; so is most of a header.
        for at in range(len(stream) - 1000):
            for bit in range(8) if stream[at] else (at % 8,):
                flipped = bytearray(stream)
                flipped[at] ^= 1 << bit
                try:
                    found = inspected(flipped, place, scratch)
                except ShardkeeperError:
                    continue
                if found != good:
                    unnoticed.add(at)
    assert unnoticed
    assert unnoticed <= keys
