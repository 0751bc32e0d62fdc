"""The code location as Dagster loads it, and the jobs as its command line runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from pipelines.definitions import definitions
from resources.errors import UsageError
from tests.influxd import Influxd
from tests.pipelines.harness import at, configure, fill
from tests.wire.points import points

ROOT = Path(__file__).parents[2]


def dagster(arguments: list[str], home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return subprocess.run(
        [sys.executable, "-m", "dagster", *arguments],
        cwd=ROOT,
        env={**os.environ, "DAGSTER_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


TWO = """\
repositories:
  eu: {path: eu}
  us: {path: us}
clusters:
  eu: {bind: "127.0.0.1:1", repository: eu, objectives: {recovery_point: 1h}}
  us: {host: "127.0.0.1:2", repository: us, target: drill}
  drill: {bind: "127.0.0.1:3", user: ops, password: {env: DRILL_PASSWORD}}
"""
ASSETS = (
    *("meta_snapshot", "shards", "shard_backup", "backup_set"),
    *("restored_meta", "restored_shards"),
)


@pytest.fixture
def two(tmp_path: Path) -> dg.Definitions:
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(TWO)
    return definitions(path)


def test_each_cluster_with_a_repository_gets_a_chain_of_its_own(two: dg.Definitions) -> None:
    graph = two.resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert keys == {f"{cluster}/{name}" for cluster in ("eu", "us") for name in ASSETS}

    def parents(name: str) -> set[str]:
        return {key.path[1] for key in graph.get(dg.AssetKey(["eu", name])).parent_keys}

    assert parents("shards") == {"meta_snapshot"}
    assert parents("shard_backup") == {"shards"}
    assert parents("backup_set") == {"meta_snapshot", "shard_backup"}
    assert parents("restored_meta") == {"backup_set"}
    assert parents("restored_shards") == {"restored_meta", "shard_backup"}
    assert all(
        graph.get(key).description and graph.get(key).group_name == key.path[0]
        for key in graph.get_all_asset_keys()
    )


def test_the_recovery_point_objective_is_the_freshness_policy_of_the_backup_set(
    two: dg.Definitions,
) -> None:
    policy = two.resolve_asset_graph().get(dg.AssetKey(["eu", "backup_set"])).freshness_policy
    assert policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=1), warn_window=timedelta(minutes=45)
    )


def test_restores_go_where_the_configuration_says_and_no_secret_is_in_the_definitions(
    two: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRILL_PASSWORD", "hunter2-the-secret")

    def target(job: str) -> str:
        return two.resolve_job_def(job).run_config["resources"]["target"]["config"]["cluster"]  # type: ignore[index]

    assert (target("restore_eu"), target("restore_us")) == ("embedded", "drill")
    assert "hunter2" not in json.dumps(two.resolve_job_def("restore_us").run_config)
    for resource in (two.resources or {}).values():
        assert "hunter2" not in repr(resource)


def test_the_launchpad_describes_and_fills_in_every_setting(two: dg.Definitions) -> None:
    for job in ("back_up_eu", "back_up_eu_full", "restore_eu", "merge_eu"):
        found = two.resolve_job_def(job)
        [(op, prepared)] = (found.run_config or {})["ops"].items()
        fields = found.run_config_schema.config_type.fields["ops"].config_type.fields[op]  # type: ignore[union-attr]
        for name, field in fields.config_type.fields["config"].config_type.fields.items():
            assert field.description, f"{job}: {name} is not described"
            assert name in prepared["config"] or not field.is_required


def test_the_page_of_every_asset_that_is_backed_up_names_what_starts_backups(
    two: dg.Definitions,
) -> None:
    """Dagster lists a sensor or schedule on the pages of the assets that its jobs select."""
    for name in ("watch_eu", "missed_eu"):
        sensor = two.resolve_sensor_def(name)
        selected = {
            key
            for target in sensor.targets
            for key in two.resolve_job_def(target.job_name).asset_layer.executable_asset_keys
        }
        assert {dg.AssetKey(["eu", asset]) for asset in ("shard_backup", "backup_set")} <= selected


def test_one_press_on_materialize_or_launch_shows_a_plan_and_restores_nothing(
    two: dg.Definitions,
) -> None:
    for job in ("restore_eu", "merge_eu"):
        [prepared] = (two.resolve_job_def(job).run_config or {})["ops"].values()
        assert prepared["config"]["dry_run"] is True


def test_the_first_line_of_every_description_is_whole_in_the_catalog(two: dg.Definitions) -> None:
    for spec in two.resolve_all_asset_specs():
        first, *more = (spec.description or "").strip().split("\n\n")
        assert 20 < len(first) <= 50, first
        assert "`" not in first
        assert more


def test_an_executor_of_the_deployment_runs_the_jobs(tmp_path: Path) -> None:
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(TWO + "executor: dagster:multiprocess_executor\n")
    assert definitions(path).resolve_job_def("back_up_eu").executor_def.name == "multiprocess"
    path.write_text(TWO)
    assert definitions(path).resolve_job_def("back_up_eu").executor_def.name == "in_process"
    for name in ("nowhere:executor", "dagster:nothing", "dagster", "dagster:asset"):
        path.write_text(TWO + f"executor: {name}\n")
        found = definitions(path)  # backups go on, as without one, and it is told
        assert found.resolve_job_def("back_up_eu").executor_def.name == "in_process"
        assert "executor: " in output(found, "check_configuration")


def test_the_code_location_loads_and_says_nothing_of_its_own(tmp_path: Path) -> None:
    output = dagster(["definitions", "validate", "-w", "workspace.yaml"], tmp_path / "home")
    assert output.returncode == 0, output.stderr
    ours = [
        line
        for line in output.stderr.splitlines()
        if ("Warning" in line and str(ROOT / "assets") in line) or "BetaWarning" in line
    ]
    assert ours == []


def output(defs: dg.Definitions, name: str, cursor: str | None = None) -> str:
    """What a sensor says of itself."""
    [sensor] = [one for one in defs.sensors or () if one.name == name]
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs) as context,
    ):
        return str(sensor.evaluate_tick(context).skip_message)


def test_a_file_in_which_nothing_can_be_backed_up_is_reported_when_the_location_loads(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(TWO.replace("repository: us", "repositroy: us").replace("eu, obj", "ue, obj"))
    output = dagster(
        ["definitions", "validate", "-w", "workspace.yaml"],
        tmp_path / "home",
        SHARDKEEPER_CONFIG=str(path),
    )
    assert output.returncode != 0
    assert f"{path}:6: clusters.us.repositroy: there is no setting repositroy" in output.stdout


BAD = (
    ("repository: us", "repositroy: us", ":6: clusters.us.repositroy: there is no setting"),
    ("us: {path: us}", "us: {path: us", ":6: clusters.us.repository: its repository us has"),
    ('  us: {host: "127.0.0.1:2"', '\tus: {host: "127.0.0.1:2"', ":6: found character"),
    ("target: drill", "schedules: {full: 0 99 * * *}", ":6: clusters.us.schedules.full: '99'"),
)


@pytest.mark.parametrize(("old", "new", "why"), BAD)
def test_one_bad_line_leaves_the_other_clusters_running_and_its_own_in_red(
    old: str, new: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(TWO)
    whole = definitions(path)
    path.write_text(TWO.replace(old, new))
    found = definitions(path)

    def of(defs: dg.Definitions, cluster: str) -> set[str]:
        started = (*(defs.jobs or ()), *(defs.sensors or ()), *(defs.schedules or ()))
        keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
        return {one.name for one in started if cluster in one.name} | {
            key for key in keys if key.startswith(f"{cluster}/")
        }

    assert of(found, "eu") == of(whole, "eu") != set()
    assert of(found, "us") == {"us/configuration"}
    [spec] = [one for one in found.resolve_all_asset_specs() if one.key.path[0] == "us"]
    assert f"{path}{why}" in str(spec.description)
    assert spec.group_name == "us"
    [sensor] = [one for one in found.sensors or () if one.name == "check_configuration"]
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    with dg.DagsterInstance.ephemeral() as instance:
        with dg.build_sensor_context(instance=instance, definitions=found) as context:
            events = sensor.evaluate_tick(context)
        assert f"us is left out and not backed up: {path}{why}" in str(events.skip_message)
        key = dg.AssetCheckKey(dg.AssetKey(["us", "configuration"]), "can_be")
        [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=9)
        assert record.status.value == "FAILED"
        job = dg.define_asset_job("check", selection=dg.AssetSelection.checks(key))
        again = dg.Definitions.merge(found, dg.Definitions(jobs=[job])).resolve_job_def("check")
        assert again.execute_in_process(instance=instance).success
        path.write_text(TWO)
        assert again.execute_in_process(instance=instance).success
        [mended, still, _] = instance.event_log_storage.get_asset_check_execution_history(
            key, limit=9
        )
        assert (mended.status.value, still.status.value) == ("SUCCEEDED", "FAILED")
    assert "it has changed: reload the code location" in output(found, "check_configuration")


def test_a_file_that_breaks_while_everything_runs_costs_its_own_cluster_alone(
    two: dg.Definitions, tmp_path: Path
) -> None:
    clusters: Any = (two.resources or {})["clusters"]
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(TWO.replace("127.0.0.1:2", '127.0.0.1:2", "'))
    assert clusters.reading().cluster("eu").host == ""
    with pytest.raises(UsageError, match=r"shardkeeper\.yaml:6: "):
        clusters.reading().cluster("us")


@pytest.mark.wire
def test_a_job_runs_from_the_command_line_and_what_it_saves_is_restored(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    source, target = influxd_factory(), influxd_factory()
    fill(source, "telegraf", weeks=range(2))
    (tmp_path / "backups").mkdir()
    configure(tmp_path, tmp_path / "backups", at(source), at(target))
    saved = execute("back_up_influxdb", tmp_path, {})
    assert saved.returncode == 0, saved.stderr
    assert len(list((tmp_path / "backups").glob("*.manifest"))) == 1
    asked = {
        "ops": {
            "influxdb__restored_meta": {
                "config": {"db": "telegraf", "newdb": "copy", "dry_run": False}
            }
        },
        "resources": {"target": {"config": {"cluster": "elsewhere"}}},
    }
    restored = execute("restore_influxdb", tmp_path, asked)
    assert restored.returncode == 0, restored.stderr
    assert points(target, "copy") == points(source, "telegraf")


def execute(
    job: str, place: Path, config: Mapping[str, object]
) -> subprocess.CompletedProcess[str]:
    arguments = ["job", "execute", "-m", "pipelines.definitions", "-j", job]
    if config:
        path = place / f"{job}.yaml"
        path.write_text(yaml.safe_dump(config))
        arguments += ["-c", str(path)]
    where = str(place / "shardkeeper.yaml")
    return dagster(arguments, place / "home", SHARDKEEPER_CONFIG=where)


def test_what_the_document_on_the_ui_names_is_there(tmp_path: Path) -> None:
    found = definitions(tmp_path)  # no file in it: the embedded clusters of make dev
    text = (ROOT / "docs" / "ui.md").read_text()
    named = set(re.findall(r"`([a-z_]+_dev(?:_full|_shards)?)`", text))
    jobs = {job.name for job in found.jobs or ()}
    automated = {one.name for one in (*(found.sensors or ()), *(found.schedules or ()))}
    assert jobs | automated - {"tell_of_failures", "check_configuration", "fail_lost_runs"} == named
    assets = {spec.key.path[-1] for spec in found.resolve_all_asset_specs()}
    checks = {key.name for key in found.resolve_asset_graph().asset_check_keys}
    table = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    assert assets | checks <= table
