"""Does an archive hold everything? Figures in, answers out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.backup.completeness import (
    Sample,
    figures,
    is_sufficient,
    is_written_out,
    missing_files,
    was_written_out,
    written,
)
from resources.protocol.server_vars import CacheStats, ShardStats
from resources.repository.formats.details import FileFacts
from resources.tsm.damage import FileDamage

CACHE = CacheStats(memory_bytes=0, snapshot_bytes=0, snapshot_attempts=0, taken_bytes=500)
QUIET = ShardStats(
    num_files=2,
    disk_bytes=300,
    write_points_ok=9,
    wal_bytes=0,
    cache=CACHE,
    wal_segment_bytes=0,
    wal_writes=3,
    compactions=1,
)
FILES = (
    FileFacts("000000001-000000002.tsm", 200, 1),
    FileFacts("000000003-000000001.tsm", 100, 2),
)


def sample(started_ns: int = 7, *, memory: int = 0, snapshot: int = 0, attempts: int = 0) -> Sample:
    cache = replace(CACHE, memory_bytes=memory, snapshot_bytes=snapshot, snapshot_attempts=attempts)
    return Sample(started_ns, replace(QUIET, cache=cache))


def test_nothing_in_memory_and_no_snapshot_means_that_all_is_in_files() -> None:
    assert is_written_out(sample())
    assert was_written_out(sample(), sample(memory=5))  # what came later is for the next run


@pytest.mark.parametrize(
    "busy", [sample(memory=1), sample(memory=1, snapshot=1, attempts=1), sample(attempts=1)]
)
def test_what_is_in_memory_or_being_written_is_not_in_files(busy: Sample) -> None:
    assert not is_written_out(busy)
    assert figures(busy) is None


def test_what_the_log_took_since_the_cache_was_written_counts_as_in_memory() -> None:
    logged = Sample(7, replace(QUIET, wal_segment_bytes=12))
    assert not is_written_out(logged)
    assert is_written_out(Sample(7, replace(QUIET, wal_segment_bytes=None)))  # it has no log


def test_no_snapshot_before_and_after_a_request_means_that_all_before_is_in_files() -> None:
    assert was_written_out(sample(memory=5), sample(memory=3))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Busy all the while: the request may have listed the files without the cache.
        (sample(memory=5, snapshot=5, attempts=1), sample(memory=5, snapshot=5, attempts=1)),
        # Busy at first: that snapshot is not the one that takes what was live.
        (sample(memory=9, snapshot=5, attempts=1), sample(memory=4)),
        # Another snapshot began in between: whether it ended before the request is not known.
        (sample(memory=5), sample(memory=5, snapshot=5, attempts=1)),
        # Another process: its counters began anew.
        (sample(memory=5), sample(8, memory=3)),
    ],
)
def test_anything_else_proves_nothing(before: Sample, after: Sample) -> None:
    assert not was_written_out(before, after)


def test_a_node_that_reports_nothing_of_caches_leaves_it_open() -> None:
    silent = Sample(7, replace(QUIET, cache=None))
    assert not is_sufficient(silent.stats)
    assert not is_written_out(silent)
    assert not was_written_out(silent, sample())
    assert not was_written_out(sample(memory=1), silent)
    assert figures(silent) is None


def test_figures_of_a_hostile_server_are_not_noted() -> None:
    assert figures(sample()) is not None
    assert figures(Sample(7, replace(QUIET, disk_bytes=-1))) is None


def test_an_archive_with_all_files_misses_nothing() -> None:
    assert not missing_files(FILES, sample(), sample())


def test_an_archive_without_files_is_empty_for_a_shard_without_files_only() -> None:
    assert "empty" in missing_files((), sample(memory=1), sample(memory=1))
    none = Sample(7, replace(QUIET, num_files=0, disk_bytes=0))
    assert not missing_files((), sample(), none)
    assert not missing_files((), none, none)


@pytest.mark.parametrize("files", [FILES[:1], (FILES[0], replace(FILES[1], size_bytes=99))])
def test_a_shard_at_rest_has_as_many_files_and_bytes_as_its_archive(
    files: tuple[FileFacts, ...],
) -> None:
    assert missing_files(files, sample(), sample())
    assert not missing_files(files, sample(), sample(memory=1))  # it moves


def test_a_damaged_file_may_be_shorter_than_its_server_believes() -> None:
    cut = replace(FILES[1], size_bytes=99, damage=FileDamage(1, 0, ()))
    assert not missing_files((FILES[0], cut), sample(), sample())
    assert missing_files((cut,), sample(), sample())  # a file is missing
    longer = replace(cut, size_bytes=FILES[1].size_bytes + 1)
    assert missing_files((FILES[0], longer), sample(), sample())


def test_tombstones_may_be_counted_or_not() -> None:
    files = (*FILES, FileFacts("000000001-000000002.tombstone", 40, 3))
    for size in (300, 340):
        events = Sample(7, replace(QUIET, disk_bytes=size))
        assert not missing_files(files, events, events)
    events = Sample(7, replace(QUIET, disk_bytes=341))
    assert missing_files(files, events, events)


def logged(n_bytes: int) -> Sample:
    return Sample(7, replace(QUIET, wal_segment_bytes=n_bytes))


def test_a_log_that_says_what_it_read_at_its_start_is_at_rest_once_it_says_so_twice() -> None:
    """An influxd of 1.6 goes on telling the segment's size until the next write."""
    assert figures(logged(42)) is not None
    first = written(sample(memory=1), logged(42))
    assert first is not None
    assert not first.at_rest
    again = written(logged(42), logged(42))
    assert again is not None
    assert again.at_rest
    moved = written(logged(42), logged(43))
    assert moved is not None
    assert not moved.at_rest


def test_what_proves_nothing_is_not_written() -> None:
    assert written(sample(memory=5), sample(memory=5, snapshot=5, attempts=1)) is None
    quiet = written(sample(memory=5, snapshot=5, attempts=1), sample())
    assert quiet is not None
    assert quiet.at_rest
