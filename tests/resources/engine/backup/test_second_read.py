"""What of a shard is asked for a second time, and what the second reading proves."""

from __future__ import annotations

import zlib
from typing import cast

import pytest
from msgspec.structs import replace

from resources.clients.snapshotter import ShardStream
from resources.clients.source import BackupSource
from resources.engine.backup.second_read import (
    EARLIER_S,
    SecondRead,
    compare,
    read_again,
    second_read,
)
from resources.errors import ArchiveCorrupt
from resources.model import ShardID
from resources.repository.formats.details import FileFacts
from tests import builders as b
from tests.resources.engine.backup.streams import SendingSource, Sent, tar

S = 10**9
OLD, NEW = b.file(1, 100), b.file(2, 30)
TOMBSTONE = FileFacts("000000001-000000001.tombstone", 5, 9)
WRITTEN = {OLD.name: 1000, NEW.name: 2000, TOMBSTONE.name: 3000}


def test_of_a_shard_without_an_archive_everything_is_read_again() -> None:
    assert second_read((OLD, NEW), WRITTEN, None) == SecondRead((OLD, NEW), None, 130)


def test_only_new_tsm_files_and_what_is_newer_are_asked_for() -> None:
    found = second_read((OLD, NEW, TOMBSTONE), WRITTEN, b.details(OLD))
    assert found == SecondRead((NEW,), (2000 - EARLIER_S) * S, 35)


def test_files_of_the_same_seconds_are_sent_as_well_and_counted() -> None:
    close = {**WRITTEN, OLD.name: 2000 - EARLIER_S}
    assert second_read((OLD, NEW), close, b.details(OLD)).size_bytes == 130
    older = {**WRITTEN, OLD.name: 2000 - EARLIER_S - 1}
    assert second_read((OLD, NEW), older, b.details(OLD)).size_bytes == 30


def test_a_file_that_the_archive_has_with_another_crc_is_new() -> None:
    found = second_read((b.file(1, 100, crc32=77), NEW), WRITTEN, b.details(OLD, NEW))
    assert [file.crc32 for file in found.files] == [77]


def test_without_new_tsm_files_nothing_is_read_again() -> None:
    assert second_read((OLD, TOMBSTONE), WRITTEN, b.details(OLD)).files == ()


@pytest.mark.parametrize("modified_s", [0, EARLIER_S])
def test_a_time_that_is_none_asks_for_everything(modified_s: int) -> None:
    times = {**WRITTEN, NEW.name: modified_s}
    assert second_read((OLD, NEW), times, b.details(OLD)).since_ns is None


FIRST, SECOND = b"first" * 200, b"second" * 100
WANTED = SecondRead(
    (
        FileFacts("000000001-000000001.tsm", len(FIRST), zlib.crc32(FIRST)),
        FileFacts("000000002-000000001.tsm", len(SECOND), zlib.crc32(SECOND)),
    ),
    None,
    0,
)


def came(*files: bytes, at_once: int = 700) -> bool:
    named = {f"{i:09}-000000001.tsm": data for i, data in enumerate(files, 1)}
    stream = cast("ShardStream", Sent(tar(named)))
    return compare(WANTED, stream, memoryview(bytearray(at_once)))


@pytest.mark.parametrize("at_once", [1, 511, 513, 1 << 16])
def test_files_that_come_the_same_are_proven_however_the_stream_arrives(at_once: int) -> None:
    assert came(FIRST, SECOND, b"and a newer one", at_once=at_once)


def test_a_flipped_bit_is_an_error_whichever_reading_has_it() -> None:
    flipped = bytes([SECOND[0] ^ 1]) + SECOND[1:]
    with pytest.raises(ArchiveCorrupt, match=r"000000002-000000001\.tsm came differently"):
        came(FIRST, flipped)
    with pytest.raises(ArchiveCorrupt, match="came differently"):
        came(FIRST, SECOND[:-1])


def test_a_file_that_was_compacted_meanwhile_proves_nothing_and_is_no_error() -> None:
    assert not came(FIRST)


def test_a_stream_that_ends_early_is_an_error() -> None:
    stream = cast("ShardStream", Sent(tar({"000000001-000000001.tsm": FIRST})[:600]))
    with pytest.raises(ArchiveCorrupt):
        compare(WANTED, stream, memoryview(bytearray(100)))


def again(wanted: SecondRead, source: SendingSource, limit_bytes: int = 2000) -> bool:
    buffer = memoryview(bytearray(100))
    return read_again(
        cast("BackupSource", source),
        ShardID(7),
        "h:8088",
        wanted,
        limit_bytes=limit_bytes,
        buffer=buffer,
    )


def test_the_new_files_are_requested_from_the_node_that_sent_them() -> None:
    named = {f"{i:09}-000000001.tsm": data for i, data in enumerate((FIRST, SECOND), 1)}
    source = SendingSource(tar(named))
    assert again(replace(WANTED, since_ns=4 * S, size_bytes=2000), source)
    assert source.asked == [(7, "h:8088", 4 * S)]


@pytest.mark.parametrize(
    ("wanted", "version", "proven"),
    [
        (SecondRead((), None, 0), "1.6.7", True),
        (replace(WANTED, size_bytes=2001), "1.6.7", False),  # more than may be read twice
        (replace(WANTED, since_ns=4 * S), "1.8.3", False),  # it cannot send a part of its files
    ],
)
def test_what_cannot_be_or_need_not_be_read_twice_is_not_requested(
    wanted: SecondRead, version: str, proven: bool
) -> None:
    source = SendingSource(b"")
    source.leftovers.learn(version)
    assert again(wanted, source) == proven
    assert source.asked == []
