"""Durations as operators write them: `10s`, `1h30m`, `7d`, `0s`."""

from __future__ import annotations

import re

from resources.errors import UsageError, shown

_UNITS_NS = {
    "ns": 1,
    "u": 1_000,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|u|s|m|h|d|w)")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go or InfluxQL duration; `INF` is 0, which a policy reads as no expiry.

    Raises:
        UsageError: the text is neither.
    """
    if text.upper() == "INF":
        return 0
    at, total = 0, 0.0
    while match := _PART.match(text, at):
        total += float(match[1]) * _UNITS_NS[match[2]]
        at = match.end()
    if not text or at != len(text) or total >= 1 << 63:
        raise UsageError(
            f"{shown(text)} is not a duration", hint="write 10s, 90m, 12h, 7d, or 0s for no limit"
        )
    return round(total)
