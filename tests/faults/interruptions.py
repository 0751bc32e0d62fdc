"""What may happen to a run from outside, and when.

A moment is a number of signs of life of a run, which are what it says and what changes in its
directory, and a while after that. So the parts in which much happens are met as often as long
waits are.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.processes import Run

LEASE_S = 1.5
"""Of every run, on both hosts."""
LONGER = 1.2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WAYS = ("kill", "stop", "stop", "one signal", "two signals")
"""How a run is interrupted; each as often as it stands here."""
READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class Timing:
    """How many signs of life a run gives that nothing disturbs, and how long it takes."""

    signs: int
    seconds: float

    def moment(self, rng: random.Random) -> Moment:
        """Any moment of it, or a little after its end."""
        gap_s = self.seconds / max(1, self.signs)
        return Moment(rng.randint(0, self.signs), rng.uniform(0, LONGER * gap_s))


@dataclass(frozen=True)
class Moment:
    """After that number of signs of life, and then some seconds."""

    signs: int
    delay_s: float


def poll(run: Run, backups: Path, *, until: int | None = None) -> int:
    """Count a run's signs of life until it ends, or has given that number."""
    signs, last = 0, _signs(run, backups)
    while run.running and (until is None or signs < until):
        now = _signs(run, backups)
        if now != last:
            signs, last = signs + 1, now
        time.sleep(0.0005)
    return signs


def await_moment(run: Run, backups: Path, moment: Moment) -> bool:
    """Whether the run is still at work then."""
    poll(run, backups, until=moment.signs)
    end = time.monotonic() + moment.delay_s
    while run.running and time.monotonic() < end:
        time.sleep(0.0005)
    return run.running


def interrupt(run: Run, way: str, rng: random.Random, meanwhile: Callable[[], object]) -> None:
    """Interrupt a run; `meanwhile` is done while it stands still, past its lease."""
    if way == "kill":
        run.kill()
    elif way == "stop":
        run.send(signal.SIGSTOP)
        await_stop(run)
        stand_still(run, meanwhile)
    else:
        run.send(rng.choice(SIGNALS))
        if way == "two signals":
            time.sleep(rng.choice((0.0, 0.001, 0.02, 0.1, 0.4)) * rng.random())
            run.send(rng.choice(SIGNALS))


def stand_still(run: Run, meanwhile: Callable[[], object]) -> None:
    """Wake a run that is stopped, once its lease is over and something is done meanwhile."""
    try:
        time.sleep(LEASE_S + 0.1)
        meanwhile()
    finally:
        run.send(signal.SIGCONT)


def await_stop(run: Run) -> bool:
    """Whether a run stops before it ends."""
    deadline = time.monotonic() + READY_WITHIN_S
    while run.running and not is_stopped(run):
        assert time.monotonic() < deadline, run.output
        time.sleep(0.002)
    return run.running


def is_stopped(run: Run) -> bool:
    try:
        return Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _signs(run: Run, backups: Path) -> tuple[int, frozenset[str]]:
    return run.output.count("\n"), frozenset(path.name for path in backups.iterdir())
