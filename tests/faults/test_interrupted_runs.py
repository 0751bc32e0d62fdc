"""A few turns of `make interrupted`, with a new seed each time; a failure tells it."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.faults.interrupted import interrupted

TURNS = 2


@pytest.mark.fault(26, 27, 46)
@pytest.mark.parametrize("place", ["dev server", "dev cluster"])
def test_runs_that_are_killed_stopped_and_signalled_beside_another_host_lose_nothing(
    tmp_path: Path, place: str
) -> None:
    seed = secrets.randbits(32)
    lines: list[str] = []
    try:
        lines.extend(interrupted(TURNS, seed=seed, directory=tmp_path, names=(place,)))
    except AssertionError as failure:
        failure.add_note(f"seed {seed}, after {len(lines)} turns")
        raise
    assert len(lines) == TURNS + 1
    assert f"{TURNS} runs interrupted" in lines[-1]
