"""Whether two restores are the same: of one state, with one outcome. Then the second may go on.

A killed run's record says what it was about by this one value. It covers the metastore that was
backed up, every archive with its checksum, and every name, duration and number of copies that the
target is to have; not where the target is, which the record itself says.
"""

from __future__ import annotations

import hashlib
import json

from resources.engine.restore.plan import DatabaseRestore, RestoreOptions, RestorePlan, ShardRestore


def identity_of(plan: RestorePlan, options: RestoreOptions) -> str:
    """Equal only for plans that send the same bytes under the same names."""
    about = [
        hashlib.sha256(plan.meta).hexdigest(),
        options.keep_tombstoned,
        options.new_replica_n,
        [_database(database) for database in plan.databases],
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _database(database: DatabaseRestore) -> list[object]:
    return [
        database.source.name,
        database.name,
        database.new_policy,
        [rp.name for rp in database.policies],
        dict(database.durations),
        [_shard(shard) for shard in database.shards],
    ]


def _shard(shard: ShardRestore) -> list[object]:
    entry = shard.archive.entry
    return [
        shard.place.shard_id,
        shard.policy,
        entry.file_name,
        entry.size_bytes,
        entry.details.sha256 if entry.details else None,
        entry.details.content if entry.details else None,
    ]
