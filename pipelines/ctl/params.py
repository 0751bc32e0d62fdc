"""Types of flags that click does not have."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from resources.engine.restore.as_of import parse_moment
from resources.errors import UsageError
from resources.protocol.durations import parse_duration


class Duration(click.ParamType):
    """`10s`, `7d`; the value is nanoseconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_duration(str(value))
        except UsageError as error:
            self.fail(f"{error.what}; {error.hint}", param, ctx)


class Instant(click.ParamType):
    """`20261122T095100Z`, or `2026-11-22T09:51:00Z`; the value is an aware datetime."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(str(value))
        except UsageError as error:
            self.fail(f"{error.what}; {error.hint}", param, ctx)


def nanoseconds(moment: datetime | None) -> int | None:
    """InfluxDB's time of a datetime of whole microseconds."""
    if moment is None:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
