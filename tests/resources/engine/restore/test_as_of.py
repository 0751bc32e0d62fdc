"""A moment is a backup's name or an ISO 8601 time, in UTC unless it says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from resources.engine.restore.as_of import parse_moment
from resources.errors import UsageError

AT = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "20261122T095100Z",
        "2026-11-22T09:51:00Z",
        "2026-11-22T09:51:00",
        "2026-11-22 09:51",
        "2026-11-22T10:51:00+01:00",
        "2026-11-22T04:21:00-05:30",
    ],
)
def test_every_spelling_of_a_moment_is_the_same_moment(text: str) -> None:
    moment = parse_moment(text)
    assert moment == AT
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "latest", "20261322T095100Z", "2026-02-30", "0001-01-01T00:00:00+23:59", "a\n"]
)
def test_what_is_no_time_is_refused_with_both_spellings(text: str) -> None:
    with pytest.raises(UsageError, match="is no time") as refused:
        parse_moment(text)
    assert "20261122T095100Z" in refused.value.hint
    assert "\n" not in refused.value.what
