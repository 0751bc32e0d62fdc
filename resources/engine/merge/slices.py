"""A time span of one measurement, and its statements. Pure: values in, text out.

Slices lie within one shard group, so a field has one type in each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from msgspec import Struct

from resources.protocol.influxql import quote_identifier

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
MIN_TIME_NS = -(2**63) + 2
MAX_TIME_NS = 2**63 - 2
"""The first and the last instant of InfluxDB (models, MinNanoTime and MaxNanoTime)."""


class Table(Struct, frozen=True):
    """A measurement in a policy of a database."""

    database: str
    policy: str
    measurement: str

    def __str__(self) -> str:
        names = (self.database, self.policy, self.measurement)
        return ".".join(quote_identifier(name) for name in names)


class Span(Struct, frozen=True):
    """From `start_ns`, inclusive, to `end_ns`, exclusive."""

    start_ns: int
    end_ns: int

    @property
    def empty(self) -> bool:
        return self.end_ns <= self.start_ns

    def overlaps(self, other: Span) -> bool:
        return self.start_ns < other.end_ns and other.start_ns < self.end_ns

    def within(self, start_ns: int | None, end_ns: int | None) -> Span:
        """The intersection; may be empty."""
        return Span(
            self.start_ns if start_ns is None else max(self.start_ns, start_ns),
            self.end_ns if end_ns is None else min(self.end_ns, end_ns),
        )

    def parts(self, n: int) -> Iterator[Span]:
        """At most `n` parts of about the same length, none of them empty."""
        length = self.end_ns - self.start_ns
        n = max(1, min(n, length))
        edges = [self.start_ns + length * i // n for i in range(n + 1)]
        for start_ns, end_ns in itertools.pairwise(edges):
            yield Span(start_ns, end_ns)

    @property
    def condition(self) -> str:
        """A WHERE clause; the server cannot compare with its own last instant."""
        start_ns = max(self.start_ns, MIN_TIME_NS)
        if self.end_ns > MAX_TIME_NS:
            return f"time >= {start_ns} AND time <= {MAX_TIME_NS}"
        return f"time >= {start_ns} AND time < {self.end_ns}"


def count_statement(table: Table, span: Span) -> str:
    """Count the values of each field."""
    return f"SELECT count(*) FROM {table} WHERE {span.condition}"  # noqa: S608 - names are quoted


def copy_statement(source: Table, span: Span, *, database: str, policy: str) -> str:
    """Copy every value into the measurement of the same name; GROUP BY * keeps tags as tags."""
    into = f"{quote_identifier(database)}.{quote_identifier(policy)}.:MEASUREMENT"
    return f"SELECT * INTO {into} FROM {source} WHERE {span.condition} GROUP BY *"  # noqa: S608
