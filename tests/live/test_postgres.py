"""Dagster with its records in PostgreSQL, configured by the file that docs/deploy.md hands out."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.services import ROOT
from resources.embedded.cluster import EmbeddedCluster
from tests.live.deployment import Deployment
from tests.live.live_harness import BACKUP, NAME, SET, configure, points, write_weeks
from tests.live.postgres import Postgres, programs

pytestmark = pytest.mark.xdist_group("live")
REQUIRE = "SHARDKEEPER_REQUIRE_POSTGRES"
WEEKS = 3


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    missing = [
        what
        for what, there in (
            ("the server (Debian: apt install postgresql)", programs()),
            ("dagster-postgres (pip install '.[postgres]')", _installed("dagster_postgres")),
        )
        if not there
    ]
    if missing:
        why = f"not installed: {', '.join(missing)}"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{why}, and {REQUIRE}=1 insists on it")
        pytest.skip(why)
    with Postgres() as server:
        yield server


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def test_a_cluster_is_backed_up_and_restored_with_all_records_in_postgres(
    postgres: Postgres, tmp_path: Path
) -> None:
    with (
        EmbeddedCluster(tmp_path / "source", 1, 2) as source,
        EmbeddedCluster(tmp_path / "target", 1, 1) as target,
    ):
        source.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        write_weeks(source, "telegraf", range(WEEKS), 1.0)
        environment = {
            **postgres.environment,
            "DAGSTER_LOGS": str(tmp_path / "logs"),
            "SHARDKEEPER_CONFIG": str(configure(tmp_path, source, target)),
        }
        instance = (ROOT / "deploy" / "dagster.yaml").read_text()
        with Deployment(tmp_path / "home", environment, instance=instance) as dagster:
            run_id = dagster.launch(f"back_up_{NAME}")
            assert dagster.outcome(run_id) == "SUCCESS", dagster.why(run_id)
            shards = dagster.partitions(BACKUP)
            assert dagster.stale(BACKUP, shards) == dict.fromkeys(shards, "FRESH")
            assert len(shards) == WEEKS
            assert dagster.stale(SET) == {"": "FRESH"}
            write_weeks(source, "telegraf", [1], 2.0)
            scan = dagster.launch("__ASSET_JOB", assets=[f"{NAME}/meta_snapshot"])
            assert dagster.outcome(scan) == "SUCCESS", dagster.why(scan)
            assert sorted(dagster.stale(BACKUP, shards).values()) == ["FRESH", "FRESH", "STALE"]
            again = dagster.launch(f"back_up_{NAME}")
            assert dagster.outcome(again) == "SUCCESS", dagster.why(again)
            restore = dagster.launch(f"restore_{NAME}")
            assert dagster.outcome(restore) == "SUCCESS", dagster.why(restore)
            assert points(target, "telegraf") == {}
            wanted = {
                "ops": {f"{NAME}__restored_meta": {"config": {"db": "telegraf", "dry_run": False}}}
            }
            restore = dagster.launch(f"restore_{NAME}", wanted)
            assert dagster.outcome(restore) == "SUCCESS", dagster.why(restore)
            assert points(target, "telegraf") == points(source, "telegraf")
    assert postgres.count("runs", "status = 'SUCCESS'") == 5
    assert postgres.count("event_logs", f"run_id = '{run_id}'") > 10
    assert not list((tmp_path / "home").rglob("*.db"))
