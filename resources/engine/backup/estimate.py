"""Estimate how much a backup would copy, and how long it takes."""

from __future__ import annotations

from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.plan import BackupPlan
from resources.errors import BackupNotFound
from resources.repository.repository import BackupRepository


def expected_bytes(plan: BackupPlan, state: ShardState) -> int | None:
    """The size on disk that a shard's nodes report; None if they do not report it."""
    best = state.copies[0].size_bytes if state.copies else None
    if best is not None:
        return best
    stats = plan.facts.shards.get(state.place.shard_id)
    return stats.disk_bytes if stats else None


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
