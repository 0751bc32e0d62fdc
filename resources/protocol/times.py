"""RFC 3339 times with nanoseconds, as Go's encoding/json writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from resources.errors import BadReply

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: "unset" on the wire, `None` in our values."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_NS_PER_S = 1_000_000_000
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


def format_time(time_ns: int | None) -> str:
    """Write nanoseconds since 1970 like Go's time.RFC3339Nano in UTC; `None` is the zero time.

    The years 1 to 9999 can be written, which is more than int64 nanoseconds cover.

    Source: Go, time.Time.MarshalJSON (a fraction has no trailing zeros).
    """
    if time_ns is None:
        return ZERO_TIME
    seconds, fraction = divmod(time_ns, _NS_PER_S)
    whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{whole}{digits}Z"


def parse_time(text: str, name: str) -> int | None:
    """Read an RFC 3339 time with up to nine fractional digits; the zero time is `None`.

    Raises:
        BadReply: the text has another form.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise BadReply(f"{name} is not an RFC 3339 time: {text[:40]!r}")
    date, fraction, sign, hours, minutes = match.groups()
    try:
        since = datetime.fromisoformat(date) - _NAIVE_EPOCH  # a third of the time of `datetime(…)`
    except ValueError:
        raise BadReply(f"{name} is not a time of any calendar: {text[:40]!r}") from None
    offset_s = 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise BadReply(f"{name} has an impossible offset: {text[:40]!r}")
        offset_s = int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60)
    seconds = since.days * 86400 + since.seconds - offset_s
    time_ns = seconds * _NS_PER_S + (int(fraction.ljust(9, "0")) if fraction else 0)
    return None if time_ns == _ZERO_NS else time_ns


_ZERO_NS = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * _NS_PER_S
