"""What a whole TSM file holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TSMFacts:
    """What a whole TSM file holds."""

    size_bytes: int
    keys: int
    """Pairs of series and field."""
    series: int
    blocks: int
    points: int | None
    """Values of all keys; None when the blocks were not read."""
    min_time_ns: int
    max_time_ns: int
