"""What a sensor saw, for the UI to show before the run that it asks for begins."""

from __future__ import annotations

from assets.checks import current
from assets.facts.source import glance_facts, state_facts
from assets.family import Family
from assets.ledger import Ledger, Seen
from assets.partitions import ShardKey
from assets.recording import server_version
from resources.engine.watch import Watch

MOST_REPORTED = 40
"""Changes that a sensor writes down itself, at two events each. The run writes the rest."""


def report_changes(ledger: Ledger, family: Family, found: Watch) -> None:
    """Make the changed shards stale, `backup_set` unsynced and the check yellow."""
    if len(found.changed) > MOST_REPORTED or found.left:
        return
    fresh = {str(ShardKey.of(state.place)): state for state in found.changed}
    ledger.add_partitions(fresh)
    before = ledger.observed()
    ledger.observe(
        [
            Seen(key, state.version, state_facts(state))
            for key, state in fresh.items()
            if before.get(key) != state.version
        ]
    )
    changed = [state.place for state in found.changed]
    metastore, shards = found.glance.metastore, len(found.glance.marks)
    looked = glance_facts(metastore, shards, changed)
    ledger.see_source(server_version(ledger, metastore), looked)
    ledger.judge(current(family, shards, changed))
