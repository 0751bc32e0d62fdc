"""Run: the listener of a run's events, and the request to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from msgspec import Struct, field

from resources.errors import Stopped

Event = TypeVar("Event")


class Run(Struct, Generic[Event], frozen=True):
    """One run; `resources.engine.events.Run` is the one with the engine's events.

    Attributes:
        emit: takes each event; called from the thread that started the run.
        stop: set, from any thread, to end the run early.
    """

    emit: Callable[[Event], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self, before: str = "everything was done") -> None:
        """Raise if the run shall end early.

        Args:
            before: the state that was not reached, as in "stopped before the backup was complete".

        Raises:
            Stopped: `stop` is set.
        """
        if self.stop.is_set():
            raise Stopped(f"stopped before {before}")
