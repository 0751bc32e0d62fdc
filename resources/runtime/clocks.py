"""Two clocks that cannot be set; they differ by the time that the machine was suspended.

A run that waits for another run must not count suspended time: the other run was suspended, too.
A run that checks whether its own lease may have ended must count it.
"""

from __future__ import annotations

import time

_WITH_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def awake_s() -> float:
    """Seconds on a clock that stops while the machine is suspended; all processes share it."""
    return time.monotonic()


def passed_s() -> float:
    """Seconds on a clock that also runs while the machine is suspended or the process stopped."""
    return time.clock_gettime(_WITH_SLEEP)
