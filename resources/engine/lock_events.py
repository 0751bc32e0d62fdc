"""Events about a repository's lock: its holder while a run waits, and what earlier runs left."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resources.engine.events import Emit, Warned
from resources.repository.storage.lock_record import LockRecord


def emit_waiting(emit: Emit) -> Callable[[LockRecord], None]:
    """A callback for waiting on a lock whose holder may be dead, which can take two minutes."""

    def reported(record: LockRecord) -> None:
        emit(
            Warned(
                f"the lock is held by {record}; it cannot be seen from here whether that run is "
                f"dead, so this run waits for {record.lease_s:.0f} s at most, and takes the lock "
                "over if it is not renewed meanwhile"
            )
        )

    return reported


def emit_left(left: Iterable[str], emit: Emit) -> None:
    """Warn of files that earlier runs left and this run could not remove."""
    for text in left:
        emit(Warned(f"{text}; the next run tries again"))
