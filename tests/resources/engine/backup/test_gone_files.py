"""Files of the last archive that are gone: which of them did the server lose?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.embedded.data.tar_exchange import backup_stream
from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.store import ShardStore
from resources.engine.backup.gone_files import not_compacted
from resources.engine.backup.gone_points import lost_files
from resources.model import ShardID
from resources.repository.archives.unpacked import UnpackedShard
from resources.repository.formats.details import FileFacts

SHARD = ShardID(7)
Written = Callable[[tuple[str, ...]], UnpackedShard]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A shard of files, one for each text of lines."""
    count = 0

    def write(flushes: tuple[str, ...]) -> UnpackedShard:
        nonlocal count
        count += 1
        store = ShardStore(tmp_path / f"shard{count}", clock=time.time_ns)
        store.create("db", "rp", SHARD)
        for lines in flushes:
            store.write(SHARD, parse_lines(lines.encode(), now_ns=0).points)
            store.flush(SHARD)
        unpacked = UnpackedShard(None)
        with store.snapshot(SHARD) as members:
            for piece in backup_stream(members, None):
                unpacked.feed(memoryview(piece))
        unpacked.finish()
        store.close()
        return unpacked

    return write


A, B, C = "a v=1 1\nb v=1 1", "a v=2 2\nb v=2 2", "a v=3 3\nb v=3 3"
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], set[int]]] = {
    "nothing beside it": ((A,), (), {0}),
    "the others are as they were": ((A, B, C), (A, C), {1}),
    "the others were compacted, and more was written": ((A, B, C), (f"{A}\n{C}\na v=9 9",), {1}),
    "two at once": ((A, B, C), (A,), {1, 2}),
    "all were compacted": ((A, B, C), (f"{A}\n{B}\n{C}",), set()),
    "all have a part deleted": ((A, B), ("a v=1 1\na v=2 2",), set()),
    "a series that it had alone was dropped beside it": ((A, B, "x v=1 1"), (A, B), {2}),
    "a series that all had was dropped": (("a v=1 1", B, "a v=3 3"), ("b v=2 2",), set()),
    "one is lost, and a series of the others dropped": (
        (A, "z v=2 2", C),
        ("b v=1 1\nb v=3 3",),
        {1},
    ),
    "what it had stands in a later file too": ((A, "a v=5 1", B), ("a v=5 1\nb v=1 1", B), set()),
    "nothing but what another file repeats": (("a v=1 1", "a v=2 1"), ("a v=2 1",), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_lost_if_its_points_are_and_no_delete_explains_it(
    case: str, written: Written
) -> None:
    before, now, lost = CASES[case]
    with written(before) as old, written(now) as new:
        names = old.tsm_names
        assert len(names) == len(before)
        assert lost_files(old, new, names) == {names[i] for i in lost}


def file(generation: int, sequence: int) -> FileFacts:
    return FileFacts(f"{generation:09}-{sequence:09}.tsm", 10, generation)


def test_without_points_names_tell_what_no_compaction_can_have_taken_over() -> None:
    before = [file(1, 4), file(2, 1), file(3, 1)]
    lost = file(2, 1).name
    assert not_compacted([lost], [file(1, 4), file(3, 1)], before) == {lost}
    assert not_compacted([lost], [file(1, 4)], before) == {lost}
    assert not_compacted([lost], [file(1, 4), file(9, 1)], before) == {lost}
    assert not_compacted([lost], [file(1, 4), file(3, 2)], before) == set()
