"""When a run is killed: a while after a sign that it gives, so that no part of its life is spared.

Most of a restore's time goes into looking, of a cluster's above all, which waits for a quiet
moment. A kill at any moment of all of it would hardly ever meet what comes after.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.places import SHARDS
from tests.processes import Run

LONGER = 1.1
"""Beyond what a part took undisturbed, so that its end is met, too."""


@dataclass(frozen=True)
class Part:
    """A part of a restore, and how it is told from the run and its directory that it began."""

    name: str
    began: Callable[[Run, Path], bool]


PREPARING = Part("while it prepared", lambda run, _: "Using meta backup: " in run.output)
CREATING = Part("while it created", lambda _, backups: any(backups.glob(".shardkeeper.restore-*")))
FILLING = Part("while it filled", lambda run, _: "shards mapped\n" in run.output)
ENDING = Part(
    "once all was sent", lambda run, _: run.output.count("Done. Restored shard ") == SHARDS
)
ON_A_SERVER = (PREPARING, FILLING, ENDING)
ON_A_CLUSTER = (PREPARING, CREATING, FILLING, ENDING)


def lengths(run: Run, backups: Path, parts: Sequence[Part]) -> dict[Part, float]:
    """How long each part takes, in seconds, of a run that nothing disturbs."""
    starts = [when(run, lambda part=part: part.began(run, backups)) for part in parts]
    ends = [*starts[1:], when(run, lambda: False)]
    return {part: end - start for part, start, end in zip(parts, starts, ends, strict=True)}


def kill_in_one(
    run: Run, backups: Path, lasting: dict[Part, float], rng: random.Random
) -> tuple[bool, str]:
    """Kill a run in one of its parts; whether the kill came in time, and which part it met."""
    part = rng.choice(list(lasting))
    delay_s = rng.uniform(0, LONGER * lasting[part])
    killed = kill_after(run, lambda: part.began(run, backups), delay_s)
    met = [one.name for one in lasting if one.began(run, backups)]
    return killed, met[-1] if met else "before it prepared"


def when(run: Run, sign: Callable[[], bool]) -> float:
    """When a run gave a sign, or ended."""
    while run.running and not sign():
        time.sleep(0.001)
    return time.monotonic()


def kill_after(run: Run, sign: Callable[[], bool], delay_s: float) -> bool:
    """Kill a run some time after its sign; whether the kill came in time."""
    began = when(run, sign)
    while run.running and time.monotonic() < began + delay_s:
        time.sleep(0.0005)
    run.kill()
    return run.wait().code == -9
