"""Has a server's clock advanced as ours has?

File times inside a server's shards come from its clock. While that clock only advances, a file
that changed after an archive was made is newer than the archive. If the clock was set, back or
forward, this no longer holds. So both clocks are noted with an archive and compared later. Our
clock may have been set too, and may be the same clock. So until our machine is restarted, the
time since its start counts, which cannot be set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from resources.repository.formats.proof import Clocks

TOLERANCE_NS = 5_000_000_000
DRIFT = 5_000
"""A clock that is not set may drift by one part in this many: two hundred in a million."""
MARGIN_NS = 2_000_000_000
"""File times come from the kernel's coarse clock, and some file systems keep whole seconds."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

ClocksAt: TypeAlias = Callable[[int], Clocks]


def clocks_at(server_ns: int) -> Clocks:
    """The server's clock, as just received, and ours."""
    try:
        boot_id = _BOOT_ID.read_text().strip()[:64]
    except OSError:
        boot_id = ""
    return Clocks(server_ns, time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), boot_id)


def went_alike(then: Clocks, now: Clocks) -> bool:
    """Whether the server's clock advanced by as much as ours, within `tolerance_ns`."""
    elapsed_ns = passed_ns(then, now)
    difference_ns = abs(now.server_ns - then.server_ns - elapsed_ns)
    return elapsed_ns >= 0 and difference_ns <= tolerance_ns(then, now)


def tolerance_ns(then: Clocks, now: Clocks) -> int:
    """The difference that two clocks may show over that time without having been set."""
    return TOLERANCE_NS + max(passed_ns(then, now), 0) // DRIFT


def since_ns(then: Clocks, now: Clocks) -> int:
    """A time on the server's clock; every file that changed after `then` is newer.

    Requires `went_alike`: the margin covers a step that the tolerance hides.
    """
    return max(0, then.server_ns - MARGIN_NS - tolerance_ns(then, now))


def passed_ns(then: Clocks, now: Clocks) -> int:
    """The time that passed here; unless this machine restarted, by a clock that cannot be set."""
    if then.boot_id and then.boot_id == now.boot_id:
        return now.boot_ns - then.boot_ns
    return now.ours_ns - then.ours_ns
