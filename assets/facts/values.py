"""What all events share: metadata, times, places."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from resources.model import ShardPlace

Metadata = dict[str, Any]


def instant(ns: int | None) -> str:
    """An InfluxDB time in UTC, to the second; what calendars do not reach stays a number."""
    if ns is None:
        return "-"
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"


def stamp(ns: int | None) -> str:
    """The same as backups are named, for tables: browsers break lines at spaces and hyphens."""
    return instant(ns).replace(" UTC", "Z").replace(" ", "T").replace("-", "").replace(":", "")


def place_facts(place: ShardPlace) -> Metadata:
    return {
        "database": place.database,
        "retention_policy": place.policy,
        "shard_id": int(place.shard_id),
        "group_start": instant(place.group.start_time_ns),
        "group_end": instant(place.group.end_time_ns),
    }
