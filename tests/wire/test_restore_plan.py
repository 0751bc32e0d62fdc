"""`restore -plan` tells what will be, and everything that is in the way; nothing is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from tests.influxd import Influxd
from tests.wire.commands import Done, at, backup, shardkeeper

WEEK_NS = 604_800 * 10**9
T0 = 1_600_000_000 * 10**9


def plan(server: Influxd, directory: Path, *flags: object) -> tuple[Done, dict[str, Any]]:
    done = shardkeeper("restore", *at(server), "-plan", "-json", *flags, directory)
    return done, json.loads(done.out)


@pytest.fixture
def db(source: Influxd, backups: Path, fresh: Callable[[], str]) -> str:
    name = fresh()
    source.create_database(name)
    source.write(name, [f"m v={week} {T0 + week * WEEK_NS}" for week in range(3)])
    source.query(f'CREATE RETENTION POLICY "days" ON "{name}" DURATION INF REPLICATION 1')
    source.write(name, f"n v=1 {T0}", rp="days")
    backup(source, backups, "-db", name)
    return name


@pytest.mark.wire
def test_a_server_gives_the_numbers_that_the_plan_reported(
    source: Influxd, target: Influxd, backups: Path, db: str, fresh: Callable[[], str]
) -> None:
    flags = ("-db", db, "-newdb", fresh())
    done, output = plan(target, backups, *flags)
    assert done, done
    assert output["version"] == 1
    assert output["possible"] is True
    assert output["target"]["kind"] == "server"
    assert [shard["points"] for shard in output["shards"]] == [1, 1, 1, 1]
    assert all(shard["expires"] is None for shard in output["shards"])
    assert output["totals"]["copied_bytes"] == output["totals"]["size_bytes"] > 0
    events = {shard["shard"]: shard["new_shard"] for shard in output["shards"]}
    done = shardkeeper("restore", *at(target), *flags, backups)
    assert done, done
    became = re.findall(r"Restored shard (\d+) into shard (\d+)", done.out)
    assert {int(old): int(new) for old, new in became} == events


@pytest.mark.wire
def test_all_that_is_in_the_way_is_reported_at_once(
    source: Influxd, backups: Path, db: str
) -> None:
    done, output = plan(source, backups, "-db", db, "-newduration", "2d")
    assert done.code != 0
    assert output["possible"] is False
    whats = [conflict["what"] for conflict in output["conflicts"]]
    assert len(whats) == 2
    assert "4 of 4 shards are older" in whats[0]
    assert "non-empty server" in whats[1]
    assert {conflict["status"] for conflict in output["conflicts"]} == {14}
    assert [shard["expired"] for shard in output["shards"]] == [True] * 4
    assert output["shards"][0]["expires"] == "2020-09-16T00:00:00Z"
    table = shardkeeper("restore", *at(source), "-plan", "-db", db, backups)
    assert table.code == 14
    assert "conflict: problem setting snapshot" in table.out
    assert "nothing was changed" in table.out


def test_a_cluster_gives_the_owners_and_numbers_that_the_plan_reported(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=3) as cluster:
        bind = ("-bind", cluster.meta[0].http_addr)
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        cluster.write("telegraf", f"m v=1 {T0}\nm v=2 {T0 + WEEK_NS}")
        assert shardkeeper(*bind, "backup", backups)
        flags = ("-db", "telegraf", "-newdb", "again", "-newrf", 3)
        done = shardkeeper(*bind, "restore", "-plan", "-json", *flags, backups)
        assert done, done
        output = json.loads(done.out)
        assert output["totals"]["copied_bytes"] == 3 * output["totals"]["size_bytes"]
        assert shardkeeper(*bind, "restore", *flags, backups)
        _, now = MetaClient(bind[1]).metastore()
        owners = {
            place.shard_id: sorted(owner.node_id for owner in place.shard.owners)
            for place in now.places()
            if place.database == "again"
        }
        events = {
            shard["new_shard"]: sorted(owner["node"] for owner in shard["owners"])
            for shard in output["shards"]
        }
        assert events.items() <= owners.items()
        assert len(events) == 2


def test_json_goes_with_a_plan_only(tmp_path: Path) -> None:
    done = shardkeeper("restore", "-json", tmp_path)
    assert done.code == 2
    assert "-json goes with -plan" in done.err
