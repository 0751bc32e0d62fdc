"""Bytes at an offset, from memory, from a file or from a part of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.errors import StoreFailed, TSMError
from resources.tsm.source import BytesSource, FileSource, read_exactly

DATA = bytes(range(100))


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def test_memory_and_file_give_the_same_bytes(fd: int) -> None:
    for source in (BytesSource(DATA), FileSource(fd)):
        assert source.size == 100
        assert bytes(source.pread(90, 20)) == DATA[90:]
        assert bytes(source.pread(100, 5)) == b""
        assert bytes(source.pread(3, 4)) == DATA[3:7]


def test_a_part_of_a_file_ends_where_it_ends(fd: int) -> None:
    part = FileSource(fd, start=10, size=20)
    assert part.size == 20
    assert part.pread(0, 99) == DATA[10:30]
    assert part.pread(19, 5) == DATA[29:30]
    assert part.pread(25, 5) == b""
    assert FileSource(fd, start=90).size == 10
    assert FileSource(fd, start=200).size == 0


def test_a_reader_leaves_the_position_of_the_file_alone(fd: int) -> None:
    os.lseek(fd, 7, os.SEEK_SET)
    FileSource(fd).pread(50, 5)
    assert os.lseek(fd, 0, os.SEEK_CUR) == 7


class OneByOne(BytesSource):
    """A source that gives one byte at a time."""

    def pread(self, offset: int, n: int) -> memoryview:
        return super().pread(offset, min(n, 1))


def test_short_reads_are_continued_and_an_early_end_is_refused_with_its_place() -> None:
    assert read_exactly(OneByOne(DATA), 3, 40) == DATA[3:43]
    with pytest.raises(TSMError, match="the file ends at offset 100"):
        read_exactly(OneByOne(DATA), 90, 11)


def test_a_disk_that_fails_is_named_as_such(fd: int) -> None:
    broken = FileSource(fd)
    reader, writer = os.pipe()
    os.dup2(reader, fd)  # no pread on a pipe
    os.close(reader)
    os.close(writer)
    with pytest.raises(StoreFailed, match="reading 5 bytes at offset 3 failed") as refused:
        broken.pread(3, 5)
    assert "the disk" in refused.value.hint
