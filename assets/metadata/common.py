"""Common parts of the metadata: times, sizes, places."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from resources.errors import counted
from resources.model import ShardPlace

Metadata = dict[str, Any]


def instant(ns: int | None) -> str:
    """An InfluxDB time in UTC, to the second; a time outside the calendar stays a number."""
    if ns is None:
        return "-"
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"


def stamp(ns: int | None) -> str:
    """The same in the form of backup names, for tables: browsers break at spaces and hyphens."""
    return instant(ns).replace(" UTC", "Z").replace(" ", "T").replace("-", "").replace(":", "")


def place_facts(place: ShardPlace) -> Metadata:
    return {
        "database": place.database,
        "retention_policy": place.policy,
        "shard_id": str(place.shard_id),
        "group_start": instant(place.group.start_time_ns),
        "group_end": instant(place.group.end_time_ns),
    }


def utc(seconds: float) -> str:
    """A time from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def for_people(seconds: float) -> str:
    """A duration in its two largest units: 2 minutes, 1 hour 30 minutes."""
    left = max(0, round(seconds))
    words: list[str] = []
    for unit, length in ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1):
        count, left = divmod(left, length)
        if count:
            words.append(counted(count, unit))
        if len(words) == 2 or (words and unit == "minute"):
            break
    return " ".join(words) or "0 seconds"
