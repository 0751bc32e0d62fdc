"""Record what a sensor saw, so that the UI shows it before the requested run begins."""

from __future__ import annotations

from assets.evaluation import CheckEvaluator
from assets.history.asset_history import AssetHistory, Seen
from assets.history.gone_shards import settle_gone
from assets.history.recording import by_partition, server_version
from assets.metadata.scans import fingerprint_facts, state_facts
from resources.engine.backup.poll import ChangesFound
from resources.repository.manifest_cache import ManifestCache

MAX_REPORTED = 250
"""The limit of changed shards that a sensor marks, at two events each. The run marks the rest."""


def report_changes(
    history: AssetHistory, evaluator: CheckEvaluator, cached: ManifestCache, found: ChangesFound
) -> None:
    """Make the changed shards stale, `backup_set` unsynced and the checks yellow."""
    settle_gone(history, found.fingerprint.metastore, cached.archives)
    fresh = by_partition(history, found.changed)
    history.add_partitions(fresh)
    before = history.observed()
    marked = [
        Seen(key, state.version, state_facts(state))
        for key, state in fresh.items()
        if before.get(key) != state.version
    ]
    history.observe(marked[:MAX_REPORTED])
    changed = [state.place for state in found.changed]
    metastore, shards = found.fingerprint.metastore, len(found.fingerprint.marks)
    scanned = fingerprint_facts(metastore, shards, changed)
    versions = {state.place.shard_id: state.version for state in found.changed}
    history.see_source(server_version(history, metastore, versions), scanned)
    history.record_checks(evaluator.after_poll(cached, found))
