"""docs/faults.md says what the markers of the tests say, and every row of the first gate is in."""

from __future__ import annotations

import re

from tests.faults.rows import FIRST_GATE, LIMITS, ROWS
from tests.faults.table import DOCUMENT, INTRODUCTION, UNTESTED, by_row, marked, render

LINE = re.compile(r"\| \**(\d+)\** \| (.*?) \| (.*?) \| (.*?) \|")


def lines() -> dict[int, tuple[str, str, str]]:
    found = [LINE.fullmatch(line) for line in DOCUMENT.read_text().splitlines()]
    return {int(m[1]): (m[2], m[3], m[4]) for m in found if m is not None}


def test_markers_name_rows_that_there_are() -> None:
    assert set(by_row(marked())) <= set(ROWS)
    assert set(LIMITS) <= set(ROWS)


def test_every_row_of_the_first_gate_is_tested_or_misses_its_feature() -> None:
    bare = FIRST_GATE - set(by_row(marked()))
    owed = [row for row in sorted(bare) if "no such feature yet" not in LIMITS.get(row, "")]
    assert owed == []


def test_the_document_names_the_tests_of_each_row_and_no_others() -> None:
    expected = {
        int(m[1]): (m[2], m[3])
        for line in render({}).splitlines()
        if (m := LINE.fullmatch(line)) is not None
    }
    assert {row: (what, tests) for row, (what, tests, _) in lines().items()} == expected
    assert sorted(expected) == sorted(ROWS)


def test_the_document_begins_with_the_introduction_that_is_written_anew() -> None:
    assert DOCUMENT.read_text().startswith(INTRODUCTION)


def test_the_document_claims_nothing_but_passes() -> None:
    for row, (_, tests, result) in lines().items():
        assert "failed" not in result, row
        assert "not run" not in result, row
        assert bool(tests) == ("passed" in result or "skipped" in result), row
        assert bool(tests) != (UNTESTED in result), row
