"""Wait for work that may hang, up to a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from assets.metadata.common import for_people, utc
from resources.errors import PeerSilent

T = TypeVar("T")


class Patience:
    """Does one thing at a time in a thread of its own, and stops waiting at the limit.

    A hung disk cannot be interrupted. So the thread keeps running; until it has ended, no other
    work begins, so there is never more than one.

    Args:
        limit_s: how long to wait.
        forget: called when the wait is over; from then on the thread's objects are its own.
    """

    def __init__(self, limit_s: float, *, forget: Callable[[], None] = lambda: None) -> None:
        self._limit_s = limit_s
        self._forget = forget
        self._left: tuple[threading.Thread, float] | None = None

    def wait_for(self, what: str, work: Callable[[], T]) -> T:
        """Do the work and wait for it.

        Raises:
            PeerSilent: it takes longer than the limit, or earlier work has not ended.
            Exception: as `work`.
        """
        if self._left is not None and self._left[0].is_alive():
            raise PeerSilent(
                f"{what}: the one that began at {utc(self._left[1])} has not ended",
                hint="something hangs: the cluster, or the disk with its backups",
            )
        done: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                done.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again by `wait_for`
                failed.append(error)

        began, thread = time.time(), threading.Thread(target=run, name="patience", daemon=True)
        thread.start()
        thread.join(self._limit_s)
        if thread.is_alive():
            self._left = thread, began
            self._forget()
            raise PeerSilent(
                f"{what} takes more than {for_people(self._limit_s)}",
                hint="something hangs or is very slow: the cluster, or the disk with its backups",
            )
        self._left = None
        if failed:
            raise failed[0]
        return done[0]
