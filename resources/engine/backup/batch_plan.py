"""The shards of a backup: their sizes and their batches, and what a batch holds of the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from resources.clients.peers import Crashes
from resources.clients.source import SourceFacts
from resources.engine.backup.batch import BackupBatch
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.plan import BackupPlan
from resources.engine.options import BackupOptions
from resources.engine.workers.sharing import Sized
from resources.errors import BackupNotFound
from resources.model import ShardID
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository


def expected_bytes(plan: BackupPlan, state: ShardState) -> int | None:
    """The size on disk that a shard's nodes report; None if they do not report it."""
    best = state.copies[0].size_bytes if state.copies else None
    if best is not None:
        return best
    stats = plan.facts.shards.get(state.place.shard_id)
    return stats.disk_bytes if stats else None


def sized(plan: BackupPlan, states: Iterable[ShardState]) -> list[Sized[ShardState]]:
    """Shards with the node that each is read from first, and their sizes as far as known."""
    return [
        Sized(state, state.copies[0].node if state.copies else "", expected_bytes(plan, state) or 0)
        for state in states
    ]


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


def _of_shards(facts: SourceFacts, ids: Collection[ShardID]) -> SourceFacts:
    found = {i: facts.shards[i] for i in ids if i in facts.shards}
    return replace(facts, shards=found, orphans={})


def seconds_per_byte(repository: BackupRepository) -> float | None:
    """The mean time to copy a byte over the newest archives; None if none has our details.

    This is the time of one connection: a run that copies several shards at once is faster.
    """
    try:
        archives = repository.current().archives.values()
    except BackupNotFound:
        return None
    ours = [a.entry for a in archives if a.entry.details is not None]
    size = sum(entry.size_bytes for entry in ours)
    took = sum(entry.details.seconds for entry in ours if entry.details is not None)
    return took / size if size else None
