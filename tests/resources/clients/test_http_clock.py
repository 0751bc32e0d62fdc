"""A server's clock, from the Date header of its reply; a hostile header is no clock."""

from __future__ import annotations

import pytest

from resources.clients.http_clock import clock_ns


def test_the_clock_is_a_second_behind_the_header() -> None:
    """The header is cut to a second, so a file's time may lie up to a second before it."""
    headers = {"Date": "Sun, 22 Nov 2026 09:51:00 GMT"}
    assert clock_ns(headers) == (1_795_341_060 - 1) * 10**9


def test_another_zone_is_the_same_moment() -> None:
    east = {"Date": "Sun, 22 Nov 2026 10:51:00 +0100"}
    assert clock_ns(east) == clock_ns({"Date": "Sun, 22 Nov 2026 09:51:00 GMT"})


@pytest.mark.parametrize(
    "date",
    ["", "yesterday", "Mon, 01 Jan 2026 99:00:00 GMT", "1 Jan 20 00:00:00 +99999999999", "\xff\n"],
)
def test_what_is_no_date_is_no_clock(date: str) -> None:
    assert clock_ns({"Date": date}) is None


def test_without_the_header_there_is_no_clock() -> None:
    assert clock_ns({}) is None
