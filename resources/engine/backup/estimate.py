"""How much a backup would copy, and how long that took before."""

from __future__ import annotations

from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.plan import BackupPlan
from resources.errors import BackupNotFound
from resources.repository.repository import BackupRepository


def expected_bytes(plan: BackupPlan, state: ShardState) -> int | None:
    """What a shard's nodes say that it takes on disk; None if they do not say."""
    best = state.copies[0].size_bytes if state.copies else None
    if best is not None:
        return best
    stats = plan.facts.shards.get(state.place.shard_id)
    return stats.disk_bytes if stats else None


def seconds_per_byte(repository: BackupRepository) -> float | None:
    """What copying a byte took, over the newest archives here; None if there are none of ours.

    One connection's time: a run that copies several shards at once is faster.
    """
    try:
        archives = repository.current().archives.values()
    except BackupNotFound:
        return None
    ours = [a.entry for a in archives if a.entry.details is not None]
    size = sum(entry.size_bytes for entry in ours)
    took = sum(entry.details.seconds for entry in ours if entry.details is not None)
    return took / size if size else None
