"""Archives: what is stored was checked to the last block, and what is damaged is not stored."""

from __future__ import annotations

import gc
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.errors import ArchiveCorrupt, RepositoryError, ShardkeeperError, TSMError, UnsafeName
from resources.model import ShardID, ShardLocation
from resources.protocol.tar import END_MARKER, encode_header, padding
from resources.repository.archives.archive import (
    ArchiveFacts,
    ArchiveWriter,
    Inspection,
    StoredArchive,
    inspect_archive,
)
from resources.repository.formats.details import Checked
from resources.repository.storage.store import DirectoryStore
from resources.tsm.source import IN_MEMORY_BYTES, Scratch

FIXTURES = Path(__file__).parents[3] / "fixtures" / "tsm"
PLACE = ShardLocation("d", "r", ShardID(7))
SMALL = (FIXTURES / "small.tsm").read_bytes()
DELETED = (FIXTURES / "deleted.tsm").read_bytes()
TOMBSTONE = (FIXTURES / "deleted.tombstone").read_bytes()
MTIME_S = 1_600_000_000


def tar(*files: tuple[str, bytes], place: str = "d/r/7", end: bytes = END_MARKER) -> bytes:
    parts: list[bytes] = []
    for name, data in files:
        parts += [encode_header(f"{place}/{name}", len(data), MTIME_S), data, padding(len(data))]
    return b"".join(parts) + end


GOOD = tar(
    ("000000001-000000001.tsm", SMALL),
    ("000000002-000000001.tombstone", TOMBSTONE),
    ("000000002-000000001.tsm", DELETED),
)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    space = Scratch(str(tmp_path))
    yield space
    space.close()


def inspect(
    raw: bytes, scratch: Scratch, step: int = 1000, checked: Checked = "full"
) -> ArchiveFacts:
    inspection = Inspection(PLACE, checked, scratch)
    for at in range(0, len(raw), step):
        inspection.consume(memoryview(raw)[at : at + step])
    return inspection.finish()


def store(raw: bytes, directory: Path, scratch: Scratch) -> StoredArchive:
    with DirectoryStore(directory).create("T.s7.tar.gz") as sink:
        writer = ArchiveWriter(
            sink,
            inner_name="T.s7.tar",
            place=PLACE,
            level="default",
            checked="full",
            scratch=scratch,
        )
        for at in range(0, len(raw), 777):
            writer.feed(memoryview(raw)[at : at + 777])
        return writer.finish()


@pytest.mark.parametrize("step", [1, 511, 512, 513, 100_000])
def test_the_facts_are_the_same_however_the_stream_arrives(scratch: Scratch, step: int) -> None:
    facts = inspect(GOOD, scratch, step)
    assert facts.size_bytes == len(GOOD)
    assert [file.name for file in facts.files] == [
        "000000001-000000001.tsm",
        "000000002-000000001.tombstone",
        "000000002-000000001.tsm",
    ]
    assert [file.crc32 for file in facts.files] == [
        zlib.crc32(SMALL),
        zlib.crc32(TOMBSTONE),
        zlib.crc32(DELETED),
    ]
    assert facts.files[0].points == 16
    assert facts.min_time_ns == 1_600_000_000_000_000_000
    assert facts.tombstones > 0
    assert facts.series is None  # two TSM files may repeat each other's series


def test_one_file_reports_its_series(scratch: Scratch) -> None:
    facts = inspect(tar(("000000001-000000001.tsm", SMALL)), scratch)
    assert (facts.series, facts.points) == (3, 16)


def test_an_empty_shard_is_an_archive_of_nothing(scratch: Scratch) -> None:
    facts = inspect(END_MARKER, scratch)
    assert (facts.size_bytes, facts.files, facts.points, facts.series) == (1024, (), 0, 0)


def test_equal_content_has_an_equal_digest_whatever_the_times_and_names_of_the_shard(
    scratch: Scratch,
) -> None:
    files = [("000000001-000000001.tsm", SMALL), ("000000002-000000001.tsm", DELETED)]
    here = inspect(tar(*files), scratch)
    inspection = Inspection(None, "structure", scratch)
    inspection.consume(memoryview(tar(*reversed(files), place="x/y/9")))
    assert inspection.finish().content == here.content
    assert inspection.place == ShardLocation("x", "y", ShardID(9))
    assert inspect(tar(files[0]), scratch).content != here.content


def test_what_is_stored_is_gzip_of_what_came_and_its_digest_is_of_the_file(
    tmp_path: Path, scratch: Scratch
) -> None:
    stored = store(GOOD, tmp_path, scratch)
    raw = (tmp_path / "T.s7.tar.gz").read_bytes()
    assert gzip.decompress(raw) == GOOD
    assert stored.stored_bytes == len(raw)
    assert stored.sha256 == hashlib.sha256(raw).hexdigest()
    with DirectoryStore(tmp_path).open("T.s7.tar.gz") as source:
        again = inspect_archive(
            source, max_bytes=len(GOOD), place=PLACE, checked="full", scratch=scratch
        )
    assert again == stored


@pytest.mark.fault(1, 3)
@pytest.mark.parametrize("cut", range(0, len(GOOD), 97))
def test_a_stream_cut_anywhere_is_refused_and_nothing_is_stored(
    tmp_path: Path, scratch: Scratch, cut: int
) -> None:
    with pytest.raises(ArchiveCorrupt):
        store(GOOD[:cut], tmp_path, scratch)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(2)
def test_a_stream_cut_between_two_members_is_refused(scratch: Scratch) -> None:
    """Both tarfile and influxd take this for a complete archive."""
    with pytest.raises(ArchiveCorrupt, match="end marker"):
        inspect(tar(("000000001-000000001.tsm", SMALL), end=b""), scratch)


@pytest.mark.parametrize("bit", range(0, len(SMALL) * 8, 61))
def test_a_flipped_bit_in_a_tsm_file_changes_the_facts_or_is_refused(
    scratch: Scratch, bit: int
) -> None:
    flipped = bytearray(SMALL)
    flipped[bit // 8] ^= 1 << bit % 8
    good = inspect(tar(("000000001-000000001.tsm", SMALL)), scratch)
    refusal = ""
    found = None
    try:
        found = inspect(tar(("000000001-000000001.tsm", bytes(flipped))), scratch)
    except TSMError as error:
        refusal = str(error)
    if found is None:
        assert "000000001-000000001.tsm" in refusal
    else:
        assert found.content != good.content


def test_a_broken_block_passes_the_structure_check_only(scratch: Scratch) -> None:
    flipped = bytearray(SMALL)
    flipped[40] ^= 1
    damaged = tar(("000000001-000000001.tsm", bytes(flipped)))
    assert inspect(damaged, scratch, checked="structure").points is None
    with pytest.raises(TSMError, match=r"000000001-000000001\.tsm"):
        inspect(damaged, scratch)


@pytest.mark.fault(66, 86)
@pytest.mark.parametrize(
    "raw",
    [
        tar(("000000001-000000001.tsm", SMALL), place="d/r/70"),
        tar(("000000001-000000001.tsm", SMALL), place="d/x/7"),
        tar(("000000001-000000001.tsm", SMALL), place="../r/7"),
        tar(("../000000001-000000001.tsm", SMALL)),
        tar(("fields.idx", b"")),
    ],
    ids=["another shard", "another policy", "traversal", "deeper", "no file of a shard"],
)
def test_members_of_another_place_are_refused(scratch: Scratch, raw: bytes) -> None:
    with pytest.raises(UnsafeName):
        inspect(raw, scratch)


@pytest.mark.fault(5)
def test_two_archives_glued_together_are_refused(scratch: Scratch) -> None:
    with pytest.raises(ArchiveCorrupt):
        inspect(GOOD + GOOD, scratch)


def test_a_large_file_is_checked_in_a_temporary_file_that_nobody_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.tsm.source.IN_MEMORY_BYTES", 100)
    monkeypatch.delenv("TMPDIR", raising=False)
    space = Scratch(str(tmp_path))
    facts = inspect(GOOD, space)
    assert facts.files[0].points == 16
    assert not list(tmp_path.iterdir())
    space.close()
    assert IN_MEMORY_BYTES > 100


@pytest.mark.fault(46)
@pytest.mark.parametrize("bit", range(0, 3000, 41))
def test_a_flipped_bit_in_a_stored_archive_is_found(
    tmp_path: Path, scratch: Scratch, bit: int
) -> None:
    stored = store(GOOD, tmp_path, scratch)
    path = tmp_path / "T.s7.tar.gz"
    raw = bytearray(path.read_bytes())
    raw[bit % (len(raw) * 8) // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    with DirectoryStore(tmp_path).open(path.name) as source:
        try:
            found = inspect_archive(
                source, max_bytes=len(GOOD), place=PLACE, checked="full", scratch=scratch
            )
        except (RepositoryError, TSMError):
            return
    assert found.sha256 != stored.sha256


@pytest.mark.fault(90, 91)
def test_more_than_the_manifest_says_is_refused_while_reading(
    tmp_path: Path, scratch: Scratch
) -> None:
    store(GOOD, tmp_path, scratch)
    with (
        DirectoryStore(tmp_path).open("T.s7.tar.gz") as source,
        pytest.raises(ShardkeeperError),
    ):
        inspect_archive(
            source, max_bytes=len(GOOD) - 512, place=PLACE, checked="full", scratch=scratch
        )


def test_an_archive_that_was_stored_or_read_is_forgotten_at_once(
    scratch: Scratch, tmp_path: Path
) -> None:
    store(GOOD, tmp_path, scratch)  # what is imported and remembered once
    (tmp_path / "T.s7.tar.gz").unlink()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        store(GOOD, tmp_path, scratch)
        with DirectoryStore(tmp_path).open("T.s7.tar.gz") as source:
            inspect_archive(
                source, max_bytes=len(GOOD), place=PLACE, checked="full", scratch=scratch
            )
        gc.collect()
        # Threads that earlier tests left may leave something in these moments, too.
        held = [type(each) for each in gc.garbage if holds_data(each)]
        assert not held
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def holds_data(left: object) -> bool:
    """Whether an object that only the collector freed is, or knows, a buffer of an archive's."""
    if isinstance(left, memoryview | bytearray):
        return True
    return type(left).__module__.startswith("resources.repository")
