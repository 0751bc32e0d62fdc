"""Two clocks that nobody sets: how long somebody was watched, and how long a run stood still.

They differ by the time in which the machine slept. Who waits for another run must not count that,
since the other one may have slept as well. Who asks whether a lease of its own may have ended
must count it.
"""

from __future__ import annotations

import time

_WITH_SLEEP = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def awake_s() -> float:
    """Seconds on a clock that stands while the machine sleeps; within one boot it is one clock."""
    return time.monotonic()


def passed_s() -> float:
    """Seconds on a clock that goes on while the machine sleeps, or this process is stopped."""
    return time.clock_gettime(_WITH_SLEEP)
