"""The costs of the simulation, measured here; the simulation beside real runs; and what it says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resources.engine.backup.run import MAX_COPIED
from tests.bench.cost import measured
from tests.bench.limited import limited_cluster
from tests.bench.simulation import Costs, Steps, even, of_processes, of_steps
from tests.bench.workers import Load, command
from tests.live.large import many_shards

SHARDKEEPER = Path(sys.executable).parent / "shardkeeper"
FEW, MANY = 500, 2_000
NO_LIMIT = 1e12
CHECKED = Load(6, 12, 15.0, 20.0)
HOSTS = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True)
class Case:
    """A cluster, and how much of it changes from one backup to the next."""

    shards: int
    shard_gb: float
    nodes: int
    changed: float


CASES = (
    Case(100, 5, 3, 0.05),
    Case(10_000, 5, 16, 0.02),
    Case(150_000, 6.7, 100, 0.01),
    Case(1_000_000, 1, 100, 0.01),
)
"""Half a terabyte, 50 terabytes, and a petabyte in two ways."""


def costs(root: Path, record_shard_s: float, rates: Mapping[str, float]) -> Costs:
    """What this machine takes: by commands over shards of one point each, and of 15 MB."""
    walls: dict[tuple[str, int], float] = {}
    for size in (FEW, MANY):
        with many_shards(root / f"small {size}", size) as (bind, _):
            backups = root / f"small backups {size}"
            backups.mkdir(mode=0o700)
            for what in ("first", "unchanged"):
                words = ("-workers", "1", "-parallel", "1", backups)
                walls[what, size] = measured((SHARDKEEPER, "-bind", bind, "backup", *words)).wall_s
    plan_s = (walls["unchanged", MANY] - walls["unchanged", FEW]) / (MANY - FEW)
    copy_s = (walls["first", MANY] - walls["first", FEW]) / (MANY - FEW) - plan_s
    base_s = walls["unchanged", FEW] - FEW * plan_s
    alone = Load(1, CHECKED.shards_each, CHECKED.shard_mb, NO_LIMIT)
    one, two = (_wall(root / f"unlimited {count}", alone, count) for count in (1, 2))
    size = alone.shards_each * alone.shard_mb * 1e6
    rate = size / (one - base_s - alone.shards_each * (plan_s + copy_s))
    # Two workers at one node do it in half the time, and have to be started.
    start_s = max(0.0, two - base_s - (one - base_s) / 2)
    return Costs(
        plan_s, copy_s, start_s, rate, rates["node"], rates["store"], record_shard_s, base_s
    )


def _wall(directory: Path, load: Load, count: int) -> float:
    given = (load.nodes, load.shards_each, load.shard_mb, load.rate_mb_per_s)
    with limited_cluster(directory, *given) as (bind, networks):
        backups = directory.with_name(f"{directory.name} backups")
        backups.mkdir(mode=0o700)
        return command(bind, networks, count, "backup", backups).wall_s


def beside_real_runs(
    root: Path, known: Costs, counts: Sequence[int]
) -> Iterator[tuple[int, float, float]]:
    """For each number of workers: seconds simulated, and those of a real backup."""
    limited = replace(known, node_rate=CHECKED.rate_mb_per_s * 1e6, store_rate=NO_LIMIT)
    shards = list(
        even(CHECKED.nodes * CHECKED.shards_each, int(CHECKED.shard_mb * 1e6), CHECKED.nodes)
    )
    for count in counts:
        real = _wall(root / f"limited {count}", CHECKED, count)
        alone = replace(limited, start_s=limited.start_s if count > 1 else 0.0)
        yield count, of_processes(alone, count, shards), real


@dataclass(frozen=True, slots=True)
class Answer:
    """What the simulation says of a case: the first backup, or one of what has changed."""

    case: Case
    first: bool
    parts: int
    """Backups that it takes, since a manifest names a limited number of shards."""
    by_hosts: Mapping[int, Steps]
    """Of the largest part; its `seconds` are those of all."""


def answers(known: Costs) -> Iterator[Answer]:
    """For each case: the first backup and one of what has changed, over more and more hosts."""
    for case in CASES:
        size = int(case.shard_gb * 1e9)
        for first in (True, False):
            copied = case.shards if first else int(case.shards * case.changed)
            parts = -(-copied // MAX_COPIED)
            shards = list(even(-(-copied // parts), size, case.nodes))
            found: dict[int, Steps] = {}
            for hosts in HOSTS:
                one = of_steps(known, hosts, shards, case.shards - len(shards))
                found[hosts] = replace(one, seconds=parts * one.seconds)
            yield Answer(case, first, parts, found)
