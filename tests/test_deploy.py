"""What deploy/ names exists: modules, commands, variables, settings."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.services import CODE_WITHOUT_NEWS_S, PAUSES
from resources.config.reading import VARIABLE, read_configuration

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
IMAGE = (DEPLOY / "Dockerfile").read_text()


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def variables(value: object) -> set[str]:
    """Every environment variable that Dagster's configuration names."""
    if isinstance(value, dict):
        named = {value["env"]} if set(value) == {"env"} else set()
        return named.union(*(variables(inner) for inner in value.values()))
    return set()


def in_the_image() -> set[str]:
    block = re.search(r"^ENV (.*?[^\\])$", IMAGE, re.MULTILINE | re.DOTALL)
    assert block
    return set(re.findall(r"(\w+)=", block[1]))


def test_every_variable_of_the_instance_is_set_by_compose_or_the_image() -> None:
    given = set(loaded("compose.yaml")["x-dagster"]["environment"]) | in_the_image()
    needed = variables(loaded("dagster.yaml"))
    assert {"DAGSTER_POSTGRES_PASSWORD", "DAGSTER_LOGS"} <= needed
    assert needed <= given
    assert {"DAGSTER_HOME", VARIABLE} <= in_the_image()


def test_the_commands_of_compose_exist_and_find_each_other() -> None:
    services = loaded("compose.yaml")["services"]
    for name in ("code", "webserver", "daemon"):
        assert (BIN / services[name]["command"][0]).exists()
    code = services["code"]["command"]
    assert importlib.util.find_spec(code[code.index("-m") + 1])
    [location] = loaded("workspace.yaml")["load_from"]
    port = str(location["grpc_server"]["port"])
    assert location["grpc_server"]["host"] in services
    assert port in code
    assert port in services["code"]["healthcheck"]["test"]
    for name in ("webserver", "daemon"):
        assert "workspace.yaml" in services[name]["command"]
    assert all(one.startswith("127.0.0.1:") for one in services["webserver"]["ports"])


def test_what_the_image_copies_is_there() -> None:
    for line in re.findall(r"^COPY (.+)$", IMAGE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert list(ROOT.glob(source)), source


def test_the_example_of_a_configuration_is_one_and_its_places_are_mounted() -> None:
    found = read_configuration(DEPLOY / "shardkeeper.yaml")
    compose = loaded("compose.yaml")
    mounts = " ".join(compose["x-dagster"]["volumes"])
    assert ":/backups" in mounts
    for repository in found.repositories.values():
        assert Path(repository.path).is_relative_to("/backups")
    secret = found.clusters["eu"].secret
    assert secret is not None
    assert secret.file is not None
    assert secret.file.parent == Path("/run/secrets")
    assert secret.file.name in compose["secrets"]
    assert secret.file.name in compose["x-dagster"]["secrets"]
    for one in found.notify:
        assert one.url.env in compose["x-dagster"]["environment"]


def test_the_chart_runs_the_same_module_with_the_same_limits() -> None:
    values = loaded("values.yaml")
    [code] = values["dagster-user-deployments"]["deployments"]
    assert importlib.util.find_spec(code["codeServerArgs"][-1])
    assert code["includeConfigInLaunchedRuns"]["enabled"]
    assert {one["name"] for one in code["env"]} == {VARIABLE}
    mounted = {one["mountPath"] for one in code["volumeMounts"]}
    assert mounted == {"/etc/shardkeeper", "/run/secrets", "/backups"}
    assert {one["name"] for one in code["volumes"]} == {one["name"] for one in code["volumeMounts"]}
    more = values["additionalInstanceConfig"]
    instance = loaded("dagster.yaml")
    assert more == {name: instance[name] for name in more}
    monitoring, daemon = instance["run_monitoring"], values["dagsterDaemon"]
    assert daemon["runMonitoring"] == {
        "enabled": monitoring["enabled"],
        "startTimeoutSeconds": monitoring["start_timeout_seconds"],
        "pollIntervalSeconds": monitoring["poll_interval_seconds"],
    }
    assert daemon["sensors"]["numWorkers"] == instance["sensors"]["num_workers"]
    for ticks in ("schedule", "sensor"):
        kept = instance["retention"][ticks]["purge_after_days"]
        assert values["retention"][ticks]["purgeAfterDays"] == kept
    storage = instance["storage"]["postgres"]["postgres_db"]
    assert values["postgresql"]["postgresqlScheme"] == storage["scheme"]


def test_a_deployment_has_the_limits_of_a_checkout() -> None:
    own = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    deployed = loaded("dagster.yaml")
    same = own.keys() - {"storage", "compute_logs", "local_artifact_storage"}
    assert {"concurrency", "retention", "run_monitoring"} <= same
    assert {name: deployed[name] for name in same} == {name: own[name] for name in same}
    # Nothing starts the process with the code again if it ends because its machine was paused.
    assert f"{PAUSES}={CODE_WITHOUT_NEWS_S} " in IMAGE
    # While a code server starts again, or is slow, a run waits in the queue: it does not fail.
    queue = own["run_queue"]
    assert queue["max_user_code_failure_retries"] * queue["user_code_failure_retry_delay"] >= 120


def test_the_yaml_in_the_document_is_yaml() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    assert blocks
    launcher = yaml.safe_load(blocks[0])["run_launcher"]
    given = set(loaded("compose.yaml")["x-dagster"]["environment"])
    assert set(launcher["config"]["env_vars"]) == given


def test_images_of_others_are_named_by_their_digest() -> None:
    named = re.findall(r"^FROM (\S+)", IMAGE, re.MULTILINE)
    named += [service["image"] for service in loaded("compose.yaml")["services"].values()]
    others = [name for name in named if name != "shardkeeper"]
    assert len(others) == 2
    assert all(re.fullmatch(r"[a-z0-9.:-]+@sha256:[0-9a-f]{64}", name) for name in others)


def test_no_container_can_gain_rights_or_take_all_memory() -> None:
    for name, service in loaded("compose.yaml")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert "privileged" not in service, name
    assert re.search(r"^USER shardkeeper$", IMAGE, re.MULTILINE)
