"""Which batches a backup has, what each holds of the plan, and how many processes do them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec.structs import replace

from resources.clients.peers import Crashes
from resources.clients.source import SourceFacts
from resources.engine.backup.batch import BackupBatch
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.estimate import expected_bytes
from resources.engine.backup.plan import BackupPlan
from resources.engine.options import BackupOptions
from resources.model import ShardID
from resources.repository.formats.manifest import Limits

MAX_SHARDS = 200
MIN_BYTES, MAX_BYTES = 64 << 20, 4 << 30
"""Of the shards of one batch; a larger shard is a batch of its own."""
BATCHES_EACH = 4
"""For each worker: with fewer, one of them would be at work when the others have ended."""
BYTES_EACH = 256 << 20
"""What a worker must have to do, to be worth the half second in which its process starts."""
CORES_EACH = 2
"""Threads check and compress outside of the interpreter, so one process keeps about two busy."""


def n_workers(plan: BackupPlan, options: BackupOptions, states: Sequence[ShardState]) -> int:
    """How many processes copy these shards, each by a connection at least; 1: the one that plans.

    None of them brought a server down: those are read alone.
    """
    requested, most = options.workers, min(options.parallel, len(states))
    if requested is None:
        size = sum(expected_bytes(plan, state) or 0 for state in states)
        requested = min(_cores() // CORES_EACH, size // BYTES_EACH)
    return max(1, min(requested, most))


def shares(total: int, n: int) -> list[int]:
    """A number in `n` parts that are as equal as can be."""
    return [total // n + (number < total % n) for number in range(n)]


def cut(
    plan: BackupPlan, states: Sequence[ShardState], workers: int, turn: int = 0
) -> Iterator[tuple[str, list[ShardState]]]:
    """Batches and their names, the largest first; each of shards that are read from one node.

    Args:
        turn: tells these batches from those before, some shards of which come again.
    """
    by_node: dict[str, list[tuple[int, ShardState]]] = {}
    for state in states:
        node = state.copies[0].node if state.copies else ""
        by_node.setdefault(node, []).append((expected_bytes(plan, state) or 0, state))
    total = sum(size for sized in by_node.values() for size, _ in sized)
    limit = min(MAX_BYTES, max(MIN_BYTES, total // (workers * BATCHES_EACH)))
    found = [
        (size, node, chosen)
        for node, sized in enumerate(by_node.values())
        for size, chosen in _full(sized, limit, 1 + len(sized) // (workers * BATCHES_EACH))
    ]
    found.sort(key=lambda batch: -batch[0])
    for number, (_, node, chosen) in enumerate(found):
        yield f"b{turn}{number:05}n{node}", chosen


def batch_of(
    plan: BackupPlan,
    states: Iterable[ShardState],
    options: BackupOptions,
    crashes: Crashes,
    *,
    beside_others: bool = False,
) -> BackupBatch:
    """The batch of some shards of a plan."""
    chosen = tuple(states)
    ids = {state.place.shard_id for state in chosen}
    return BackupBatch(
        chosen,
        replace(options, only=None, again=frozenset(), limits=Limits()),
        plan.clocks,
        {node: _of_shards(facts, ids) for node, facts in plan.first.items()},
        {i: floor for i, floor in plan.era.floors.items() if i in ids},
        plan.facts.version,
        {i: times for i, times in crashes.counts.items() if i in ids},
        beside_others,
    )


def node_of(batch: str) -> str:
    """What tells batches of one node from those of others."""
    return batch.partition("n")[2]


def _full(
    sized: Sequence[tuple[int, ShardState]], limit: int, most: int
) -> Iterator[tuple[int, list[ShardState]]]:
    """Shards of one node in batches, the largest shards first."""
    states: list[ShardState] = []
    filled = 0
    for size, state in sorted(sized, key=lambda one: -one[0]):
        if states and (filled + size > limit or len(states) >= min(most, MAX_SHARDS)):
            yield filled, states
            states, filled = [], 0
        states.append(state)
        filled += size
    if states:
        yield filled, states


def _of_shards(facts: SourceFacts, ids: Collection[ShardID]) -> SourceFacts:
    found = {i: facts.shards[i] for i in ids if i in facts.shards}
    return replace(facts, shards=found, orphans={})


def _cores() -> int:
    return len(os.sched_getaffinity(0))
