"""Every connection is cut once, and restores are killed and go on: the campaign, with few shards.

`make cuts N=300 KILLS=20` runs it with many.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need_influxd
from tests.faults.cut_off import Campaign, of_cluster, of_server
from tests.influxd import Influxd
from tests.processes import ForkServer
from tests.wire.any_cluster import first_cluster

SHARDS, KILLS, SEED = 6, 3, 7


@pytest.fixture(params=["influxd", "cluster"])
def campaign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Campaign]:
    dice = random.Random(SEED)
    if request.param == "influxd":
        need_influxd()
        with (
            Influxd(tmp_path / "server", cache_cold="10m") as server,
            of_server(server, dice, "influxd") as scene,
        ):
            yield Campaign(scene, SHARDS, dice, tmp_path)
    else:
        with (
            first_cluster(tmp_path / "cluster") as cluster,
            of_cluster(cluster, dice, "cluster") as scene,
        ):
            yield Campaign(scene, SHARDS, dice, tmp_path)


@pytest.mark.wire
@pytest.mark.fault(4, 64)
def test_backups_and_restores_survive_a_cut_of_every_connection(
    campaign: Campaign, fork_server: ForkServer
) -> None:
    campaign.backup()
    campaign.restore()
    campaign.kills(KILLS, fork_server, most_work=None)
    campaign.close()
