"""Counts and times of a whole TSM file."""

from __future__ import annotations

from msgspec import Struct


class TSMFacts(Struct, frozen=True):
    """Counts and times of a whole TSM file."""

    size_bytes: int
    keys: int
    """Pairs of series and field."""
    series: int
    blocks: int
    points: int | None
    """Values of all keys; None if the blocks were not read."""
    min_time_ns: int
    max_time_ns: int
