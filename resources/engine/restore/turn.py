"""When to write a record that grows with the work."""

from __future__ import annotations

import time
from collections.abc import Callable

WRITTEN_EVERY_S = 0.1
WRITING_SHARE = 20
"""For how many times as long as a writing takes the next one waits."""


class Turn:
    """Comes often, and never for more than a part of the time; the block is the writing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = 0.0
        self._began_s = 0.0

    def has_come(self) -> bool:
        return self._clock() >= self._next_s

    def __enter__(self) -> None:
        self._began_s = self._clock()

    def __exit__(self, *_: object) -> None:
        now_s = self._clock()
        self._next_s = now_s + max(WRITTEN_EVERY_S, WRITING_SHARE * (now_s - self._began_s))
