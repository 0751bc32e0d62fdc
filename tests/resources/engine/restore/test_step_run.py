"""What is on record of a restore that is left to steps, and who may join it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.step_run import (
    RestoreInSteps,
    StepsRecord,
    close_records,
    joining,
    leave_batches,
    proofs_left,
)
from resources.engine.workers.steps import StepSettings
from resources.errors import LockLost, ManifestUnreadable
from resources.repository.formats.manifest import Limits
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import DirectoryStore

LOCK = ".shardkeeper.some.lock"
SETTINGS = StepSettings(1, 600.0, "the next step")
RECORD = StepsRecord(
    LOCK, "20261122T095100Z", RestoreOptions(Limits("db"), "copy"), ("b0n0",), 7, 9
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with closing(DirectoryStore.make(tmp_path / "r")) as made:
        yield made


def left(store: DirectoryStore) -> tuple[StoreLock, RestoreInSteps]:
    lock = StoreLock.acquire(store, command="a restore", name=LOCK)
    made = leave_batches(store, {}, lock, SETTINGS, RECORD)
    assert made is not None
    return lock, made


def test_the_record_says_what_was_planned() -> None:
    assert StepsRecord.decode(RECORD.encode()) == RECORD
    for raw in (b"", b"[]", RECORD.encode()[:-1], RECORD.encode().replace(b"batches", b"BATCHES")):
        with pytest.raises(ManifestUnreadable):
            StepsRecord.decode(raw)


def test_a_step_joins_by_the_key_and_renews_the_lock_in_its_name(store: DirectoryStore) -> None:
    lock, run = left(store)
    with lock:
        pass  # the end of the block leaves it to the steps
    assert store.has(LOCK)
    with joining(store, run.key, SETTINGS) as joined:
        assert joined.record == RECORD
        assert joined.lock.record.command == "the next step"
        assert joined.lock.record.lease_s == 600.0
    assert store.has(LOCK)
    with pytest.raises(ZeroDivisionError), joining(store, run.key, SETTINGS):
        raise ZeroDivisionError
    with joining(store, run.key, SETTINGS) as joined:
        joined.end()
    assert not store.has(LOCK)
    with pytest.raises(LockLost, match="is over"), joining(store, run.key, SETTINGS):
        pass


@pytest.mark.parametrize("key", ["0" * 16, "../../etc", ""])
def test_no_other_key_joins(store: DirectoryStore, key: str) -> None:
    left(store)
    with pytest.raises(LockLost), joining(store, key, SETTINGS):
        pass


def test_who_takes_the_place_of_a_dead_run_closes_its_records(store: DirectoryStore) -> None:
    lock, run = left(store)
    assert proofs_left(store, lock.record) == {}
    close_records(store, lock.record)
    assert proofs_left(store, lock.record) == {}
    with pytest.raises(LockLost), joining(store, run.key, SETTINGS):
        pass
