"""A frame from a backup is what a real server answers once the backup is restored there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.frames import check, databases
from tests.influxd import Influxd

pytestmark = pytest.mark.wire


def test_frames_have_the_values_and_types_of_select(
    source: Influxd, target: Influxd, backups: Path
) -> None:
    """`make frames N=300` tries more."""
    compared: list[int] = []
    databases(3, 1, lambda written: compared.append(check(source, target, backups, written)))
    assert sum(compared) > 10
