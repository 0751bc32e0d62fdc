"""A server's clock, from the headers of its reply."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_NS_PER_S = 1_000_000_000


def clock_ns(headers: Mapping[str, str]) -> int | None:
    """The Date header minus one second, by which it may be ahead of file times; None without it."""
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return (int(date.timestamp()) - 1) * _NS_PER_S
