"""The holder of a lock, read from a file that may come from anywhere."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resources.repository.storage.lock_record import (
    DEFAULT_LEASE_S,
    MAX_RECORD_BYTES,
    LockRecord,
    ProcessIdentity,
    clock_ms,
)

AT = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)
MINE = ProcessIdentity.mine()
RECORD = LockRecord(
    host="h", machine=MINE.machine, pid=MINE.pid, process_started=MINE.started, user="u",
    command="backup", started_at=AT, expires_at=AT + timedelta(minutes=2), token="t" * 32,
    backup="20261122T095100Z", lease_ms=60_000, renewed_ms=clock_ms(),
)  # fmt: skip


def document(**changed: Any) -> bytes:
    return json.dumps({**json.loads(RECORD.encode()), **changed}).encode()


def without(*keys: str) -> bytes:
    kept = {k: v for k, v in json.loads(RECORD.encode()).items() if k not in keys}
    return json.dumps(kept).encode()


def test_a_record_comes_back_as_it_was_written() -> None:
    assert LockRecord.decode(RECORD.encode()) == RECORD


def test_a_record_of_an_older_version_has_a_lease_of_its_own() -> None:
    old = LockRecord.decode(without("lease_ms", "renewed_ms"))
    assert (old.lease_s, old.renewed_ms) == (DEFAULT_LEASE_S, 0)
    assert RECORD.lease_s == 60.0


def test_times_of_another_zone_are_the_same_moment() -> None:
    east = LockRecord.decode(document(started_at="2026-11-22T10:51:00+01:00"))
    assert east.started_at == AT
    assert east.started_at.tzinfo is UTC


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        without("token"),
        without("pid"),
        document(more=1),
        document(pid=-1),
        document(pid=2**31),
        document(pid="7"),
        document(pid=True),
        document(pid=1.0),
        document(process_started=2**63),
        document(lease_ms=2**40),
        document(host=7),
        document(host=None),
        document(host="x" * 1001),
        document(user="a\nb"),
        document(command="\x1b[2J"),
        document(started_at="yesterday"),
        document(started_at="2026-11-22T09:51:00"),
        document(expires_at="0001-01-01T00:00:00+23:59"),
        document(expires_at=5),
        b'{"pid": 1, "pid": 1}',
        b" " * (MAX_RECORD_BYTES + 1),
    ],
)
def test_a_record_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        LockRecord.decode(raw)


KEYS = st.sampled_from(list(json.loads(RECORD.encode())))
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)


@settings(max_examples=30)
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_hostile_values_give_a_record_or_a_refusal(changed: dict[str, Any]) -> None:
    try:
        found = LockRecord.decode(document(**changed))
    except ValueError:
        return
    assert str(found).isprintable()
    assert found.lease_s > 0


def test_a_process_is_known_by_its_start_as_well_as_by_its_number() -> None:
    assert not MINE.is_dead()
    assert replace(MINE, started=MINE.started + 1).is_dead()


def test_of_another_machine_nothing_is_known() -> None:
    elsewhere = replace(MINE, machine="another boot", started=MINE.started + 1)
    assert not elsewhere.is_dead()
    assert not replace(elsewhere, machine="").is_dead()
    assert not replace(RECORD, machine="another boot", renewed_ms=1).is_abandoned()


def test_a_lock_is_abandoned_if_its_process_is_dead_or_was_not_renewed_for_a_lease() -> None:
    fresh = replace(RECORD, renewed_ms=clock_ms())
    assert not fresh.is_abandoned()
    assert replace(fresh, process_started=MINE.started + 1).is_abandoned()
    late = clock_ms() - RECORD.lease_ms
    assert replace(RECORD, renewed_ms=late - 1000).is_abandoned()
    assert not replace(RECORD, renewed_ms=late + 30_000).is_abandoned()
    assert not replace(RECORD, renewed_ms=0).is_abandoned()  # an older version did not say


@pytest.mark.parametrize(
    ("left_s", "renewed"), [(-1, False), (0, True), (60, True), (61, False), (3600, False)]
)
def test_a_clock_that_is_more_than_a_lease_ahead_says_nothing(left_s: int, renewed: bool) -> None:
    now = RECORD.expires_at - timedelta(seconds=left_s)
    assert RECORD.seems_renewed(now) is renewed


def test_a_holder_is_described_in_one_line() -> None:
    text = str(RECORD)
    assert f"u@h (pid {os.getpid()}: backup) since 2026-11-22 09:51:00 UTC" in text
    assert text.endswith("making backup 20261122T095100Z")
    assert "making" not in str(replace(RECORD, backup=""))
