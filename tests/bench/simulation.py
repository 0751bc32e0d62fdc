"""How long a backup takes that no test machine can make: batches, workers and limits, simulated.

The batches are those that the product cuts (`resources.engine.workers.sharing`), claimed in the
order in which it claims them. Everything else is a model: a worker copies a batch at the lowest of
its own rate, its share of the data node's and its share of the store's, and pays for each shard.
`python -m tests.bench scale` measures the costs and holds the model against real runs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from resources.engine.workers.sharing import Sized, cut, cut_for_steps, in_turn, node_of

WORKER_BATCH_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Costs:
    """What a machine takes, in seconds; and what it cannot exceed, in bytes a second."""

    plan_shard_s: float
    """To find out whether a shard has changed."""
    copy_shard_s: float
    """To copy a shard of next to no bytes."""
    start_s: float
    """Until a worker, or a step, is at work."""
    worker_rate: float
    node_rate: float
    store_rate: float
    record_shard_s: float = 0.0
    """For what Dagster records of a shard."""
    base_s: float = 0.0
    """For a command that has nothing to do."""


@dataclass(slots=True)
class _Active:
    node: str
    bytes_left: float
    waits_until: float


@dataclass(slots=True)
class Simulation:
    """One run of a backup; `seconds` is what it takes."""

    costs: Costs
    workers: int
    work: Mapping[str, tuple[int, int]]
    """By batch: shards and bytes."""
    states: dict[str, str] = field(default_factory=dict[str, str])
    active: dict[int, _Active] = field(default_factory=dict[int, _Active])

    def seconds(self) -> float:
        self.states = dict.fromkeys(self.work, "free")
        now = 0.0
        idle = list(range(self.workers))
        doing: dict[int, str] = {}
        while True:
            for worker in list(idle):
                batch = self._claimed(worker)
                if batch is None:
                    break
                shards, size = self.work[batch]
                took_s = shards * self.costs.copy_shard_s + (0 if now else self.costs.start_s)
                self.active[worker] = _Active(node_of(batch), size, now + took_s)
                doing[worker] = batch
                idle.remove(worker)
            if not self.active:
                return now
            now = self._step(now)
            for worker in [w for w, one in self.active.items() if _ended(one, now)]:
                del self.active[worker]
                self.states[doing.pop(worker)] = "done"
                idle.append(worker)

    def _claimed(self, worker: int) -> str | None:
        """The batch that a worker claims next."""
        left = {name: state for name, state in self.states.items() if state != "done"}
        for name in in_turn(left, worker):
            if self.states[name] == "free":
                self.states[name] = "claimed"
                return name
        return None

    def _step(self, now: float) -> float:
        """Copy until a batch ends, or begins to have bytes to copy; returns when that is."""
        rates = self._rates(now)
        ends: list[float] = []
        for worker, one in self.active.items():
            if one.waits_until > now:
                ends.append(one.waits_until)
            else:
                ends.append(now + one.bytes_left / rates[worker])
        then = min(ends)
        for worker, rate in rates.items():
            self.active[worker].bytes_left -= rate * (then - now)
        return then

    def _rates(self, now: float) -> dict[int, float]:
        copying = {w: one for w, one in self.active.items() if one.waits_until <= now}
        on_node = Counter(one.node for one in copying.values())
        return {
            worker: min(
                self.costs.worker_rate,
                self.costs.node_rate / on_node[one.node],
                self.costs.store_rate / len(copying),
            )
            for worker, one in copying.items()
        }


def _ended(one: _Active, now: float) -> bool:
    return one.waits_until <= now and one.bytes_left < 1.0


def of_processes(costs: Costs, workers: int, shards: Sequence[Sized[int]]) -> float:
    """Seconds of a command with `-workers`."""
    sizes = {one.item: one.size_bytes for one in shards}
    found = cut(shards, workers)
    work = {name: (len(ids), sum(sizes[i] for i in ids)) for name, ids in found}
    planned_s = costs.base_s + costs.plan_shard_s * len(shards)
    return planned_s + Simulation(costs, workers, work).seconds()


@dataclass(frozen=True, slots=True)
class Steps:
    """A backup by steps of an executor."""

    seconds: float
    batches: int
    largest_bytes: int
    limit: str
    """What takes most of the time."""


def of_steps(costs: Costs, hosts: int, shards: Sequence[Sized[int]], unchanged: int = 0) -> Steps:
    """A backup whose batches are steps, one at a time on each host.

    Args:
        shards: those that are copied.
        unchanged: how many more are looked at and not copied.
    """
    sizes = {one.item: one.size_bytes for one in shards}
    found = cut_for_steps(shards, WORKER_BATCH_BYTES) or {"b000000n0": [s.item for s in shards]}
    work = [(node_of(name), len(ids), sum(sizes[i] for i in ids)) for name, ids in found.items()]
    planned_s = costs.base_s + costs.plan_shard_s * (len(shards) + unchanged)
    recorded_s = costs.record_shard_s * len(shards)
    copied_s = _in_pools(costs, hosts, work)
    seconds = planned_s + copied_s + recorded_s
    size = sum(sizes.values())
    nodes = len({node for node, _, _ in work})
    bounds = {
        "the data nodes": size / costs.node_rate / nodes,
        "the store": size / costs.store_rate,
        "the hosts": size / costs.worker_rate / hosts
        + len(shards) * costs.copy_shard_s / hosts
        + costs.start_s * len(work) / hosts,
        "looking at shards": planned_s,
        "Dagster's records": recorded_s,
    }
    return Steps(
        seconds, len(work), max(of for _, _, of in work), max(bounds, key=lambda b: bounds[b])
    )


def _in_pools(costs: Costs, hosts: int, work: Sequence[tuple[str, int, int]]) -> float:
    """The seconds of batches of which those of one node take turns."""
    waiting = sorted(work, key=lambda one: -one[2])
    by_node: dict[str, list[tuple[str, int, int]]] = {}
    for one in waiting:
        by_node.setdefault(one[0], []).append(one)
    rate = min(costs.worker_rate, costs.node_rate, costs.store_rate / min(hosts, len(by_node)))
    running: list[tuple[float, str]] = []
    busy: set[str] = set()
    now = 0.0
    while any(by_node.values()) or running:
        for node in sorted(by_node, key=lambda n: -sum(of for _, _, of in by_node[n])):
            if len(running) < hosts and node not in busy and by_node[node]:
                _, shards, size = by_node[node].pop(0)
                took_s = costs.start_s + shards * costs.copy_shard_s + size / rate
                heapq.heappush(running, (now + took_s, node))
                busy.add(node)
        now, node = heapq.heappop(running)
        busy.discard(node)
    return now


def even(shards: int, size_bytes: int, nodes: int) -> Iterator[Sized[int]]:
    """Shards of one size, in turn of each node."""
    for number in range(shards):
        yield Sized(number, f"node {number % nodes}", size_bytes)
