"""Times, spans and sizes as people read them in the UI."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.metadata.common import for_people, instant, place_facts, stamp, utc
from tests import builders as b

AT = 1_795_341_060 * 10**9


def test_an_instant_is_in_utc_and_to_the_second() -> None:
    assert instant(AT + 999_999_999) == "2026-11-22 09:51:00 UTC"
    assert instant(-1) == "1969-12-31 23:59:59 UTC"
    assert instant(None) == "-"
    assert utc(AT / 1e9) == instant(AT)


@pytest.mark.parametrize("ns", [-(2**63), 2**63 - 1])
def test_the_first_and_the_last_instant_of_influxdb_have_a_date(ns: int) -> None:
    assert instant(ns).endswith(" UTC")


def test_what_no_calendar_reaches_stays_a_number() -> None:
    assert instant(10**21) == f"{10**21} ns"
    assert instant(-(10**30)) == f"-{10**30} ns"


def test_a_stamp_has_nothing_at_which_a_browser_breaks_a_line() -> None:
    assert stamp(AT) == "20261122T095100Z"
    assert stamp(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (-5, "0 seconds"),
        (0.4, "0 seconds"),
        (1, "1 second"),
        (59.4, "59 seconds"),
        (59.6, "1 minute"),
        (61, "1 minute"),
        (120, "2 minutes"),
        (3600, "1 hour"),
        (5400, "1 hour 30 minutes"),
        (3601, "1 hour"),
        (86_400, "1 day"),
        (90_000, "1 day 1 hour"),
        (86_460, "1 day 1 minute"),
        (30 * 86_400 + 7200 + 60, "30 days 2 hours"),
    ],
)
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert for_people(seconds) == text


@settings(max_examples=40)
@given(st.floats(0, 1e9))
def test_no_span_has_more_than_two_units_or_reads_zero_of_any(seconds: float) -> None:
    words = for_people(seconds).split()
    assert len(words) in (2, 4)
    assert "0" not in words[::2] or words == ["0", "seconds"]


def test_a_shard_is_described_by_names_and_times_and_its_number_is_text() -> None:
    assert place_facts(b.place(2**53 + 1, start_ns=AT, length_ns=b.HOUR_NS)) == {
        "database": "db",
        "retention_policy": "autogen",
        "shard_id": "9007199254740993",  # a number would be rounded by browsers
        "group_start": "2026-11-22 09:51:00 UTC",
        "group_end": "2026-11-22 10:51:00 UTC",
    }
