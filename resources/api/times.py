"""Times as callers of the Python API give them, in InfluxDB's nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

from resources.engine.restore.as_of import parse_moment
from resources.errors import UsageError

Time: TypeAlias = datetime | str | int
"""An aware datetime or pandas Timestamp, a text as `2020-09-14T00:00:00Z`, or nanoseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_of(time: datetime | str) -> datetime:
    """A time as an aware datetime.

    Raises:
        UsageError: it has no time zone, or the text is no time.
    """
    moment = parse_moment(time) if isinstance(time, str) else time
    if moment.utcoffset() is None:
        raise UsageError(
            f"the time {moment} has no time zone", hint="write datetime(2020, 9, 14, tzinfo=UTC)"
        )
    return moment


def nanoseconds_of(time: Time) -> int:
    """A time in nanoseconds since 1970; raises as `moment_of`."""
    if isinstance(time, int):
        return time
    moment = moment_of(time)
    since = moment - _EPOCH
    # A pandas Timestamp is a datetime that has nanoseconds, too.
    return (
        (since.days * 86_400 + since.seconds) * 1_000_000_000
        + since.microseconds * 1_000
        + int(getattr(moment, "nanosecond", 0))
    )
