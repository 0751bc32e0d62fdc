"""How a backup and a restore get faster with workers, where the nodes' networks are slow."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cost import Cost, measured
from tests.bench.limited import DATABASE, limited_cluster

SHARDKEEPER = Path(sys.executable).parent / "shardkeeper"


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to copy, and how fast each node lets it pass."""

    nodes: int
    shards_each: int
    shard_mb: float
    rate_mb_per_s: float

    def seconds(self, workers: int) -> float:
        """What the networks alone take, each worker having one connection."""
        of_node = self.shards_each * self.shard_mb / self.rate_mb_per_s
        return of_node * self.nodes / min(workers, self.nodes)


@dataclass(frozen=True, slots=True)
class Run:
    """A command with that many workers."""

    what: str
    workers: int
    cost: Cost


def workers(
    load: Load, counts: Sequence[int], n: int, root: Path, say: Callable[[str], object]
) -> Iterator[Run]:
    """Measure both commands with each number of workers, which have one connection each."""
    given = (load.nodes, load.shards_each, load.shard_mb, load.rate_mb_per_s)
    with limited_cluster(root / "source", *given) as (bind, networks):
        for count in counts:
            costs: list[Cost] = []
            for number in range(n):
                backups = root / f"backups {count} {number}"
                backups.mkdir(mode=0o700)
                costs.append(command(bind, networks, count, "backup", backups))
                say(f"backup, {count} workers: {costs[-1].wall_s:.1f} s")
            yield Run("backup", count, _middle(costs))
    for count in counts:
        costs = []
        for number in range(n):
            target = root / f"target {count} {number}"
            empty = limited_cluster(target, load.nodes, 0, 0, load.rate_mb_per_s)
            with empty as (bind, networks):
                words = ("restore", "-db", DATABASE)
                costs.append(
                    command(bind, networks, count, *words, root / f"backups {counts[0]} 0")
                )
            shutil.rmtree(target)
            say(f"restore, {count} workers: {costs[-1].wall_s:.1f} s")
        yield Run("restore", count, _middle(costs))


def command(bind: str, networks: Mapping[str, str], count: int, *words: str | Path) -> Cost:
    """Run one with `-workers count -parallel count`, through these networks."""
    leads = [word for name, address in networks.items() for word in ("-map", f"{name}={address}")]
    what, *rest = words
    shared = ("-workers", str(count), "-parallel", str(count))
    return measured((SHARDKEEPER, "-bind", bind, *leads, what, *shared, *rest))


def _middle(costs: Sequence[Cost]) -> Cost:
    return sorted(costs, key=lambda cost: cost.wall_s)[len(costs) // 2]
