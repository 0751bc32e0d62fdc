"""Has a server's clock gone as ours has?

File times inside a server's shards come from its clock. As long as it only goes forward, a file
that changed after an archive was made is newer than the archive; a clock that was set, back or
forward, takes that away. So both clocks are noted with an archive and looked at again. Ours may
have been set as well, and may be the very same clock; so while our machine was not started anew,
what counts is the time since its start, which no one can set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from resources.repository.formats.proof import Clocks

TOLERANCE_NS = 5_000_000_000
DRIFT = 5_000
"""A clock that nobody sets may be off by one part in so many: two hundred in a million."""
MARGIN_NS = 2_000_000_000
"""File times come from the kernel's coarse clock, and some file systems keep whole seconds."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

ClocksAt: TypeAlias = Callable[[int], Clocks]


def clocks_at(server_ns: int) -> Clocks:
    """The server's clock as it has just been told, and ours."""
    try:
        boot_id = _BOOT_ID.read_text().strip()[:64]
    except OSError:
        boot_id = ""
    return Clocks(server_ns, time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), boot_id)


def went_alike(then: Clocks, now: Clocks) -> bool:
    """Whether the server's clock went on by as much as ours, within `tolerance_ns`."""
    elapsed_ns = passed_ns(then, now)
    difference_ns = abs(now.server_ns - then.server_ns - elapsed_ns)
    return elapsed_ns >= 0 and difference_ns <= tolerance_ns(then, now)


def tolerance_ns(then: Clocks, now: Clocks) -> int:
    """By how much two clocks may differ over that time without having been set."""
    return TOLERANCE_NS + max(passed_ns(then, now), 0) // DRIFT


def since_ns(then: Clocks, now: Clocks) -> int:
    """After this time on the server's clock is every file that changed after `then`.

    If the two went alike: a step that the tolerance hides is within the margin.
    """
    return max(0, then.server_ns - MARGIN_NS - tolerance_ns(then, now))


def passed_ns(then: Clocks, now: Clocks) -> int:
    """How much time passed for us; by a clock that nobody can set, unless we were started anew."""
    if then.boot_id and then.boot_id == now.boot_id:
        return now.boot_ns - then.boot_ns
    return now.ours_ns - then.ours_ns
