"""Has a shard changed? Figures, clocks and lists in, a state out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.backup.change_detection import ShardReport, compare_with_archive, weigh
from resources.engine.backup.completeness import Sample, figures
from resources.model import ShardGroupID, ShardGroupInfo, ShardID, ShardInfo, ShardPlace
from resources.protocol.server_vars import CacheStats, ShardStats
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FileFacts
from resources.repository.formats.proof import Clocks, Proof
from tests.resources.repository.manifests import OURS

S = 10**9
CACHE = CacheStats(0, 0, 0, 500)
STATS = ShardStats(2, 300, 9, 0, "d", "r", CACHE, 0, 3, 1)
NOW = Sample(7, STATS)
THEN = Clocks(1_700_000_000 * S, 1_700_000_000 * S, 100 * S, "boot")
LATER = Clocks(1_700_003_600 * S, 1_700_003_600 * S, 3700 * S, "boot")
SHARD = ShardInfo(ShardID(1), ())
PLACE = ShardPlace("d", "r", ShardGroupInfo(ShardGroupID(1), 0, 9, None, None, (SHARD,)), SHARD)


def archive(*sizes: int, proven: Sample | None = NOW) -> Archive:
    entry = OURS.files[0]
    details = entry.details
    assert details is not None
    files = tuple(FileFacts(f"00000000{i}-000000001.tsm", size, i) for i, size in enumerate(sizes))
    known = figures(proven) if proven else None
    proof = Proof(THEN, known) if known else None
    return Archive(replace(entry, details=replace(details, files=files, proof=proof)), "m")


def checked(
    previous: Archive | None, sample: Sample | None = NOW, clocks: Clocks | None = LATER
) -> tuple[str, str]:
    state = compare_with_archive(
        PLACE, previous, (), full=False, archive_there=True, report=ShardReport(sample, clocks)
    )
    return (state.reason, state.news) if state else ("", "")


def with_cache(**figures: int) -> Sample:
    return replace(NOW, stats=replace(STATS, cache=replace(CACHE, **figures)))


def with_stats(**figures: int) -> Sample:
    return replace(NOW, stats=replace(STATS, **figures))


def test_a_shard_whose_figures_stand_still_is_asked_for_newer_files() -> None:
    assert checked(archive(200, 100)) == ("", "")
    assert weigh(PLACE, archive(200, 100), (), "", NOW).reason == "unchanged"


def test_a_newer_file_is_a_change() -> None:
    state = weigh(PLACE, archive(200, 100), (), "some file", NOW)
    assert (state.reason, state.news) == ("changed", "some file")


MOVED = [
    with_cache(memory_bytes=1),
    with_cache(snapshot_bytes=1),
    with_cache(snapshot_attempts=1),
    with_cache(taken_bytes=501),
    with_stats(num_files=3),
    with_stats(disk_bytes=299),
    with_stats(wal_segment_bytes=1),
    with_stats(wal_writes=4),
    with_stats(compactions=2),
    replace(NOW, started_ns=8),
    None,
]


@pytest.mark.parametrize("sample", MOVED)
def test_any_figure_that_moved_is_a_change_before_and_after_the_list(sample: Sample | None) -> None:
    reason, news = checked(archive(200, 100), sample)
    assert reason == "changed"
    assert news
    assert weigh(PLACE, archive(200, 100), (), "", sample).reason == "changed"


def test_equal_looks_give_equal_news() -> None:
    assert checked(archive(200, 100), MOVED[0]) == checked(archive(200, 100), MOVED[0])
    assert len({checked(archive(200, 100), sample)[1] for sample in MOVED}) == len(MOVED)


@pytest.mark.parametrize("sizes", [(300,), (200, 99), (200, 100, 1)])
def test_figures_that_are_not_those_of_the_archive_are_a_change(sizes: tuple[int, ...]) -> None:
    assert checked(archive(*sizes))[0] == "changed"


@pytest.mark.parametrize("step", [-365 * 86_400 * S, -3600 * S, -10 * S, 3600 * S])
def test_a_clock_that_was_set_is_a_doubt(step: int) -> None:
    assert checked(archive(200, 100), clocks=replace(LATER, server_ns=LATER.server_ns + step)) == (
        "changed",
        "clock-was-set",
    )


def test_an_archive_of_which_nothing_was_proven_is_a_doubt() -> None:
    assert checked(archive(200, 100, proven=None))[0] == "changed"


def test_a_later_proof_counts_for_an_archive() -> None:
    restarted = replace(NOW, started_ns=8)
    known = figures(restarted)
    assert known is not None
    again = replace(archive(200, 100), proven_again=Proof(THEN, known))
    assert checked(again, restarted) == ("", "")
    assert checked(again, NOW)[0] == "changed"


def test_without_archive_or_clock_nothing_is_asked() -> None:
    assert checked(None) == ("new", "")
    assert checked(archive(200, 100), clocks=None) == ("no evidence", "")
