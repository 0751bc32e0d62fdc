"""shardkeeper.yaml: what it says, and how it is told what it cannot say."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.config.reading import (
    FILE,
    VARIABLE,
    configuration_path,
    parse_configuration,
    read_configuration,
)
from resources.config.values import (
    Cluster,
    ClusterLimits,
    Notify,
    Objectives,
    Repository,
    Schedules,
)
from resources.errors import UsageError

GOOD = """\
repositories:
  eu: {path: backups/eu, lock_wait: 5m}
  lab: {path: /srv/lab}
clusters:
  eu:
    bind: meta-1.eu:8091
    auth_type: jwt
    secret: {file: secrets/eu}
    repository: eu
    target: lab
    objectives: {recovery_point: 1h, missed: warn}
    limits: {parallel: 8, per_node: 1, workers: 4}
    running: [watch, full]
  lab:
    host: lab:8088
    http: https://lab:8086
    user: ops
    password: {env: LAB_PASSWORD}
    repository: lab
  drill:
    bind: "[::1]:8091"
notify:
  - url: {env: SLACK_URL}
    clusters: [eu]
"""


def test_a_repository_may_be_a_bucket(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(GOOD.replace("/srv/lab", '"s3://company/lab/"'))
    assert read_configuration(path).repositories["lab"].path == "s3://company/lab"
    path.write_text(GOOD.replace("/srv/lab", '"s3://key:hunter2@company/lab/"'))
    with pytest.raises(UsageError, match="no user, password or query") as refused:
        read_configuration(path)
    assert "hunter2" not in refused.value.what + refused.value.hint


def test_a_file_says_where_clusters_are_and_what_is_done_about_them(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(GOOD)
    found = read_configuration(path)
    eu, lab = found.clusters["eu"], found.clusters["lab"]
    assert (eu.bind, eu.auth_type, eu.target) == ("meta-1.eu:8091", "jwt", "lab")
    assert eu.secret is not None
    assert eu.secret.file == tmp_path / "secrets/eu"
    assert (eu.objectives.recovery_point, eu.objectives.warn_after_s) == (3600.0, 2700.0)
    assert (eu.limits.parallel, eu.limits.per_node, eu.limits.attempts) == (8, 1, 6)
    assert (eu.limits.workers, lab.limits.workers) == (4, 1)
    assert eu.running == ("watch", "full")
    assert lab.password is not None
    assert lab.password.env == "LAB_PASSWORD"
    assert list(found.backed_up) == ["eu", "lab"]
    assert set(found.clusters) == {"eu", "lab", "drill", "embedded"}
    assert found.repositories["eu"].path == tmp_path / "backups/eu"
    assert found.repositories["eu"].lock_wait == 300.0
    assert found.repositories["lab"].path == Path("/srv/lab")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("bind: meta-1.eu:8091", "bindd: x", 6, "clusters.eu.bindd: there is no setting bindd"),
        ("bind: meta-1.eu:8091", "bind: http://x", 5, "bind: an address is host:port, not a URL"),
        ("    bind: meta-1.eu:8091\n", "", 5, "clusters.eu: name one address"),
        ("secret: {file: secrets/eu}", "secret: hunter2", 8, "secrets are not written into"),
        ("{file: secrets/eu}", "{file: a, env: B}", 8, "name one place"),
        ("    user: ops\n", "", 14, "password goes with user"),
        ("repository: eu\n", "repository: us\n", 9, "repository 'us' is not among"),
        ("target: lab", "target: moon", 10, "target 'moon' is not among"),
        ("recovery_point: 1h", "recovery_point: 60", 11, "a duration has a unit"),
        ("recovery_point: 1h", "recovery_point: soon", 11, "'soon' is not a duration"),
        ("recovery_point: 1h", "recovery_point: 59s", 11, "write at least a minute"),
        ("missed: warn", "warn_after: 2h", 11, "warn_after must be shorter"),
        ("parallel: 8", "parallel: many", 12, "valid integer"),
        ("running: [watch, full]", "running: [watch, sleep]", 13, "'incremental', 'full'"),
        ("  lab: {path: /srv/lab}", "  lab: {path: backups/eu}", 19, "share a repository"),
        ("  drill:", "  a-b:", 20, "'a-b' cannot name a cluster"),
        ("clusters: [eu]", "clusters: [us]", 24, "notify: 'us' is not among the clusters"),
        (
            "    repository: lab\n",
            "    repository: lab\n    user: x\n",
            20,
            "user is repeated here",
        ),
        ("  drill:\n", "  drill: [\n", 20, "expected"),
    ],
)
def test_what_cannot_be_is_reported_with_its_line(
    old: str, new: str, line: int, message: str
) -> None:
    assert GOOD.count(old) >= 1
    with pytest.raises(UsageError) as caught:
        parse_configuration(GOOD.replace(old, new, 1).encode(), "f.yaml")
    assert caught.value.what.startswith(f"f.yaml:{line}: "), caught.value.what
    assert message in caught.value.what
    assert "hunter2" not in repr(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not text"),
        (b"a: 1\n--- \nb: 2\n", "another document"),
        (b"clusters: !!python/object:os.system {}\n", "could not determine a constructor"),
        (b"[" * 100_000, "nested too deeply"),
        (b"clusters: {}\n", "nothing to back up"),
        (b"repositories: {}\n", "clusters is missing"),
        (b"- a\n", "each as key: value"),
        (b"clusters: {eu: {host: h, repository: r}}\nclusters: {}\n", "is repeated here"),
    ],
)
def test_what_is_no_configuration_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_configuration(raw, "f.yaml")


def test_the_example_in_the_documents_is_a_configuration() -> None:
    text = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    found = parse_configuration(example.encode(), "docs/configuration.md")
    assert list(found.backed_up) == ["eu", "lab"]


def test_every_setting_is_in_the_documents() -> None:
    text = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
    for model in (Cluster, Repository, Notify, Objectives, ClusterLimits, Schedules):
        for name in model.model_fields:
            assert f"`{name}" in text or f".{name}`" in text, f"{model.__name__}: {name}"


def test_two_names_of_one_directory_are_one_repository(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(GOOD.replace("/srv/lab", "backups/../backups/./eu"))
    with pytest.raises(UsageError, match="share a repository"):
        read_configuration(path)


def test_the_environment_may_name_the_file_and_embedded_clusters_do_without(
    tmp_path: Path,
) -> None:
    assert configuration_path({}, tmp_path) == tmp_path
    found = read_configuration(tmp_path)
    assert list(found.backed_up) == ["dev"]
    assert found.clusters["dev"].embedded == tmp_path / ".devcluster/source"
    assert found.clusters["dev"].target == "embedded"
    (tmp_path / FILE).write_text(GOOD)
    assert configuration_path({}, tmp_path) == tmp_path / FILE
    assert configuration_path({VARIABLE: "other.yaml"}, tmp_path) == tmp_path / "other.yaml"
    with pytest.raises(UsageError, match=r"other\.yaml cannot be read: No such file"):
        read_configuration(tmp_path / "other.yaml")


def test_a_secret_is_read_from_its_place_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE
    path.write_text(GOOD)
    found = read_configuration(path)
    secret, password = found.clusters["eu"].secret, found.clusters["lab"].password
    assert secret is not None
    assert password is not None
    with pytest.raises(UsageError, match="secrets/eu cannot be read"):
        secret.read()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/eu").write_text("hunter2\n")
    assert secret.read() == "hunter2"
    monkeypatch.delenv("LAB_PASSWORD", raising=False)
    with pytest.raises(UsageError, match="LAB_PASSWORD is not set"):
        password.read()
    monkeypatch.setenv("LAB_PASSWORD", "hunter3")
    assert password.read() == "hunter3"
    assert "hunter" not in repr(found)
