"""The campaign of restores into a cluster that lives, a short one, on an embedded cluster."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.living import FAULTS, Campaign
from tests.processes import ForkServer
from tests.wire.any_cluster import BIND, first_cluster


@pytest.mark.fault(73)
def test_nothing_of_others_is_lost_by_restores_and_overwrites(
    tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BIND, raising=False)
    with first_cluster(tmp_path / "cluster") as cluster:
        campaign = Campaign(cluster, fork_server, random.Random(3), tmp_path)
        events = [*campaign.restores(len(FAULTS)), *campaign.overwrites(2)]
    assert any("exit 0" in line for line in events)
