"""One merge at a time per repository; backups are not affected.

A merge that hung past its lease, after another run took its place, drops no database and removes
no journal; it may copy some points a second time. A merge starts without the lock only where
nothing can be written: a process that hangs while it replaces the lock's record holds the lock.

Held by tests/faults/test_stood_still.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from resources.engine.events import Emit, Warned
from resources.engine.lock_events import emit_waiting
from resources.errors import RepositoryLocked, StoreFailed
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import StoreLock

LOCK = ".shardkeeper.merge.lock"


@contextmanager
def alone(repository: BackupRepository, emit: Emit) -> Generator[Callable[[], None]]:
    """Hold the lock of merges for the block.

    Yields a check to call right before a step that only one merge may do. The check raises
    `LockLost` if another run has taken this one's place, and `RecordHeld` if one may be about to.

    Raises:
        RepositoryLocked: another merge is running, or hangs while it takes the lock.
    """
    try:
        lock = StoreLock.acquire(
            repository.store, command="merge", name=LOCK, on_wait=emit_waiting(emit)
        )
    except RepositoryLocked:
        raise
    except StoreFailed as error:
        emit(Warned(f"{error.what}; nothing keeps a second merge from starting"))
        yield lambda: None
        return

    def check() -> None:
        try:
            if not lock.still_mine():
                raise lock.lost("the points that it copied stay, and another merge does the rest")
        except RepositoryLocked:
            raise
        except StoreFailed:
            return  # a directory that fails now keeps others out as well

    with lock:
        yield check
