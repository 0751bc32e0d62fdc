"""A few turns of `make torture`, with a new seed each time; a failure tells it."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.faults.torture import torture


@pytest.mark.fault(26, 46, 47, 50, 63)
@pytest.mark.parametrize(
    "places",
    [pytest.param(("influxd",), marks=pytest.mark.wire), ("dev server", "dev cluster")],
    ids=", ".join,
)
def test_kills_flips_and_cuts_at_random_lose_nothing(
    tmp_path: Path, places: tuple[str, ...]
) -> None:
    seed = secrets.randbits(32)
    lines: list[str] = []
    try:
        lines.extend(torture(4, seed=seed, directory=tmp_path, names=places))
    except AssertionError as failure:
        failure.add_note(f"seed {seed}, after {len(lines)} turns")
        raise
    assert len(lines) == (4 + 1) + (2 + 1) * 3
