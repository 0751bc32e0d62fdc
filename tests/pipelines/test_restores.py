"""Restores in Dagster: what comes back, what is recorded, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.influxd import Influxd
from tests.pipelines.world import FAMILY, World, at, failure, fill, write
from tests.wire.points import count, points

pytestmark = pytest.mark.wire


@pytest.fixture
def target(influxd_factory: Callable[..., Influxd]) -> Influxd:
    return influxd_factory()


@pytest.fixture
def world(source: Influxd, target: Influxd, tmp_path: Path, instance: dg.DagsterInstance) -> World:
    return World(tmp_path, instance, at(source), target=at(target))


def databases(server: Influxd) -> list[str]:
    [result] = server.query("SHOW DATABASES")
    return [name for series in result["series"] for [name] in series.get("values", [])]


def restore(world: World, **config: Any) -> dg.ExecuteInProcessResult:
    return world.run("restore_influxdb", **config)


def test_a_database_comes_back_under_a_new_name_with_every_point(
    source: Influxd, target: Influxd, world: World
) -> None:
    target.create_database("already there")  # so that shard ids differ
    target.write("already there", "m v=1 1")
    fill(source, "telegraf", weeks=range(3))
    fill(source, "other", weeks=[0])
    world.back_up()
    assert restore(world, db="telegraf", newdb="copy").success
    assert points(target, "copy") == points(source, "telegraf")
    assert count(points(target, "copy")) == 30
    assert databases(target) == ["already there", "copy"]

    [meta] = world.events(FAMILY.restored_meta)
    assert meta.metadata["target"].value == target.bind_addr
    rows = [record.data for record in meta.metadata["shards_restored"].records]
    assert [(row["shard"], row["new shard"]) for row in rows] == [(1, 2), (2, 3), (3, 4)]
    assert {row["read back"] for row in rows} <= {"identical", "same points"}
    for shard in (1, 2, 3):
        partition = f"telegraf/autogen/{shard}"
        [restored] = world.events(FAMILY.restored_shards, partition)
        [backup] = world.events(FAMILY.shard_backup, partition)
        assert restored.tags["dagster/data_version"] == backup.tags["dagster/data_version"]
        assert restored.tags["dagster/input_event_pointer/influxdb/shard_backup"].isdigit()
    assert world.events(FAMILY.restored_shards, "other/autogen/4") == []


def test_an_earlier_state_comes_back_by_its_time(
    source: Influxd, target: Influxd, world: World
) -> None:
    fill(source, "telegraf", weeks=[0], value=1.0)
    world.back_up()
    before = points(source, "telegraf")
    [point] = world.events(FAMILY.backup_set)
    write(source, "telegraf", weeks=[0], value=2.0)
    world.back_up()
    assert restore(world, as_of=point.metadata["restore_point"].value).success
    assert points(target, "telegraf") == before


def test_a_dry_run_shows_the_plan_and_changes_nothing(
    source: Influxd, target: Influxd, world: World
) -> None:
    fill(source, "telegraf", weeks=range(2))
    world.back_up()
    assert restore(world, dry_run=True).success
    assert databases(target) == []
    assert world.events(FAMILY.restored_meta) == []
    [seen] = world.instance.fetch_observations(FAMILY.restored_meta, limit=10).records
    assert seen.asset_observation is not None
    plan = seen.asset_observation.metadata["plan"]
    assert isinstance(plan, dg.TableMetadataValue)
    assert [record.data["to"] for record in plan.records] == ["telegraf.autogen"] * 2


def test_a_restore_into_the_source_must_be_allowed(source: Influxd, world: World) -> None:
    fill(source, "telegraf", weeks=[0])
    world.back_up()
    same = {"cluster": "", "host": source.bind_addr, "http": source.http_addr}
    wanted = {"db": "telegraf", "newdb": "copy"}
    refused = failure(restore(world, target=same, **wanted))
    assert "is the server that this backup was taken from" in refused.description
    assert refused.metadata["exit_code"].value == "CONFLICT"
    allowed = restore(world, target=same, allow_same_server=True, **wanted)
    assert allowed.success
    assert points(source, "copy") == points(source, "telegraf")


def test_materializing_assets_never_restores(
    source: Influxd, target: Influxd, world: World
) -> None:
    fill(source, "telegraf", weeks=[0])
    world.back_up()
    refused = failure(world.materialize(FAMILY.restored_meta))
    assert "launch the job restore_influxdb" in refused.description
    everything = world.materialize(FAMILY.meta_snapshot, FAMILY.backup_set, FAMILY.restored_meta)
    assert everything.success
    assert world.events(FAMILY.restored_meta) == []
    assert databases(target) == []


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"newdb": "copy"}, "-newdb needs -db"),
        ({"rp": "autogen"}, "-rp needs -db"),
        ({"db": "telegraf", "newrp": "x"}, "-newrp needs -rp"),
        ({"newduration": "soon"}, "'soon' is no duration"),
        ({"as_of": "yesterday"}, "'yesterday' is no time"),
        ({"db": "telegraf", "users": True}, "-users goes with everything"),
    ],
)
def test_settings_that_contradict_each_other_get_one_sentence(
    tmp_path: Path, instance: dg.DagsterInstance, config: dict[str, str], sentence: str
) -> None:
    # Nobody listens there: settings are judged before anyone is called.
    world = World(tmp_path, instance, {"host": "127.0.0.1:1"})
    refused = failure(restore(world, **config))
    assert refused.description.startswith(sentence)
    assert refused.metadata["exit_code"].value == "USAGE"
