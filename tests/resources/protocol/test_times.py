from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply
from resources.protocol.times import format_time, parse_time


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_577_934_245_000_000_000, "2020-01-02T03:04:05Z"),
        (1_577_934_245_120_000_000, "2020-01-02T03:04:05.12Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (-(2**63), "1677-09-21T00:12:43.145224192Z"),
    ],
)
def test_times_are_written_as_go_writes_them(time_ns: int | None, text: str) -> None:
    assert format_time(time_ns) == text
    assert parse_time(text, "time") == time_ns


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_nanosecond_survives(time_ns: int) -> None:
    assert parse_time(format_time(time_ns), "time") == time_ns


def test_offsets_count() -> None:
    assert parse_time("2020-01-02T04:34:05+01:30", "time") == 1_577_934_245_000_000_000
    assert parse_time("2020-01-02T03:04:04-00:00", "time") == 1_577_934_244_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2020-01-02",
        "2020-01-02 03:04:05Z",
        "2020-01-02T03:04:05",
        "2020-02-30T03:04:05Z",
        "2020-01-02T25:04:05Z",
        "2020-01-02T03:04:61Z",
        "2020-01-02T03:04:05.Z",
        "2020-01-02T03:04:05.1234567890Z",
        "2020-01-02T03:04:05+24:00",
        "2020-01-02T03:04:05Z\n",
        "٢٠٢٠-01-02T03:04:05Z",
        "0000-01-02T03:04:05Z",
    ],
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(BadReply, match=r"^Since "):
        parse_time(text, "Since")
