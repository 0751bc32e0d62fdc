"""Shards that are not at the source any more: what the graph says of them, and what it forgets.

A dropped shard that has an archive keeps its partition, since it can be restored, and its page says
since when it is gone. One that was never backed up, such as the temporary database of a merge or
what lived shorter than a backup, has nothing to restore and nothing to back up: its partition would
be "Missing" for ever, and red once somebody has tried to fill it. So it is taken out of the graph.
Held by tests/pipelines/test_gone.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from assets.history.asset_history import AssetHistory, Seen
from assets.metadata.common import Metadata, utc
from assets.partitions import ShardKey
from resources.errors import UsageError
from resources.model import Metastore, ShardID
from resources.repository.backup_set import Archive

MAX_FORGOTTEN = 100
"""Partitions that one look takes out of the graph."""


def settle_gone(
    history: AssetHistory, metastore: Metastore, archives: Mapping[ShardID, Archive]
) -> dict[str, Archive | None]:
    """Mark what has gone since the last look, and forget what leaves nothing.

    Args:
        metastore: of the source as it is now.
        archives: the newest of each shard.

    Returns:
        By partition, the shards that are gone, and their archive if it is still there.
    """
    there = {str(ShardKey.of(place)) for place in metastore.places()}
    known, marked = set(history.partitions()), history.gone()
    history.mark_back(marked & there)
    absent = known - there
    news = absent - marked
    if news:
        saved, seen = history.backed_up(), history.observed()
        kept = sorted(key for key in news if key in saved or _archive(key, archives) is not None)
        # Each costs Dagster a transaction; what is left is for the next look.
        forgotten = sorted(news - set(kept))[:MAX_FORGOTTEN]
        history.forget_partitions(forgotten)
        # At the version of its archive: what came after it is gone, so nothing is left to copy.
        history.observe(
            [
                Seen(key, saved.get(key) or seen.get(key) or "gone", _facts(key, archives))
                for key in kept
            ]
        )
        history.mark_gone(kept)
        absent -= set(forgotten)
    return {key: _archive(key, archives) for key in sorted(absent)}


def _facts(key: str, archives: Mapping[ShardID, Archive]) -> Metadata:
    archive = _archive(key, archives)
    made = f"; its newest archive is {archive.entry.file_name}" if archive else ""
    parsed = _parsed(key)
    return {
        "state": f"gone since {utc(time.time())}, when it was missed first{made}",
        **({"archive": archive.entry.file_name} if archive else {}),
        **(
            {
                "database": parsed.database,
                "retention_policy": parsed.policy,
                "shard_id": str(parsed.shard_id),
            }
            if parsed
            else {}
        ),
    }


def _archive(key: str, archives: Mapping[ShardID, Archive]) -> Archive | None:
    """The archive of this shard; one of its number alone may be another database's."""
    parsed = _parsed(key)
    found = archives.get(parsed.shard_id) if parsed else None
    if parsed is None or found is None:
        return None
    # influxd 1.6 leaves both names empty in a manifest of a single shard.
    same = (found.entry.database or parsed.database, found.entry.policy or parsed.policy)
    return found if same == (parsed.database, parsed.policy) else None


def _parsed(key: str) -> ShardKey | None:
    """None: the UI lets anyone add a partition of any name."""
    try:
        return ShardKey.parse(key)
    except UsageError:
        return None
