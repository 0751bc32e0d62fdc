"""Types of flags that click does not have."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from resources.errors import UsageError
from resources.protocol.durations import parse_duration

GO_INTEGER = re.compile(
    r"0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*"
)
"""The Go Programming Language Specification, "Integer literals"; ASCII alone."""
MAX_DIGITS = 100


class Integer(click.IntRange):
    """A number as Go's `flag` package reads it: `31`, `0x1f`, `0o37`, `037`, `0b11111`, `3_1`."""

    name = "integer"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        return super().convert(value if isinstance(value, int) else self._read(value), param, ctx)

    def _read(self, text: object) -> int:
        if not (isinstance(text, str) and len(text) <= MAX_DIGITS and GO_INTEGER.fullmatch(text)):
            self.fail(f"{str(text)[:MAX_DIGITS]!a} is not a number from 0 on")
        digits = text.replace("_", "")
        octal = len(digits) > 1 and digits.isdecimal() and digits[0] == "0"
        return int(digits, 8) if octal else int(digits, 0)


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
        from resources.engine.restore.as_of import parse_moment  # few commands have a time

        try:
            return parse_moment(str(value))
        except UsageError as error:
            self.fail(f"{error.what}; {error.hint}", param, ctx)


def nanoseconds(moment: datetime | None) -> int | None:
    """A time in InfluxDB's nanoseconds, from a datetime with whole microseconds."""
    if moment is None:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
