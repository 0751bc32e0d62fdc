"""Metadata of a restore point's changes since the one before."""

from __future__ import annotations

from assets.metadata.common import Metadata
from assets.metadata.tables import frame, frame_table
from resources.engine.verify.backup_diff import SetChanges
from resources.repository.formats.manifest import ShardEntry

_COUNTS = ("tar bytes before", "tar bytes now", "values before", "values now")


def change_facts(changes: SetChanges) -> Metadata:
    """The new, changed and gone shards since the last restore point."""
    facts: Metadata = {
        "since": changes.since.removesuffix(".manifest") or "the beginning; this is the first",
        "shards_new": changes.count("new"),
        "shards_changed": changes.count("changed"),
        "shards_gone": changes.count("gone"),
    }
    if changes.unknown:
        facts["shards_gone_unknown"] = changes.unknown
    if changes.shards:
        listed = frame(
            [
                {
                    "change": change.kind,
                    "shard": int(change.shard_id),
                    "database": change.database,
                    "policy": change.policy,
                    "tar bytes before": _bytes(change.before),
                    "tar bytes now": _bytes(change.now),
                    "values before": _points(change.before),
                    "values now": _points(change.now),
                }
                for change in changes.shards
            ]
        )
        facts["changes"] = frame_table(listed.astype(dict.fromkeys(_COUNTS, "Int64")))
    return facts


def _bytes(entry: ShardEntry | None) -> int | None:
    return entry.size_bytes if entry else None


def _points(entry: ShardEntry | None) -> int | None:
    return entry.details.points if entry and entry.details else None
