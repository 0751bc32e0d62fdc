"""Which shards of a server are copied: its figures first, then a request, then its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy, SourceFacts
from resources.engine.backup.change_detection import ShardState, scan_server
from resources.engine.backup.observed import SourceState
from resources.engine.options import BackupOptions
from resources.errors import (
    BadReply,
    PeerClosedEarly,
    PeerUnreachable,
    ShardkeeperError,
    ShardLeftAlone,
)
from resources.model import ShardID
from resources.protocol.server_vars import ShardStats
from resources.repository.backup_set import Archive
from resources.repository.known_archives import KnownArchives
from resources.repository.repository import BackupRepository
from tests import builders as b
from tests.resources.engine.backup.streams import SendingSource, tar

ONE = ShardID(1)
COPIES = (ShardCopy("h:8088"),)
LATER = b.clocks(1_700_003_600)
NOTHING_NEW = tar({})
SOMETHING_NEW = tar({"000000009-000000001.tsm": b"new"})
OPTIONS = BackupOptions()


def facts(stats: ShardStats | None = None) -> SourceFacts:
    shards = {ONE: stats or b.stats()}
    return SourceFacts("1.6.7", LATER.server_ns, started_ns=7, shards=shards)


def archive(**changed: Any) -> Archive:
    made = b.details(b.file(1, 200), b.file(2, 100), stored_bytes=3, read_at_ns=1, proof=b.proof())
    return b.archive(1, replace(made, **changed))


def scanned(
    directory: Path,
    source: SendingSource,
    previous: Archive | None = None,
    now: SourceFacts | None = None,
    options: BackupOptions = OPTIONS,
) -> ShardState:
    """The state of shard 1, whose archive is there."""
    if previous is not None:
        (directory / previous.entry.file_name).write_bytes(b"abc")
    backups = None if previous is None else b.backup_set(previous)
    known = KnownArchives(BackupRepository.open(directory), backups)
    found = now or facts()
    clocks = LATER if found.clock_ns is not None else None
    state = SourceState(b.metastore(), ReplicaInventory({ONE: COPIES}), found, None, clocks)
    [one] = scan_server(cast("BackupSource", source), state, [b.place(1)], known, options)
    assert one.place == b.place(1)
    assert one.copies == COPIES
    return one


def test_a_shard_that_neither_figures_nor_files_show_as_changed_is_unchanged(
    tmp_path: Path,
) -> None:
    source = SendingSource(NOTHING_NEW, facts())
    assert scanned(tmp_path, source, archive()).reason == "unchanged"
    assert len(source.asked) == 1


@pytest.mark.parametrize(
    ("reply", "later"),
    [
        (SOMETHING_NEW, facts()),
        (NOTHING_NEW, facts(b.stats(wal_writes=4))),  # it took writes while it was asked
        (NOTHING_NEW, SourceFacts()),  # it no longer reports them
        (PeerClosedEarly("cut"), facts()),
        (ShardLeftAlone("it brings the server down"), facts()),
        (PeerUnreachable("away"), facts()),
        (b"x" * 2048, facts()),
    ],
)
def test_any_doubt_is_a_change(
    tmp_path: Path, reply: bytes | ShardkeeperError, later: SourceFacts
) -> None:
    assert scanned(tmp_path, SendingSource(reply, later), archive()).reason == "changed"


def test_what_is_decided_without_a_request_is_not_requested(tmp_path: Path) -> None:
    source = SendingSource(NOTHING_NEW, facts())
    assert scanned(tmp_path, source).reason == "new"
    assert scanned(tmp_path, source, archive(), facts(b.stats(wal_writes=4))).reason == "changed"
    assert scanned(tmp_path, source, archive(stored_bytes=4)).reason == "archive missing"
    full = replace(OPTIONS, full=True)
    assert scanned(tmp_path, source, archive(), options=full).reason == "full"
    assert source.asked == []


def test_of_a_server_without_a_clock_everything_is_copied(tmp_path: Path) -> None:
    source = SendingSource(NOTHING_NEW, facts())
    assert scanned(tmp_path, source, archive(), SourceFacts()).reason == "full"


def test_a_poll_does_not_take_a_server_that_is_away_for_a_change(tmp_path: Path) -> None:
    peek = replace(OPTIONS, peek=True)
    with pytest.raises(PeerUnreachable) as refused:
        scanned(tmp_path, SendingSource(PeerUnreachable("away")), archive(), options=peek)
    assert refused.value.__notes__ == ["while comparing shard 1"]


def test_an_answer_that_is_none_is_an_error_with_its_shard(tmp_path: Path) -> None:
    with pytest.raises(BadReply) as refused:
        scanned(tmp_path, SendingSource(BadReply("no shard")), archive())
    assert refused.value.__notes__ == ["while comparing shard 1"]


@pytest.mark.parametrize(
    ("version", "tombstones", "peek", "asked"),
    [
        ("1.8.3", 1, True, False),  # each request would leave files behind
        ("1.8.3", 1, False, True),
        ("1.8.3", 0, True, True),
        ("1.8.5", 1, True, True),
    ],
)
def test_a_poll_leaves_no_files_behind_at_a_server(
    tmp_path: Path, version: str, tombstones: int, peek: bool, asked: bool
) -> None:
    source = SendingSource(NOTHING_NEW, facts())
    source.leftovers.learn(version)
    options = replace(OPTIONS, peek=peek)
    state = scanned(tmp_path, source, archive(tombstones=tombstones), options=options)
    assert state.reason == "unchanged"
    assert bool(source.asked) == asked
    expected = {ONE} if version == "1.8.3" and tombstones else set()
    assert source.leftovers.with_deletes == expected


def test_shards_come_in_the_order_they_were_given(tmp_path: Path) -> None:
    known = KnownArchives(BackupRepository.open(tmp_path), None)
    places = [b.place(3), b.place(1), b.place(2)]
    copies = {place.shard_id: COPIES for place in places}
    state = SourceState(b.metastore(), ReplicaInventory(copies), facts(), None, LATER)
    source = cast("BackupSource", SendingSource(NOTHING_NEW))
    found = scan_server(source, state, places, known, OPTIONS)
    assert [one.place for one in found] == places
