"""A few threads that belong together, of which none is lost when starting one is interrupted.

Not `concurrent.futures`: its pool forgets a thread in whose start Ctrl-C arrives, so that it
outlives the pool; and what it does for each item takes a tenth of a small shard's time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class WorkerGroup:
    """Threads that each run a loop of their own until it returns.

    Args:
        name: of the threads, before a number.
        loop: what each runs; it must not raise.
    """

    def __init__(self, name: str, loop: Callable[[], None]) -> None:
        self._name = name
        self._loop = loop
        self._turn = threading.Condition()
        self._started = 0
        self._inside = 0
        self._over = False

    @property
    def over(self) -> bool:
        """Whether `end` was called: loops should return soon."""
        return self._over

    def begin(self, most: int) -> None:
        """Start one more thread, unless there are `most`."""
        with self._turn:
            if self._over or self._started >= most:
                return
            self._started += 1
        name = f"{self._name}_{self._started - 1}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def end(self) -> None:
        """Let no thread begin any more, and wait until those that have begun are done."""
        with self._turn:
            self._over = True
            self._turn.wait_for(lambda: not self._inside)

    def _run(self) -> None:
        with self._turn:
            if self._over:
                return
            self._inside += 1
        try:
            self._loop()
        finally:
            with self._turn:
                self._inside -= 1
                self._turn.notify_all()
