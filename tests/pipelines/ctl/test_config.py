"""`shardkeeper config check`: all that is wrong with shardkeeper.yaml, before Dagster reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipelines.ctl.main import tree
from resources.embedded.cluster import EmbeddedCluster

FILE = """\
repositories:
  eu: {path: eu}
  us: {path: us}
clusters:
  eu: {host: "127.0.0.1:1", repository: eu, user: ops, password: {env: NOT_SET_HERE}}
  us:
    bind: "127.0.0.1:1"
    repository: us
"""


def check(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(tree, ["config", "check", *arguments], env=dict(environment))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shardkeeper.yaml"
    path.write_text(FILE)
    return path


def test_a_file_that_is_right_says_what_is_backed_up_where(path: Path) -> None:
    done = check(str(path))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"eu  127.0.0.1:1, backed up into {path.parent}/eu",
        f"us  127.0.0.1:1, backed up into {path.parent}/us",
    ]


def test_everything_that_is_wrong_is_reported_with_file_line_key_and_next_step(path: Path) -> None:
    path.write_text(FILE.replace("host:", "hots:") + "executor: nowhere:x\nnotify: [{url: x}]\n")
    done = check(str(path))
    assert done.exit_code == 2
    events = done.stderr
    assert f"{path}:5: clusters.eu.hots: there is no setting hots" in events
    assert f"{path}:10: notify.0.url: secrets are not written into this file" in events
    assert "executor: 'nowhere:x' is not installed here" in events
    assert events.count("  next: ") == 4
    assert "3 problems in" in events
    assert "left out: eu" in events
    assert f"us  127.0.0.1:1, backed up into {path.parent}/us" in done.stdout
    assert "eu  left out" in done.stdout


def test_all_mistakes_of_a_file_that_leaves_no_cluster_are_named(path: Path) -> None:
    path.write_text("clusters:\n  eu: {host: 'h 1', repositori: eu, timeot: 3}\nobjectivs: {}\n")
    done = check(str(path))
    assert done.exit_code == 2
    for place in (":2: clusters.eu.repositori:", ":2: clusters.eu.timeot:", ":3: objectivs:"):
        assert f"{path}{place} there is no setting" in done.stderr
    assert "and no cluster is left" in done.stderr


def test_without_a_file_it_reports_where_one_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = check()
    assert done.exit_code == 0
    assert (
        f"no file shardkeeper.yaml in {tmp_path}, and SHARDKEEPER_CONFIG is not set" in done.stderr
    )
    assert "docs/configuration.md has an example" in done.stderr
    assert "docs/configuration.md has an example" in check("none.yaml").stderr


def test_connecting_reports_of_secrets_clusters_and_directories(path: Path, tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path / "cluster") as cluster:
        path.write_text(FILE.replace('bind: "127.0.0.1:1"', f"bind: {cluster.meta[0].http_addr}"))
        (tmp_path / "us").mkdir(mode=0o700)
        done = check("-connect", str(path), NOT_SET_HERE="")
    assert done.exit_code == 1
    assert f"us: {tmp_path}/us has 0 backups" in done.stdout
    assert "us: trying 127.0.0.1:" in done.stdout
    assert "answers" in done.stdout
    assert "eu: the environment variable NOT_SET_HERE is not set" in done.stderr
    assert f"eu: {tmp_path}/eu: no such directory" in done.stderr
    assert "2 places in it cannot be reached" in done.stderr


def test_without_a_path_the_file_that_dagster_would_read_is_checked(path: Path) -> None:
    done = check(SHARDKEEPER_CONFIG=str(path))
    assert done.exit_code == 0
    assert "eu  127.0.0.1:1" in done.stdout
    done = check(SHARDKEEPER_CONFIG=str(path.with_name("none.yaml")))
    assert done.exit_code == 2
    assert "none.yaml cannot be read: No such file" in done.stderr


def test_it_needs_no_dagster(path: Path) -> None:
    code = (
        "import sys\n"
        "from pipelines.ctl.main import tree\n"
        f"tree(['config', 'check', {str(path)!r}], standalone_mode=False)\n"
    )
    environment: Mapping[str, str] = {}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n"],
        cwd=Path(__file__).parents[3],
        env={**environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
