"""When to write a record that grows with the work."""

from __future__ import annotations

import time
from collections.abc import Callable

WRITTEN_EVERY_S = 0.02
WRITING_SHARE = 20
"""For how many times as long as a writing computes, the next one waits: threads wait for that."""


class Turn:
    """Comes often, and takes little of the work's time; the block is the writing.

    What a writing waits for, the disk or other processes, costs the work nothing. So it only has
    to be over for as long again. If it counted like what is computed, a run on a busy machine
    would write seldom, and one that goes on would read again what was proved.

    Args:
        clock: seconds.
        computed: seconds that this thread has computed.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._computed = computed
        self._next_s = 0.0
        self._began_s = 0.0
        self._computed_s = 0.0

    def has_come(self) -> bool:
        return self._clock() >= self._next_s

    def __enter__(self) -> None:
        self._began_s, self._computed_s = self._clock(), self._computed()

    def __exit__(self, *_: object) -> None:
        now_s = self._clock()
        waits_s = now_s - self._began_s
        computes_s = WRITING_SHARE * (self._computed() - self._computed_s)
        self._next_s = now_s + max(WRITTEN_EVERY_S, waits_s, computes_s)
