"""A group of threads that loses none of them when Ctrl-C interrupts the start of one.

`concurrent.futures` does not serve here. Its pool forgets a thread if Ctrl-C arrives during the
start, and that thread outlives the pool. Its work for each item also takes a tenth of the time of
a small shard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class WorkerGroup:
    """Threads that each run the same loop until it returns.

    Args:
        name: the prefix of the threads' names.
        loop: what each thread runs; it must not raise.
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
        """Whether `end` was called, so that loops should return soon."""
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
        """Let no further thread begin, and wait until the running ones have ended."""
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
