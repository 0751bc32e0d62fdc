"""A few lives of `make model`, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.model import lives
from tests.faults.places import PLACES
from tests.processes import ForkServer


@pytest.mark.fault(26, 67)
@pytest.mark.parametrize("place", [pytest.param("influxd", marks=pytest.mark.wire), "dev cluster"])
def test_what_is_restored_is_what_was_there_whatever_happened_before(
    tmp_path: Path, fork_server: ForkServer, place: str
) -> None:
    with PLACES[place](tmp_path) as opened:
        done = lives(opened, fork_server, 4, steps=7, first=None)
    assert min(done[what] for what in ("backups", "restores", "points restored")) > 0
    assert done["backups killed"] + done["restores killed"] > 0
