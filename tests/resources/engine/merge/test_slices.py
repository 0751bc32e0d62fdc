"""Time ranges of a measurement, and the statements about them."""

from __future__ import annotations

import itertools

import pytest

from resources.engine.merge.slices import (
    MAX_TIME_NS,
    MIN_TIME_NS,
    Span,
    Table,
    copy_statement,
    count_statement,
)

HOSTILE = 'm"; DROP DATABASE "x\\\n'


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000, 10**9])
@pytest.mark.parametrize("span", [Span(0, 1), Span(-5, 5), Span(-1, 1000), Span(10, 17)])
def test_parts_cover_a_span_without_gap_or_overlap(span: Span, n: int) -> None:
    parts = list(span.parts(n))
    assert parts[0].start_ns == span.start_ns
    assert parts[-1].end_ns == span.end_ns
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(parts))
    assert not any(part.empty for part in parts)
    assert len(parts) == min(n, span.end_ns - span.start_ns)
    lengths = {part.end_ns - part.start_ns for part in parts}
    assert max(lengths) - min(lengths) <= 1


def test_all_of_time_has_exact_halves() -> None:
    halves = list(Span(-(2**63), 2**63).parts(2))
    assert halves == [Span(-(2**63), 0), Span(0, 2**63)]


def test_a_span_within_bounds_is_what_both_have() -> None:
    span = Span(10, 20)
    assert span.within(None, None) == span
    assert span.within(5, 25) == span
    assert span.within(12, None) == Span(12, 20)
    assert span.within(None, 18) == Span(10, 18)
    assert span.within(0, 0) == Span(10, 0)
    assert span.within(20, None).empty
    assert span.within(None, 10).empty
    assert span.within(0, 0).empty
    assert not span.within(19, 20).empty


def test_the_ends_of_time_are_numbers_that_the_server_takes() -> None:
    assert Span(5, 9).condition == "time >= 5 AND time < 9"
    assert Span(-(2**63), 0).condition == f"time >= {MIN_TIME_NS} AND time < 0"
    last = Span(0, 2**63).condition
    assert last == f"time >= 0 AND time <= {MAX_TIME_NS}"
    assert Span(0, MAX_TIME_NS).condition == f"time >= 0 AND time < {MAX_TIME_NS}"


def test_a_statement_names_its_table_and_its_time() -> None:
    table, span = Table("d b", "r", "m"), Span(5, 9)
    where = "WHERE time >= 5 AND time < 9"
    assert count_statement(table, span) == f'SELECT count(*) FROM "d b"."r"."m" {where}'
    assert copy_statement(table, span, database="live", policy="p q") == (
        f'SELECT * INTO "live"."p q".:MEASUREMENT FROM "d b"."r"."m" {where} GROUP BY *'
    )


def test_a_name_cannot_leave_its_quotes() -> None:
    quoted = '"m\\"; DROP DATABASE \\"x\\\\\\n"'
    counting = count_statement(Table(HOSTILE, HOSTILE, HOSTILE), Span(0, 1))
    assert f"{quoted}.{quoted}.{quoted} WHERE" in counting
    copying = copy_statement(Table("a", "b", "c"), Span(0, 1), database=HOSTILE, policy=HOSTILE)
    assert f"INTO {quoted}.{quoted}.:MEASUREMENT FROM" in copying
