"""Durations as operators write them."""

from __future__ import annotations

import pytest

from resources.errors import UsageError
from resources.protocol.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0s", 0),
        ("INF", 0),
        ("10s", 10**10),
        ("1h30m", 5400 * 10**9),
        ("7d", 604_800 * 10**9),
        ("2w", 1_209_600 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("100ms", 10**8),
    ],
)
def test_go_and_influxql_durations_are_understood(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "7", "d", "-1s", "7 d", "1h30", "999999999w"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert "7d" in caught.value.hint
