"""What a sensor saw, for the UI to show before the run that it asks for begins."""

from __future__ import annotations

from assets.evaluation import Judge
from assets.history.asset_history import Ledger, Seen
from assets.history.gone_shards import settle_gone
from assets.history.recording import by_partition, server_version
from assets.metadata.scans import glance_facts, state_facts
from resources.engine.backup.watch import Watch
from resources.repository.watched import WatchedRepository

MOST_REPORTED = 250
"""Changed shards that a sensor marks itself, at two events each. The run marks the rest."""


def report_changes(ledger: Ledger, judge: Judge, watched: WatchedRepository, found: Watch) -> None:
    """Make the changed shards stale, `backup_set` unsynced and the checks yellow."""
    settle_gone(ledger, found.glance.metastore, watched.archives)
    fresh = by_partition(ledger, found.changed)
    ledger.add_partitions(fresh)
    before = ledger.observed()
    marked = [
        Seen(key, state.version, state_facts(state))
        for key, state in fresh.items()
        if before.get(key) != state.version
    ]
    ledger.observe(marked[:MOST_REPORTED])
    changed = [state.place for state in found.changed]
    metastore, shards = found.glance.metastore, len(found.glance.marks)
    looked = glance_facts(metastore, shards, changed)
    versions = {state.place.shard_id: state.version for state in found.changed}
    ledger.see_source(server_version(ledger, metastore, versions), looked)
    ledger.judge(judge.after_glance(watched, found))
