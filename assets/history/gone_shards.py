"""Shards that no longer exist at the source: what the graph shows of them, and what it drops.

A dropped shard with an archive keeps its partition, because it can be restored, and its page shows
since when it is gone. A shard that was never backed up, such as one of a merge's temporary
database, or one that existed only between two backups, cannot be restored or backed up. Its
partition would stay "Missing" for ever, and would turn red if it were materialized. So it is
removed from the graph. Held by tests/pipelines/test_gone.py.
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
"""The limit of partitions that one scan removes from the graph."""


def settle_gone(
    history: AssetHistory, metastore: Metastore, archives: Mapping[ShardID, Archive]
) -> dict[str, Archive | None]:
    """Mark the shards that have gone since the last scan, and remove those without an archive.

    Args:
        metastore: of the source as it is now.
        archives: the newest of each shard.

    Returns:
        By partition, the shards that are gone, and their archive if it still exists.
    """
    there = {str(ShardKey.of(place)) for place in metastore.places()}
    known, marked = set(history.partitions()), history.gone()
    history.mark_back(marked & there)
    absent = known - there
    news = absent - marked
    if news:
        saved, seen = history.backed_up(), history.observed()
        kept = sorted(key for key in news if key in saved or _archive(key, archives) is not None)
        # Each costs Dagster a transaction; the next scan removes the others.
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
    """The archive of this shard; an archive with only its number may be of another database."""
    parsed = _parsed(key)
    found = archives.get(parsed.shard_id) if parsed else None
    if parsed is None or found is None:
        return None
    # influxd 1.6 leaves both names empty in a manifest of a single shard.
    same = (found.entry.database or parsed.database, found.entry.policy or parsed.policy)
    return found if same == (parsed.database, parsed.policy) else None


def _parsed(key: str) -> ShardKey | None:
    """None: the key is not a shard's; in the UI a partition of any name can be added."""
    try:
        return ShardKey.parse(key)
    except UsageError:
        return None
