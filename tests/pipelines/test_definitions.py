"""The code location as Dagster loads it, and the jobs as its command line runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import pytest
import yaml

from pipelines.definitions import definitions
from resources.errors import UsageError
from tests.influxd import Influxd
from tests.pipelines.world import environment, fill
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


def test_names_come_from_the_environment() -> None:
    defs = definitions({"SHARDKEEPER_NAME": "plant_7"})
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {
        f"plant_7/{name}"
        for name in (
            *("meta_snapshot", "shards", "shard_backup", "backup_set"),
            *("restored_meta", "restored_shards"),
        )
    }
    assert {"back_up_plant_7", "restore_plant_7"} <= {job.name for job in defs.jobs or ()}
    with pytest.raises(UsageError, match="cannot name a server's assets"):
        definitions({"SHARDKEEPER_NAME": "plant 7"})


def test_the_chain_from_the_server_to_restored_shards_is_one_graph() -> None:
    graph = definitions({}).resolve_asset_graph()

    def parents(name: str) -> set[str]:
        return {key.path[1] for key in graph.get(dg.AssetKey(["influxdb", name])).parent_keys}

    assert parents("shards") == {"meta_snapshot"}
    assert parents("shard_backup") == {"shards"}
    assert parents("backup_set") == {"meta_snapshot", "shard_backup"}
    assert parents("restored_meta") == {"backup_set"}
    assert parents("restored_shards") == {"restored_meta", "shard_backup"}
    assert all(
        graph.get(key).description and graph.get(key).group_name == "influxdb"
        for key in graph.get_all_asset_keys()
    )


def test_a_password_is_named_in_the_definitions_and_not_written_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHARDKEEPER_PASSWORD", "hunter2-the-secret")
    defs = definitions({"SHARDKEEPER_USER": "u", "SHARDKEEPER_PASSWORD": "hunter2-the-secret"})
    source = (defs.resources or {})["source"]
    assert "hunter2" not in repr(source)
    assert "hunter2" not in str(source.process_config_and_initialize())
    job = defs.resolve_job_def("restore_influxdb")
    target = job.run_config["resources"]["target"]["config"]  # type: ignore[index]
    assert target["password"] == {"env": "SHARDKEEPER_PASSWORD"}


def test_the_code_location_loads_and_says_nothing_of_its_own(tmp_path: Path) -> None:
    said = dagster(["definitions", "validate", "-w", "workspace.yaml"], tmp_path / "home")
    assert said.returncode == 0, said.stderr
    ours = [
        line
        for line in said.stderr.splitlines()
        if ("Warning" in line and str(ROOT / "assets") in line) or "BetaWarning" in line
    ]
    assert ours == []


@pytest.mark.wire
def test_a_job_runs_from_the_command_line_and_what_it_saves_is_restored(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    source, target = influxd_factory(), influxd_factory()
    fill(source, "telegraf", weeks=range(2))
    (tmp_path / "backups").mkdir()
    where = environment(
        source,
        tmp_path / "backups",
        TARGET_HOST=target.bind_addr,
        TARGET_HTTP=target.http_addr,
    )
    saved = execute("back_up_influxdb", tmp_path, where, {})
    assert saved.returncode == 0, saved.stderr
    assert len(list((tmp_path / "backups").glob("*.manifest"))) == 1
    asked = {"ops": {"influxdb__restored_meta": {"config": {"db": "telegraf", "newdb": "copy"}}}}
    restored = execute("restore_influxdb", tmp_path, where, asked)
    assert restored.returncode == 0, restored.stderr
    assert points(target, "copy") == points(source, "telegraf")


def execute(
    job: str, place: Path, where: Mapping[str, str], config: Mapping[str, object]
) -> subprocess.CompletedProcess[str]:
    arguments = ["job", "execute", "-m", "pipelines.definitions", "-j", job]
    if config:
        path = place / f"{job}.yaml"
        path.write_text(yaml.safe_dump(config))
        arguments += ["-c", str(path)]
    return dagster(arguments, place / "home", **where)
