"""TSMFile on files of a real server, and on files that contradict themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.errors import (
    BadMagic,
    BlockChecksumMismatch,
    BlockUndecodable,
    IndexOutOfOrder,
    StoreFailed,
    TSMError,
)
from resources.tsm.layout import BlockType, split_key
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource, FileSource
from tests.resources.tsm.points import Name, Points, everything, far_apart, plain, small, stored
from tests.resources.tsm.writing import T0, block, even_times, raw_integers, raw_times, tsm_file

EVEN = block(1, even_times(T0, 10, 3), raw_integers([1, 2, 3]))


def opened(data: bytes) -> TSMFile:
    return TSMFile(BytesSource(data))


@pytest.mark.parametrize("points", [small, everything, far_apart])
def test_every_point_that_was_written_is_read(points: Callable[[], dict[Name, Points]]) -> None:
    tsm = opened(stored(f"{points.__name__}.tsm"))
    expected = {name.key: list(values) for name, values in points().items()}
    assert list(tsm.keys()) == sorted(expected)
    for key, values in expected.items():
        assert plain(*tsm.read(key)) == values, key


def test_a_series_of_2500_points_has_three_blocks() -> None:
    tsm = opened(stored("everything.tsm"))
    entries = tsm.entries(b"even#!~#float")
    assert len(entries) == 3
    assert [entry.min_time - T0 for entry in entries] == [0, 10**13, 2 * 10**13]
    assert tsm.entries(b"even") == tsm.entries(b"zzz") == ()
    with pytest.raises(KeyError):
        tsm.read(b"even#!~#nothing")


def test_signs_of_zero_survive() -> None:
    _, values = opened(stored("everything.tsm")).read(b"floats,kind=extreme#!~#v")
    assert str(values[0]) == "0.0"
    assert str(values[1]) == "-0.0"


def test_a_file_may_be_part_of_a_file(tmp_path: Path) -> None:
    data = stored("small.tsm")
    path = tmp_path / "member"
    path.write_bytes(b"before" + data + b"behind")
    with path.open("rb") as file:
        tsm = TSMFile(FileSource(file.fileno(), start=6, size=len(data)))
        assert plain(*tsm.read(b"m,k=z#!~#f")) == [(T0, 1.0)]
        with pytest.raises(BadMagic):
            TSMFile(FileSource(file.fileno()))


def test_a_file_that_became_shorter_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "shrinking.tsm"
    path.write_bytes(stored("small.tsm"))
    with path.open("rb") as file:
        source = FileSource(file.fileno())
        tsm = TSMFile(source)
        os.truncate(path, 300)
        with pytest.raises(TSMError, match="the file ends at offset 300"):
            list(tsm.keys())


def test_a_source_that_cannot_be_read_is_the_stores_failure() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(StoreFailed, match="at offset 0 failed"):
            FileSource(reader, size=10).pread(0, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_the_first_separator_ends_the_series() -> None:
    assert split_key(b"m,k=v#!~#a#!~#b") == (b"m,k=v", b"a#!~#b")
    with pytest.raises(TSMError):
        split_key(b"m,k=v")


def test_all_entries_of_a_key_are_read_even_when_they_pass_the_window() -> None:
    blocks = [
        (T0 + i, T0 + i, block(1, raw_times([T0 + i]), raw_integers([i]))) for i in range(20_000)
    ]
    tsm = opened(tsm_file({b"m#!~#v": blocks, b"n#!~#v": [(T0, T0 + 20, EVEN)]}))
    times, values = tsm.read(b"m#!~#v")
    assert times.tolist() == [T0 + i for i in range(20_000)]
    assert list(values) == list(range(20_000))
    assert list(tsm.keys()) == [b"m#!~#v", b"n#!~#v"]
    assert [key.type for key in tsm.index()] == [BlockType.INTEGER] * 2


def test_a_block_that_is_not_what_the_index_says_is_refused() -> None:
    key = b"m#!~#v"
    with pytest.raises(BlockUndecodable, match=r"block of 'm#!~#v' at offset 5: times"):
        opened(tsm_file({key: [(T0, T0 + 21, EVEN)]})).read(key)
    data = bytearray(tsm_file({key: [(T0, T0 + 20, EVEN)]}))
    data[data.index(key) + len(key)] = 0
    with pytest.raises(BlockUndecodable, match="type INTEGER, in the index FLOAT"):
        opened(bytes(data)).read(key)
    data[20] ^= 1
    with pytest.raises(BlockChecksumMismatch, match="at offset 5"):
        opened(bytes(data)).read(key)


def test_entries_out_of_order_are_refused() -> None:
    later = block(1, even_times(T0 + 100, 10, 3), raw_integers([1, 2, 3]))
    data = tsm_file({b"m#!~#v": [(T0 + 100, T0 + 120, later), (T0, T0 + 20, EVEN)]})
    with pytest.raises(IndexOutOfOrder, match="times of its blocks"):
        list(opened(data).index())
