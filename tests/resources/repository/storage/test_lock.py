"""Of two runs that want one directory, one waits; a dead run's lock falls, a slow one's too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resources.errors import ExitCode, RepositoryLocked
from resources.repository.storage.lock import StoreLock, give_up_ended, utc_now
from resources.repository.storage.lock_record import (
    DEFAULT_LEASE_S,
    LOCK_NAME,
    LockRecord,
    ProcessIdentity,
)
from resources.repository.storage.store import DirectoryStore, Sink

BACKUP = "20261122T095100Z"
NOW = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)
HOLD = """
import sys
from resources.errors import RepositoryLocked
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import DirectoryStore, Sink
store = DirectoryStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    lock = StoreLock.acquire(store, command="test", lease_s=float(sys.argv[2]))
except RepositoryLocked as error:
    print("locked:", error, flush=True)
    sys.exit(error.exit_code)
lock.note_backup("20261122T095100Z")
print("held", flush=True)
sys.stdin.readline()
print("mine" if lock.still_mine() else "lost", flush=True)
lock.release()
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


class Other:
    """Another process that takes the lock when told to."""

    def __init__(self, directory: Path, lease_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(directory), str(lease_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "ready"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def take(self) -> None:
        self.go()
        assert self.hear() == "held"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def other(directory: Path, lease_s: float = 120) -> Generator[Other]:
    started = Other(directory, lease_s)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def record_in(directory: Path) -> LockRecord:
    return LockRecord.decode((directory / LOCK_NAME).read_bytes())


def plant(directory: Path, record: LockRecord) -> None:
    (directory / LOCK_NAME).write_bytes(record.encode())


def foreign(expires_at: datetime, lease_ms: int = 300) -> LockRecord:
    """Of a machine whose clocks we cannot read, and whose processes we do not see."""
    return LockRecord(
        host="elsewhere",
        machine="another boot pid:[1]",
        pid=os.getpid(),
        process_started=1,
        user="alice",
        command="influxd-ctl backup",
        started_at=NOW - timedelta(hours=1),
        expires_at=expires_at,
        token="f" * 32,
        backup=BACKUP,
        lease_ms=lease_ms,
        renewed_ms=1,
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_the_lock_is_a_record_while_it_is_held(store: DirectoryStore, tmp_path: Path) -> None:
    with StoreLock.acquire(store, command="influxd-ctl backup\n", clock=lambda: NOW) as lock:
        assert lock.stale is None
        assert lock.still_mine()
        lock.note_backup(BACKUP)
        record = record_in(tmp_path)
        assert record == lock.record
        assert record.backup == BACKUP
        assert record.expires_at == NOW + timedelta(seconds=120)
        assert record.pid == os.getpid()
        assert record.command == "'influxd-ctl backup\\n'"
    assert list(tmp_path.iterdir()) == []
    assert not lock.still_mine()
    lock.release()


@pytest.mark.fault(38)
def test_a_second_run_is_reported_who_since_when_and_what(store: DirectoryStore) -> None:
    with StoreLock.acquire(store, command="influxd-ctl backup", backup=BACKUP) as lock:
        with pytest.raises(RepositoryLocked) as caught:
            StoreLock.acquire(store, command="shardkeeper prune")
        assert lock.still_mine()
    message = caught.value.what
    assert f"@{lock.record.host} (pid {os.getpid()}: influxd-ctl backup) since " in message
    assert message.endswith(f" UTC, making backup {BACKUP}")
    assert "wait for that run" in caught.value.hint
    assert caught.value.exit_code == ExitCode.LOCKED
    StoreLock.acquire(store, command="now it is free").release()


def test_waiting_ends_when_the_lock_is_released(store: DirectoryStore) -> None:
    first = StoreLock.acquire(store, command="first")
    timer = threading.Timer(0.1, first.release)
    timer.start()
    with StoreLock.acquire(store, command="second", wait_s=20) as second:
        assert second.stale is None
    timer.join()


@pytest.mark.fault(38)
def test_of_processes_that_compete_exactly_one_wins(tmp_path: Path) -> None:
    with other(tmp_path) as one, other(tmp_path) as two, other(tmp_path) as three:
        rivals = (one, two, three)
        for rival in rivals:
            rival.go()
        heard = sorted(rival.hear().partition(":")[0] for rival in rivals)
    assert heard == ["held", "locked", "locked"]


def test_of_those_who_meet_a_dead_lock_exactly_one_takes_it_over(
    store: DirectoryStore, tmp_path: Path
) -> None:
    for _ in range(20):
        plant(tmp_path, foreign(NOW - timedelta(days=1), lease_ms=10))
        start = threading.Barrier(4)
        locks: list[StoreLock] = []

        def race(start: threading.Barrier, locks: list[StoreLock]) -> None:
            start.wait()
            try:
                locks.append(StoreLock.acquire(store, command="race"))
            except RepositoryLocked:
                return

        threads = [threading.Thread(target=race, args=(start, locks)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(locks) == 1
        assert locks[0].still_mine()
        locks[0].release()


@pytest.mark.fault(26)
def test_a_killed_run_loses_its_lock_at_once(store: DirectoryStore, tmp_path: Path) -> None:
    with other(tmp_path) as killed:
        killed.take()
        with pytest.raises(RepositoryLocked):
            StoreLock.acquire(store, command="test")
        killed.kill()
        with StoreLock.acquire(store, command="test") as lock:
            assert lock.stale is not None
            assert lock.stale.pid == killed.process.pid
            assert lock.stale.backup == BACKUP
            # Nothing is swept yet: if we die now, the next one has to know as well.
            assert record_in(tmp_path).backup == BACKUP


def test_a_zombie_holds_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    with other(tmp_path) as killed:
        killed.take()
        os.kill(killed.process.pid, signal.SIGKILL)  # and its parent does not wait for it
        until(lambda: ProcessIdentity.is_dead(record_in(tmp_path).process))
        StoreLock.acquire(store, command="test").release()


@pytest.mark.fault(40)
def test_a_pid_that_is_in_use_again_holds_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    with StoreLock.acquire(store, command="test") as lock:
        mine = lock.record
    plant(tmp_path, replace(mine, process_started=mine.process_started + 1))
    with StoreLock.acquire(store, command="test") as lock:
        assert lock.stale is not None


@pytest.mark.fault(40)
def test_a_pid_of_another_machine_says_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    held = foreign(utc_now() + timedelta(seconds=60), lease_ms=120_000)
    plant(tmp_path, replace(held, pid=2**31 - 1))
    with pytest.raises(RepositoryLocked, match="alice@elsewhere"):
        StoreLock.acquire(store, command="test")


def test_records_of_older_versions_are_read(store: DirectoryStore, tmp_path: Path) -> None:
    older = json.loads(foreign(NOW).encode())
    for key in ("lease_ms", "renewed_ms"):
        del older[key]
    (tmp_path / LOCK_NAME).write_text(json.dumps(older))
    record = record_in(tmp_path)
    assert record.lease_s == DEFAULT_LEASE_S
    assert not record.is_abandoned()


@pytest.mark.fault(37)
def test_a_frozen_holder_that_lost_its_lease_notices(store: DirectoryStore, tmp_path: Path) -> None:
    with other(tmp_path, lease_s=0.5) as frozen:
        frozen.take()
        os.kill(frozen.process.pid, signal.SIGSTOP)
        with StoreLock.acquire(store, command="awake", wait_s=20) as lock:
            assert lock.stale is not None
            os.kill(frozen.process.pid, signal.SIGCONT)
            frozen.go()
            assert frozen.hear() == "lost"
            frozen.process.wait()
            assert lock.still_mine()  # its release left our record alone
            assert record_in(tmp_path) == lock.record


def test_a_holder_that_works_longer_than_its_lease_keeps_the_lock(
    store: DirectoryStore, tmp_path: Path
) -> None:
    with other(tmp_path, lease_s=0.6) as busy:
        busy.take()
        first = record_in(tmp_path).expires_at
        until(lambda: record_in(tmp_path).expires_at > first + timedelta(seconds=1))
        with pytest.raises(RepositoryLocked):
            StoreLock.acquire(store, command="test")
        busy.go()
        assert busy.hear() == "mine"
        busy.process.wait()
        assert store.names() == {}


def test_a_lock_is_taken_although_its_draft_was_swept_meanwhile(tmp_path: Path) -> None:
    class Swept(DirectoryStore):
        times = 0

        @contextmanager
        def create(self, name: str) -> Generator[Sink]:
            with super().create(name) as sink:
                yield sink
                self.times += 1
                if self.times == 1:
                    for draft in tmp_path.glob(".*.pending"):
                        draft.unlink()

    store = Swept(tmp_path)
    with StoreLock.acquire(store, command="test"):
        assert store.times == 2
        assert LOCK_NAME in store.names()


def test_a_lock_deleted_by_hand_is_lost(store: DirectoryStore) -> None:
    with StoreLock.acquire(store, command="test") as lock:
        store.delete(LOCK_NAME)
        with pytest.raises(RepositoryLocked, match="lost the repository's lock"):
            lock.check_still_mine()
        with pytest.raises(RepositoryLocked):
            lock.note_backup(BACKUP)
        assert store.names() == {}


def test_a_renewal_that_failed_halfway_is_still_ours(store: DirectoryStore, tmp_path: Path) -> None:
    with StoreLock.acquire(store, command="test") as lock:
        plant(tmp_path, replace(lock.record, expires_at=NOW))
        assert lock.still_mine()
    assert store.names() == {}


VALID = json.loads(foreign(NOW).encode())


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b"null",
        b"[" * 10_000,
        b"x" * 100_000,
        json.dumps({**VALID, "more": 1}).encode(),
        json.dumps({**VALID, "pid": -1}).encode(),
        json.dumps({**VALID, "pid": 2**31}).encode(),
        json.dumps({**VALID, "pid": True}).encode(),
        json.dumps({**VALID, "pid": "1"}).encode(),
        json.dumps({**VALID, "user": "a\x1b[31m"}).encode(),
        json.dumps({**VALID, "user": "a" * 1001}).encode(),
        json.dumps({**VALID, "user": None}).encode(),
        json.dumps({**VALID, "expires_at": "soon"}).encode(),
        json.dumps({**VALID, "expires_at": "2026-11-22T09:51:00"}).encode(),
        json.dumps({**VALID, "expires_at": "0001-01-01T00:00:00+23:59"}).encode(),
    ],
)
def test_a_lock_that_cannot_be_read_is_respected(
    store: DirectoryStore, tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / LOCK_NAME).write_bytes(raw)
    with pytest.raises(RepositoryLocked, match="cannot be read") as caught:
        StoreLock.acquire(store, command="test")
    assert f"delete {LOCK_NAME}" in caught.value.hint
    assert (tmp_path / LOCK_NAME).read_bytes() == raw


@given(
    st.builds(
        LockRecord,
        pid=st.integers(0, 2**31 - 1),
        process_started=st.integers(0, 2**63 - 1),
        lease_ms=st.integers(0, 2**40 - 1),
        renewed_ms=st.integers(0, 2**60 - 1),
        started_at=st.datetimes(timezones=st.just(UTC)),
        expires_at=st.datetimes(timezones=st.just(UTC)),
        **{
            key: st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=40)
            for key in ("host", "machine", "user", "command", "token", "backup")
        },
    )
)
def test_records_survive_writing(record: LockRecord) -> None:
    assert LockRecord.decode(record.encode()) == record


def test_the_lock_of_a_run_in_steps_that_has_ended_is_taken_over_at_once(
    store: DirectoryStore,
) -> None:
    for name in (LOCK_NAME, ".shardkeeper.other.lock"):
        lock = StoreLock.acquire(store, command="run 1", name=name)
        lock.hand_over(600.0)
    joined = StoreLock.join(store, lock.key, 600.0, name=name, command="run 2")
    assert joined.record.command == "run 2"
    joined.leave()
    give_up_ended(store, lambda _: False)
    with pytest.raises(RepositoryLocked, match="run 1"):
        StoreLock.acquire(store, command="next")
    give_up_ended(store, lambda command: command == "run 1")
    with StoreLock.acquire(store, command="next") as taken:
        assert taken.stale is not None
        assert taken.stale.command == "run 1"
        give_up_ended(store, lambda _: True)  # it has a process, which tells more
        taken.check_still_mine()
    with StoreLock.acquire(store, command="next", name=name) as taken:
        assert taken.stale is not None
        assert taken.stale.command == "run 2"


def test_the_end_of_a_block_leaves_a_lock_that_was_handed_over(store: DirectoryStore) -> None:
    with StoreLock.acquire(store, command="plan") as lock:
        key = lock.hand_over(600.0, "run 3")
    assert store.has(LOCK_NAME)
    with StoreLock.join(store, key, 600.0) as joined:
        assert joined.record.command == "run 3"
    assert store.has(LOCK_NAME)
    joined.goes_on = False
    with joined:
        pass
    assert not store.has(LOCK_NAME)
