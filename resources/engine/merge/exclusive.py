"""One merge at a time out of one directory; backups go on.

A merge that stood still past its lease drops nothing, and forgets no journal, once another has
taken its place. What it copies may be copied twice. Only where nothing can be written does a merge
begin without the lock: a process that stands still amid replacing the lock's record holds it.

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

    Gives what to call right before something that no two may do: it raises `LockLost` once another
    run has taken the place of this one, and `RecordHeld` while one may be about to.

    Raises:
        RepositoryLocked: another merge is at work, or stands still amid taking the lock.
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
                raise lock.lost("what it copied stays, and another merge goes on with the rest")
        except RepositoryLocked:
            raise
        except StoreFailed:
            return  # a directory that fails now keeps others out as well

    with lock:
        yield check
