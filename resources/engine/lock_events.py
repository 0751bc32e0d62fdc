"""What a run says of a repository's lock: whose it is while it waits, what it found under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resources.engine.events import Emit, Warned
from resources.repository.storage.lock_record import LockRecord


def emit_waiting(emit: Emit) -> Callable[[LockRecord], None]:
    """To be called when a lock is watched that may be a dead run's: that can take two minutes."""

    def reported(record: LockRecord) -> None:
        emit(
            Warned(
                f"the lock is held by {record}; whether that run is dead cannot be seen from here, "
                f"so it is watched for {record.lease_s:.0f} s at most and taken over if it is not "
                "renewed meanwhile"
            )
        )

    return reported


def emit_left(left: Iterable[str], emit: Emit) -> None:
    """What earlier runs left and could not be swept."""
    for text in left:
        emit(Warned(f"{text}; the next run tries again"))
