"""Restores in Dagster: what comes back, what is recorded, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from resources.cluster import TargetResource
from resources.errors import UsageError
from tests.influxd import Influxd
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, at, failure, fill, write
from tests.wire.points import count, points

pytestmark = pytest.mark.wire


@pytest.fixture
def target(influxd_factory: Callable[..., Influxd]) -> Influxd:
    return influxd_factory()


@pytest.fixture
def harness(
    source: Influxd, target: Influxd, tmp_path: Path, instance: dg.DagsterInstance
) -> DagsterHarness:
    return DagsterHarness(tmp_path, instance, at(source), target=at(target))


def databases(server: Influxd) -> list[str]:
    [result] = server.query("SHOW DATABASES")
    return [name for series in result["series"] for [name] in series.get("values", [])]


def restore(harness: DagsterHarness, **config: Any) -> dg.ExecuteInProcessResult:
    return harness.run("restore_influxdb", **config)


def test_a_database_comes_back_under_a_new_name_with_every_point(
    source: Influxd, target: Influxd, harness: DagsterHarness
) -> None:
    target.create_database("already there")  # so that shard ids differ
    target.write("already there", "m v=1 1")
    fill(source, "telegraf", weeks=range(3))
    fill(source, "other", weeks=[0])
    harness.back_up()
    assert restore(harness, db="telegraf", newdb="copy").success
    assert points(target, "copy") == points(source, "telegraf")
    assert count(points(target, "copy")) == 30
    assert databases(target) == ["already there", "copy"]

    [meta] = harness.events(CLUSTER_ASSETS.restored_meta)
    assert meta.metadata["target"].value == target.bind_addr
    rows = [record.data for record in meta.metadata["shards_restored"].records]
    assert [(row["shard"], row["new shard"]) for row in rows] == [(1, 2), (2, 3), (3, 4)]
    assert {row["read back"] for row in rows} <= {"identical", "same points"}
    for shard in (1, 2, 3):
        partition = f"telegraf/autogen/{shard}"
        [restored] = harness.events(CLUSTER_ASSETS.restored_shards, partition)
        [backup] = harness.events(CLUSTER_ASSETS.shard_backup, partition)
        assert restored.tags["dagster/data_version"] == backup.tags["dagster/data_version"]
        assert restored.tags["dagster/input_event_pointer/influxdb/shard_backup"].isdigit()
    assert harness.events(CLUSTER_ASSETS.restored_shards, "other/autogen/4") == []


def test_an_earlier_state_comes_back_by_its_time(
    source: Influxd, target: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0], value=1.0)
    harness.back_up()
    before = points(source, "telegraf")
    [point] = harness.events(CLUSTER_ASSETS.backup_set)
    write(source, "telegraf", weeks=[0], value=2.0)
    harness.back_up()
    assert restore(harness, as_of=point.metadata["restore_point"].value).success
    assert points(target, "telegraf") == before


def test_a_dry_run_shows_the_plan_and_changes_nothing(
    source: Influxd, target: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    assert restore(harness, dry_run=True).success
    assert databases(target) == []
    assert harness.events(CLUSTER_ASSETS.restored_meta) == []
    [seen] = harness.instance.fetch_observations(CLUSTER_ASSETS.restored_meta, limit=10).records
    assert seen.asset_observation is not None
    plan = seen.asset_observation.metadata["plan"]
    assert isinstance(plan, dg.TableMetadataValue)
    assert [record.data["to"] for record in plan.records] == ["telegraf.autogen"] * 2


def test_a_restore_into_the_source_must_be_allowed(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    harness.back_up()
    same = {"cluster": "", "host": source.bind_addr, "http": source.http_addr}
    wanted = {"db": "telegraf", "newdb": "copy"}
    refused = failure(restore(harness, target=same, **wanted))
    assert "is the server that this backup was taken from" in refused.description
    assert refused.metadata["exit_code"].value == "CONFLICT"
    allowed = restore(harness, target=same, allow_same_server=True, **wanted)
    assert allowed.success
    assert points(source, "copy") == points(source, "telegraf")


def test_no_click_on_assets_restores_or_makes_the_last_restore_red(
    source: Influxd, target: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    harness.back_up()
    assert restore(harness, db="telegraf", newdb="copy").success
    node = harness.defs.resolve_asset_graph().get(CLUSTER_ASSETS.restored_meta)
    assert not node.is_materializable  # so there is no such button, and "all" leaves it out
    assert harness.materialize(CLUSTER_ASSETS.restored_meta).success  # that is *Observe*
    assert not restore(harness, db="mistyped", dry_run=True).success
    assert not restore(harness, db="telegraf", newdb="copy").success  # it is there already
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    restores = [run for run in harness.instance.get_runs() if run.job_name == "restore_influxdb"]
    assert len(restores) == 3
    for run in restores:
        records = harness.instance.get_records_for_run(run.run_id, of_type=planned).records
        assert CLUSTER_ASSETS.restored_meta not in {one.asset_key for one in records}
    assert len(harness.events(CLUSTER_ASSETS.restored_meta)) == 1
    [failed, observed, *_] = observations(harness)
    assert (failed["outcome"].value, failed["why"].value.partition("\n")[0]) == (
        "failed",
        f"{target.bind_addr} has 'copy' already",
    )
    assert observed["restore_points_since"].value == 0
    harness.back_up(full=True)
    harness.materialize(CLUSTER_ASSETS.restored_meta)
    assert observations(harness)[0]["restore_points_since"].value == 1
    assert databases(target) == ["copy"]
    harness.backups.rename(harness.backups.with_name("not mounted"))
    assert harness.materialize(CLUSTER_ASSETS.restored_meta).success


def observations(harness: DagsterHarness) -> list[Any]:
    found = harness.instance.fetch_observations(CLUSTER_ASSETS.restored_meta, limit=20).records
    return [one.asset_observation.metadata for one in found if one.asset_observation]


@pytest.mark.parametrize("job", ["restore_influxdb", "merge_influxdb"])
def test_who_does_not_say_dry_run_false_gets_a_plan_however_it_is_launched(
    job: str, source: Influxd, target: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    harness.back_up()
    found = harness.defs.resolve_job_def(job)
    [op] = (found.run_config or {})["ops"]
    asked: dict[str, Any] = {"db": "telegraf"}
    if job.startswith("restore"):
        asked |= {"newdb": "copy", "as_of": "2099-01-01T00:00:00Z"}
    launched = found.execute_in_process(
        instance=harness.instance,
        run_config={
            "ops": {op: {"config": asked}},
            "resources": {
                "target": {"config": {"host": source.bind_addr, "http": source.http_addr}}
                if job.startswith("merge")
                else {"config": {"cluster": "elsewhere"}}
            },
        },
    )
    assert launched.success
    assert databases(target) == []
    [plan] = observations(harness)
    output = plan["to_restore" if "to_restore" in plan else "to_merge"].value
    ready = yaml.safe_load(output.removeprefix("```yaml\n").removesuffix("```"))
    assert ready["ops"][op]["config"]["dry_run"] is False
    logged = " ".join(log(launched, harness))
    if job.startswith("restore"):
        assert "2099-01-01T00:00:00Z lies ahead, so it means the latest restore point" in logged
        assert ready["ops"][op]["config"]["newdb"] == "copy"
        # What was planned is what is done, as it stands there.
        done = found.execute_in_process(instance=harness.instance, run_config=ready)
        assert done.success
        assert points(target, "copy") == points(source, "telegraf")


def log(result: dg.ExecuteInProcessResult, harness: DagsterHarness) -> list[str]:
    """What a run has said."""
    entries = harness.instance.all_logs(result.run_id)
    return [entry.user_message for entry in entries if not entry.is_dagster_event]


@pytest.mark.parametrize(
    ("job", "config", "sentence"),
    [
        ("merge_influxdb", {"db": "telegraf", "points": -5}, "points is -5, which is not among 1"),
        ("merge_influxdb", {"db": "telegraf", "shard": 0}, "shard is 0, and shards are numbered"),
        ("restore_influxdb", {"db": "telegraf", "newrf": -1}, "newrf is -1, which is not among 1"),
        ("restore_influxdb", {"shard": 2, "newshard": -2}, "newshard is -2, and shards are"),
        ("restore_influxdb", {"shard": 2**80}, "shards are numbered from 1 on"),
        ("verify_influxdb", {"sample": -3.0}, "sample is -3, and a share has more than 0"),
        ("verify_influxdb", {"sample": float("nan")}, "sample is nan, and a share has"),
        ("verify_influxdb", {"parallel": 0}, "parallel is 0, which is not among 1 to 64"),
        ("back_up_influxdb", {"attempts": 0}, "attempts is 0, which is not among 1 to 100"),
        ("back_up_influxdb", {"attempts": 10**9}, "Next: write a number from 1 to 100 there"),
        ("back_up_influxdb", {"shard": -1}, "shard is -1, and shards are numbered from 1 on"),
    ],
)
def test_a_number_out_of_its_range_gets_one_sentence(
    job: str, config: dict[str, Any], sentence: str, source: Influxd, harness: DagsterHarness
) -> None:
    refused = failure(harness.run(job, **config))
    assert sentence in refused.description
    assert "\nNext: " in refused.description
    assert refused.metadata["exit_code"].value == "USAGE"
    # Dagster's frames under a sentence keep people from reading it.
    assert "Traceback" not in refused.description


@pytest.mark.parametrize("secret", [{"password": "hunter2", "user": "u"}, {"secret": "hunter2"}])
@pytest.mark.parametrize("job", ["restore_influxdb", "merge_influxdb"])
def test_a_secret_in_the_settings_of_a_run_is_refused_and_not_repeated(
    job: str, secret: dict[str, Any], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    harness = DagsterHarness(tmp_path, instance, {"host": "127.0.0.1:1"})
    there = {"cluster": "", "host": "127.0.0.1:1", **secret}
    refused = failure(harness.run(job, target=there, db="x"))
    assert "is written in plain, and a run's settings are kept" in refused.description
    assert "hunter2" not in refused.description
    assert "{env: NAME}" in refused.description


def test_a_target_that_may_be_silent_for_no_time_is_refused() -> None:
    for timeout in (0.0, -1.0, float("nan"), 1e12):
        with pytest.raises(UsageError, match="target: timeout is "):
            TargetResource(configuration="", host="127.0.0.1:1", timeout=timeout).open()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"newdb": "copy"}, "newdb needs db"),
        ({"rp": "autogen"}, "rp needs db"),
        ({"db": "telegraf", "newrp": "x"}, "newrp needs rp"),
        ({"newduration": "soon"}, "'soon' is not a duration"),
        ({"as_of": "yesterday"}, "'yesterday' is no time"),
        ({"db": "telegraf", "users": True}, "users goes with everything"),
    ],
)
def test_settings_that_contradict_each_other_get_one_sentence(
    tmp_path: Path, instance: dg.DagsterInstance, config: dict[str, str], sentence: str
) -> None:
    # Nothing listens there: settings are checked before the first request.
    harness = DagsterHarness(tmp_path, instance, {"host": "127.0.0.1:1"})
    refused = failure(restore(harness, **config))
    assert refused.description.startswith(sentence)
    assert refused.metadata["exit_code"].value == "USAGE"
