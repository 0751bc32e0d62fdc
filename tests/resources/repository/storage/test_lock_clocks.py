"""Whether a lock is stale is decided without comparing the clocks of two machines."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.errors import RepositoryLocked
from resources.repository.storage.lock import StoreLock, utc_now
from resources.repository.storage.lock_record import LockRecord
from resources.repository.storage.store import DirectoryStore
from tests.resources.repository.storage.test_lock import NOW, foreign, plant, record_in


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


AWAY = [timedelta(seconds=61), timedelta(days=365), timedelta(days=-365)]


@pytest.mark.fault(36, 40)
@pytest.mark.parametrize("ago", AWAY, ids=str)
def test_a_lease_from_elsewhere_has_ended_when_it_was_observed_for_its_whole_length(
    store: DirectoryStore, tmp_path: Path, ago: timedelta
) -> None:
    """Whatever the two clocks say, also if one of them is set meanwhile."""
    held, events = foreign(NOW - ago), list[LockRecord]()
    plant(tmp_path, held)
    steps = iter(range(1000))
    began = time.monotonic()
    with StoreLock.acquire(
        store,
        command="test",
        clock=lambda: NOW + next(steps) * timedelta(days=100) if ago.days >= 0 else NOW,
        on_wait=events.append,
    ) as lock:
        assert lock.stale == held
    assert time.monotonic() - began > held.lease_s
    assert events == [held]


@pytest.mark.fault(36)
@pytest.mark.parametrize("ago", AWAY, ids=str)
def test_a_lease_that_is_renewed_is_respected_whatever_its_clock_says(
    store: DirectoryStore, tmp_path: Path, ago: timedelta
) -> None:
    plant(tmp_path, foreign(NOW - ago, lease_ms=20_000))
    renewed = foreign(NOW - ago + timedelta(seconds=1), lease_ms=20_000)
    with pytest.raises(RepositoryLocked, match="alice@elsewhere"):
        StoreLock.acquire(
            store,
            command="test",
            clock=lambda: NOW,
            on_wait=lambda _: plant(tmp_path, renewed),  # its holder wakes up
        )
    assert record_in(tmp_path) == renewed


@pytest.mark.fault(36, 40)
def test_a_lease_that_seems_fresh_is_not_observed(store: DirectoryStore, tmp_path: Path) -> None:
    plant(tmp_path, foreign(NOW + timedelta(seconds=60), lease_ms=120_000))
    began = time.monotonic()
    with pytest.raises(RepositoryLocked, match="alice@elsewhere"):
        StoreLock.acquire(store, command="test", clock=lambda: NOW)
    assert time.monotonic() - began < 20


@pytest.mark.fault(36)
def test_who_waits_for_it_anyway_watches_it(store: DirectoryStore, tmp_path: Path) -> None:
    """A holder that died while its clock was ahead by less than a lease."""
    plant(tmp_path, foreign(utc_now() + timedelta(seconds=60), lease_ms=300))
    with StoreLock.acquire(store, command="test", wait_s=60) as lock:
        assert lock.stale is not None


@pytest.mark.fault(36)
def test_a_observer_that_slept_has_seen_nothing_meanwhile(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that slept with both of them on it must not take one for dead."""
    plant(tmp_path, foreign(NOW - timedelta(days=1), lease_ms=20_000))
    now_s, scans = 0.0, 0

    def awake_s() -> float:
        nonlocal now_s, scans
        now_s, scans = now_s + 3600.0, scans + 1
        if scans == 8:
            plant(tmp_path, foreign(NOW, lease_ms=20_000))
        return now_s

    monkeypatch.setattr("resources.repository.storage.lock.awake_s", awake_s)
    with pytest.raises(RepositoryLocked):
        StoreLock.acquire(store, command="test", clock=lambda: NOW)


@pytest.mark.fault(36, 37)
def test_a_run_of_this_machine_that_stands_still_loses_it_by_the_clock_of_its_boot(
    store: DirectoryStore, tmp_path: Path
) -> None:
    with StoreLock.acquire(store, command="test") as lock:
        mine = lock.record
    late = replace(mine, pid=os.getppid(), process_started=_started(os.getppid()))
    late = replace(late, renewed_ms=mine.renewed_ms - 1_000, lease_ms=999)
    for expires_at in (NOW, utc_now() + timedelta(seconds=1), utc_now() + timedelta(days=365)):
        plant(tmp_path, replace(late, expires_at=expires_at))
        with StoreLock.acquire(store, command="test") as lock:
            assert lock.stale is not None
    fresh = utc_now() + timedelta(seconds=60)
    plant(tmp_path, replace(late, lease_ms=900_000, expires_at=fresh))
    with pytest.raises(RepositoryLocked):
        StoreLock.acquire(store, command="test")


def _started(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])
