"""Shards whose reading brings servers down are left alone for longer each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.engine.backup.crash_record import HOUR_NS, LONGEST_NS, Crash, CrashRecord
from resources.model import ShardID
from resources.repository.storage.store import DirectoryStore

AT = 1_795_341_060 * 10**9
SEVEN = ShardID(7)


def record(directory: Path, cluster_id: int = 5) -> CrashRecord:
    return CrashRecord(DirectoryStore(directory), cluster_id)


@pytest.mark.parametrize(
    ("crashes", "hours"), [(2, 1), (3, 4), (4, 16), (5, 64), (6, 168), (7, 168), (10**9, 168)]
)
def test_the_time_grows_fourfold_up_to_a_week(crashes: int, hours: int) -> None:
    assert Crash(crashes, AT).until_ns == AT + hours * HOUR_NS
    assert LONGEST_NS == 168 * HOUR_NS


def test_once_is_no_reason_to_leave_a_shard_alone() -> None:
    assert Crash(1, AT).until_ns == 0


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    known = {SEVEN: Crash(2, AT), ShardID(8): Crash(1, AT + 5)}
    record(tmp_path).write(known)
    assert record(tmp_path).read() == known
    record(tmp_path).write({SEVEN: Crash(3, AT)})
    assert record(tmp_path).read() == {SEVEN: Crash(3, AT)}


def test_servers_have_records_of_their_own(tmp_path: Path) -> None:
    record(tmp_path, 5).write({SEVEN: Crash(2, AT)})
    assert record(tmp_path, 6).read() == {}


def test_nothing_to_remember_leaves_no_file(tmp_path: Path) -> None:
    record(tmp_path).write({})
    assert list(tmp_path.iterdir()) == []
    record(tmp_path).write({SEVEN: Crash(2, AT)})
    record(tmp_path).write({})
    assert record(tmp_path).read() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"version": 2, "shards": {"7": {"crashes": 2, "last": "2026-11-22T09:51:00Z"}}}',
        b'{"version": 1}',
        b'{"version": 1, "shards": []}',
        b'{"version": 1, "shards": {"7": 3}}',
        b'{"version": 1, "shards": {"7": {"crashes": 2, "last": 5}}}',
        b'{"version": 1, "shards": {"7": {"crashes": 2, "last": "yesterday"}}}',
        b'{"version": 1, "shards": {"7": {"crashes": null, "last": "2026-11-22T09:51:00Z"}}}',
        b'{"version": 1, "shards": {"7": {"crashes": 1e999, "last": "2026-11-22T09:51:00Z"}}}',
        b'{"version": 1, "shards": {"7": {"crashes": NaN, "last": "2026-11-22T09:51:00Z"}}}',
        b'{"version": 1, "shards": ' + b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_record_is_no_record(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / record(tmp_path).name).write_bytes(raw)
    assert record(tmp_path).read() == {}


def test_a_shard_without_a_number_or_a_time_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / record(tmp_path).name).write_bytes(
        b'{"version": 1, "shards": {"07": {"crashes": 2, "last": "2026-11-22T09:51:00Z"},'
        b' "8": {"crashes": 2, "last": "0001-01-01T00:00:00Z"},'
        b' "7": {"crashes": 2, "last": "2026-11-22T09:51:00Z"}}}'
    )
    assert record(tmp_path).read() == {SEVEN: Crash(2, AT)}
