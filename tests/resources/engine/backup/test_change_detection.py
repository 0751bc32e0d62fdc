"""Has a shard changed? Figures, clocks and lists in, a state out."""

from __future__ import annotations

import zlib
from typing import Any, cast

import pytest
from msgspec.structs import replace

from resources.clients.source import BackupSource
from resources.engine.backup.change_detection import (
    Reason,
    ShardReport,
    ShardState,
    compare_with_archive,
    probe,
    source_version,
    weigh,
)
from resources.engine.backup.clocks import since_ns
from resources.engine.backup.completeness import Sample, figures
from resources.errors import ArchiveCorrupt
from resources.model import Metastore, ShardID, UserInfo
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FileFacts
from resources.repository.formats.proof import Clocks
from tests import builders as b
from tests.resources.engine.backup.streams import SendingSource, tar

S = 10**9
NOW = Sample(7, b.stats())
THEN, LATER = b.clocks(), b.clocks(1_700_003_600)
PLACE = b.place()
COPIES = (b.copy(), b.copy("data-5:8088"))


def archive(*sizes: int, proven: Sample | None = NOW, **changed: Any) -> Archive:
    files = tuple(b.file(i, size) for i, size in enumerate(sizes))
    known = figures(proven) if proven else None
    proof = b.proof(known, THEN) if known else None
    return b.archive(1, b.details(*files, **{"read_at_ns": 1, "proof": proof, **changed}))


def compared(
    previous: Archive | None,
    sample: Sample | None = NOW,
    clocks: Clocks | None = LATER,
    *,
    full: bool = False,
    archive_there: bool = True,
) -> ShardState | None:
    return compare_with_archive(
        PLACE,
        previous,
        COPIES,
        full=full,
        archive_there=archive_there,
        report=ShardReport(sample, clocks),
    )


def checked(
    previous: Archive | None, sample: Sample | None = NOW, clocks: Clocks | None = LATER
) -> tuple[str, str]:
    state = compared(previous, sample, clocks)
    return (state.reason, state.news) if state else ("", "")


def with_cache(**changed: int) -> Sample:
    return replace(NOW, stats=b.stats(cache=b.cache(**changed)))


def with_stats(**changed: int) -> Sample:
    return replace(NOW, stats=b.stats(**changed))


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


def test_equal_polls_give_equal_news() -> None:
    assert checked(archive(200, 100), MOVED[0]) == checked(archive(200, 100), MOVED[0])
    assert len({checked(archive(200, 100), sample)[1] for sample in MOVED}) == len(MOVED)


@pytest.mark.parametrize(
    ("sample", "what"),
    [
        (None, "no-figures"),
        (with_cache(memory_bytes=1), "in-memory-"),
        (with_stats(wal_writes=4), "figures-"),
        (replace(NOW, started_ns=8), "restarted-"),
    ],
)
def test_news_name_what_moved(sample: Sample | None, what: str) -> None:
    assert checked(archive(200, 100), sample)[1].startswith(what)


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
    reason, news = checked(archive(200, 100, proven=None))
    assert (reason, news[:9]) == ("changed", "unproven-")


def test_a_later_proof_counts_for_an_archive() -> None:
    restarted = replace(NOW, started_ns=8)
    known = figures(restarted)
    assert known is not None
    again = replace(archive(200, 100), proven_again=b.proof(known, THEN))
    assert checked(again, restarted) == ("", "")
    assert checked(again, NOW)[0] == "changed"


# What needs no figures is decided first, in this order.
WITHOUT_FIGURES = [
    (compared(None, full=True, archive_there=False), "new"),
    (compared(archive(200, 100), full=True, archive_there=False), "full"),
    (compared(archive(200, 100), archive_there=False), "archive missing"),
    (compared(b.archive()), "no evidence"),  # made by the original tool
    (compared(archive(200, 100, read_at_ns=None)), "no evidence"),
    (compared(archive(200, 100), clocks=None), "no evidence"),
]


@pytest.mark.parametrize(("state", "reason"), WITHOUT_FIGURES)
def test_a_shard_without_what_would_prove_it_unchanged_is_copied(
    state: ShardState | None, reason: str
) -> None:
    assert state is not None
    assert (state.reason, state.news, state.copies, state.stale) == (reason, "", COPIES, True)
    assert state.trouble == state.gaps == ""


@pytest.mark.parametrize(
    ("reason", "news", "version"),
    [
        ("unchanged", "", "b" * 32),
        ("full", "", "b" * 32),  # nothing is known of changes since
        ("full", "x", f"{'b' * 32}+x"),
        ("changed", "x", f"{'b' * 32}+x"),
        ("archive missing", "", f"{'b' * 32}+archive-missing"),
    ],
)
def test_a_version_names_the_content_of_the_archive_and_the_changes_since(
    reason: Reason, news: str, version: str
) -> None:
    state = ShardState(PLACE, reason, archive(200, 100), news)
    assert state.version == version
    assert state.stale == (reason != "unchanged")


def test_a_shard_without_an_archive_has_a_version_too() -> None:
    assert ShardState(PLACE, "new").version == "none+new"
    assert ShardState(PLACE, "changed", b.archive(), "x").version == "none+x"


# --- the version of a server --------------------------------------------------------------------

STATE = b.metastore(b.database("db", b.policy("autogen", b.group(1, 1, 2))))
SHARDS = {ShardID(1): "one", ShardID(2): "two"}


@pytest.mark.parametrize(
    "same",
    [
        replace(STATE, term=9, index=99, max_shard_id=100),
        b.metastore(b.database("db", b.policy("autogen", b.group(4, 1), b.group(5, 2, 3)))),
    ],
)
def test_what_a_server_changes_by_itself_is_no_new_version(same: Metastore) -> None:
    assert source_version(same, SHARDS) == source_version(STATE, SHARDS)
    assert source_version(STATE, {**SHARDS, ShardID(8): "of no database"}) == source_version(
        STATE, SHARDS
    )
    assert source_version(STATE, dict(reversed(SHARDS.items()))) == source_version(STATE, SHARDS)


def test_every_other_change_is_a_new_version_of_a_server() -> None:
    policy = b.policy("autogen", b.group(1, 1, 2))
    queries = b.database("db", policy, queries=["q"])
    states = [
        STATE,
        replace(STATE, cluster_id=6),
        replace(STATE, users=(UserInfo("a", "hash", True, ()),)),
        b.metastore(b.database("other", policy)),
        b.metastore(b.database("db", replace(policy, duration_ns=5))),
        b.metastore(queries),
    ]
    versions = [source_version(state, SHARDS) for state in states]
    versions += [source_version(STATE, {**SHARDS, ShardID(2): "2"}), source_version(STATE, {})]
    assert len(set(versions)) == len(versions)
    assert {len(version) for version in versions} == {32}


# --- the request for newer files ----------------------------------------------------------------

FIRST, SECOND = b"first" * 200, b"second" * 100
ONE, TWO = "000000001-000000001.tsm", "000000002-000000001.tsm"
HELD = (
    FileFacts(ONE, len(FIRST), zlib.crc32(FIRST)),
    FileFacts(TWO, len(SECOND), zlib.crc32(SECOND)),
)
PROVEN = b.archive(1, b.details(*HELD, proof=b.proof()))


def probed(reply: bytes) -> str:
    source = SendingSource(reply)
    news = probe(cast("BackupSource", source), COPIES[0], PLACE, PROVEN, LATER)
    assert source.asked == [(1, COPIES[0].node, since_ns(THEN, LATER))]
    return news


@pytest.mark.parametrize("sent", [{}, {ONE: FIRST}, {ONE: FIRST, TWO: SECOND}])
def test_files_that_the_archive_has_are_no_news(sent: dict[str, bytes]) -> None:
    assert probed(tar(sent)) == ""


OTHERS = [
    {"000000003-000000001.tsm": FIRST},
    {ONE: FIRST[:-1]},
    {ONE: FIRST[::-1]},
    {ONE: FIRST, TWO: SECOND[::-1]},
    {"000000001-000000001.tombstone": b"deleted"},
]


def test_a_file_with_another_name_size_or_content_is_news_each_its_own() -> None:
    news = [probed(tar(sent)) for sent in OTHERS]
    assert all(len(one) == 16 for one in news)
    assert len(set(news)) == len(news)


def test_a_list_that_ends_early_or_is_none_proves_nothing() -> None:
    with pytest.raises(ArchiveCorrupt):
        probed(tar({ONE: FIRST})[:1024])
    with pytest.raises(ArchiveCorrupt):
        probed(b"x" * 2048)


def test_a_large_file_that_comes_in_pieces_is_known() -> None:
    large = bytes(range(256)) * 600
    held = FileFacts(ONE, len(large), zlib.crc32(large))
    known = b.archive(1, b.details(held, proof=b.proof()))
    source = cast("BackupSource", SendingSource(tar({ONE: large})))
    assert probe(source, COPIES[0], PLACE, known, LATER) == ""
