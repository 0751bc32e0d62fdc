"""What the UI says of a cluster and its backups, from the first backup to a restore.

Each test leaves everything backed up, and begins there.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.live.conftest import WEEKS, Plant
from tests.live.deployment import RUN_WITHIN_S, wait_for
from tests.live.live_harness import (
    BACKUP,
    LOCK,
    NAME,
    SET,
    held,
    points,
    shard_numbers,
    unreadable,
    write_weeks,
)

pytestmark = pytest.mark.xdist_group("live")
CHECK = "every_shard_current"
SOON_S = 5.0


def back_up(plant: Plant) -> str:
    return plant.dagster.outcome(plant.dagster.launch(f"back_up_{NAME}"))


def scan(plant: Plant) -> None:
    run_id = plant.dagster.launch("__ASSET_JOB", assets=[f"{NAME}/meta_snapshot"])
    assert plant.dagster.outcome(run_id) == "SUCCESS", plant.dagster.why(run_id)


def not_fresh(plant: Plant) -> dict[str, str]:
    """The partitions of shard_backup that are STALE or MISSING."""
    found = plant.dagster.stale(BACKUP, plant.dagster.partitions(BACKUP))
    return {partition: status for partition, status in found.items() if status != "FRESH"}


def partition(plant: Plant, database: str, week: int) -> str:
    return f"{database}/autogen/{shard_numbers(plant.source, database)[week]}"


def passes(plant: Plant) -> bool:
    found = plant.dagster.check(BACKUP, CHECK)
    assert found is not None
    return found["success"]


def test_the_first_backup_makes_every_shard_a_partition_that_is_fresh(plant: Plant) -> None:
    assert back_up(plant) == "SUCCESS"
    filled = plant.dagster.filled(BACKUP)
    assert (len(filled["materialized"]), filled["failed"], filled["missing"]) == (120, [], [])
    assert partition(plant, "telegraf", 0) in filled["materialized"]
    assert not_fresh(plant) == {}
    assert plant.dagster.stale(SET) == {"": "FRESH"}
    assert passes(plant)
    archives = plant.dagster.check(BACKUP, "archives_match_their_digests")
    assert archives is not None  # the UI would count it as not passed
    assert archives["success"]
    assert archives["metadata"]["archives_not_read_back"] == 120


def test_exactly_the_shards_that_were_written_to_are_stale_until_the_next_backup(
    plant: Plant,
) -> None:
    write_weeks(plant.source, "telegraf", [3, 50, 110], 2.0)
    scan(plant)
    written = [partition(plant, "telegraf", week) for week in (3, 50, 110)]
    assert not_fresh(plant) == dict.fromkeys(written, "STALE")
    assert plant.dagster.stale(SET) == {"": "STALE"}
    check = plant.dagster.check(BACKUP, CHECK)
    assert check is not None
    assert (check["success"], check["severity"]) == (False, "WARN")
    assert check["metadata"]["shards_to_copy"] == 3
    assert back_up(plant) == "SUCCESS"
    assert not_fresh(plant) == {}
    assert plant.dagster.stale(SET) == {"": "FRESH"}
    assert passes(plant)


def test_the_shards_of_a_node_that_is_down_are_copied_from_their_other_owners(
    plant: Plant,
) -> None:
    write_weeks(plant.source, "telegraf", [7, 8], 3.0)
    address = plant.source.data[0].tcp_addr
    plant.source.stop_node(0)
    try:
        back_up(plant)
        for week in (7, 8):
            backup = plant.dagster.latest(BACKUP, partition(plant, "telegraf", week))
            assert backup is not None
            assert backup["metadata"]["copied"] == "in this run"
            assert backup["metadata"]["node"] != address
    finally:
        plant.source.start_node(0)
    assert back_up(plant) == "SUCCESS"
    assert not_fresh(plant) == {}


def test_a_shard_that_cannot_be_copied_is_the_only_one_left_and_heals_at_the_next_run(
    plant: Plant,
) -> None:
    write_weeks(plant.source, "telegraf", [20, 21, 22], 4.0)
    broken = shard_numbers(plant.source, "telegraf")[21]
    with unreadable(plant.source, broken):
        run_id = plant.dagster.launch(f"back_up_{NAME}")
        assert plant.dagster.outcome(run_id) == "FAILURE"
        assert str(broken) in plant.dagster.why(run_id)
        assert not_fresh(plant) == {f"telegraf/autogen/{broken}": "STALE"}
        assert plant.dagster.stale(SET) == {"": "STALE"}
        check = plant.dagster.check(BACKUP, CHECK)
        assert check is not None
        assert (check["success"], check["severity"]) == (False, "WARN")
    assert back_up(plant) == "SUCCESS"
    assert not_fresh(plant) == {}
    assert passes(plant)


def test_the_sensor_sees_what_changed_and_launches_the_run_that_backs_it_up(plant: Plant) -> None:
    before = {run["runId"] for run in plant.dagster.runs(f"back_up_{NAME}")}
    written = [partition(plant, "telegraf", week) for week in (30, 31, 99)]
    write_weeks(plant.source, "telegraf", [30, 31, 99], 4.5)
    plant.dagster.turn("Sensor", f"watch_{NAME}", True)
    try:
        ticks = wait_for(
            "a tick that asks for a run",
            lambda: [t for t in plant.dagster.ticks(f"watch_{NAME}") if t["runIds"]],
        )
        [run_id] = ticks[0]["runIds"]
        assert plant.dagster.outcome(run_id) == "SUCCESS", plant.dagster.why(run_id)
        quiet = wait_for(
            "a tick after it that asks for nothing",
            lambda: [t for t in plant.dagster.ticks(f"watch_{NAME}") if "as in" in _described(t)],
        )
        assert f"{len(plant.dagster.partitions(BACKUP))} shards" in _described(quiet[0])
    finally:
        plant.dagster.turn("Sensor", f"watch_{NAME}", False)
    assert not_fresh(plant) == {}
    assert plant.dagster.stale(SET) == {"": "FRESH"}
    assert {run["runId"] for run in plant.dagster.runs(f"back_up_{NAME}")} - before == {run_id}
    tags = {tag["key"]: tag["value"] for tag in plant.dagster.run(run_id)["tags"]}
    assert tags["shardkeeper/why"] == "3-shards-changed"
    for one in written:
        backup = plant.dagster.latest(BACKUP, one)
        assert backup is not None
        assert backup["runId"] == run_id


def _described(tick: dict[str, Any]) -> str:
    return tick["skipReason"] or ""


def test_a_run_that_is_terminated_is_canceled_at_once_and_leaves_nothing(plant: Plant) -> None:
    write_weeks(plant.source, "telegraf", [40, 41], 6.0)
    written = {partition(plant, "telegraf", week): "STALE" for week in (40, 41)}
    files = {path.name for path in plant.backups.iterdir()}
    with held(plant.source) as reached:
        run_id = plant.dagster.launch(f"back_up_{NAME}")
        assert reached.wait(timeout=RUN_WITHIN_S), plant.dagster.why(run_id)
        lock = plant.backups / LOCK
        assert lock.exists()
        plant.dagster.terminate(run_id)
        began = time.monotonic()
        assert plant.dagster.outcome(run_id) == "CANCELED"
        assert time.monotonic() - began < SOON_S
        assert not lock.exists()
    assert {path.name for path in plant.backups.iterdir()} == files
    assert not_fresh(plant) == written
    assert not passes(plant)
    assert back_up(plant) == "SUCCESS"
    assert not_fresh(plant) == {}


@pytest.mark.fault(41)
def test_two_backups_of_one_cluster_are_never_at_work_at_once(plant: Plant) -> None:
    assert back_up(plant) == "SUCCESS"  # Dagster limits a pool from its first run on
    write_weeks(plant.source, "telegraf", [50], 7.0)
    runs = [plant.dagster.launch(f"back_up_{NAME}") for _ in range(2)]
    assert [plant.dagster.outcome(run_id) for run_id in runs] == ["SUCCESS"] * 2
    first, second = sorted(map(plant.dagster.run, runs), key=lambda run: run["startTime"])
    assert first["endTime"] <= second["startTime"]


@pytest.mark.fault(41)
def test_a_code_location_that_is_reloaded_ends_no_backup_and_asks_for_none(plant: Plant) -> None:
    assert back_up(plant) == "SUCCESS"
    write_weeks(plant.source, "telegraf", [60, 61], 8.0)
    files = {path.name for path in plant.backups.glob("*.tar.gz")}
    with held(plant.source) as reached:
        run_id = plant.dagster.launch(f"back_up_{NAME}")
        assert reached.wait(timeout=RUN_WITHIN_S), plant.dagster.why(run_id)
        plant.dagster.reload()
        assert plant.dagster.run(run_id)["status"] == "STARTED"
    assert plant.dagster.outcome(run_id) == "SUCCESS", plant.dagster.why(run_id)
    assert len({path.name for path in plant.backups.glob("*.tar.gz")} - files) == 2
    assert not_fresh(plant) == {}
    assert plant.dagster.stale(SET) == {"": "FRESH"}


@pytest.mark.fault(41)
def test_a_run_whose_process_dies_is_failed_and_the_next_one_takes_over(plant: Plant) -> None:
    assert back_up(plant) == "SUCCESS"
    write_weeks(plant.source, "telegraf", [70, 71], 9.0)
    written = {partition(plant, "telegraf", week): "STALE" for week in (70, 71)}
    with held(plant.source) as reached:
        run_id = plant.dagster.launch(f"back_up_{NAME}")
        assert reached.wait(timeout=RUN_WITHIN_S), plant.dagster.why(run_id)
        holder = json.loads((plant.backups / LOCK).read_text())
        os.kill(holder["pid"], signal.SIGKILL)
        assert plant.dagster.outcome(run_id) == "FAILURE"
    assert not_fresh(plant) == written
    before = {run["runId"] for run in plant.dagster.runs(f"back_up_{NAME}")}
    assert back_up(plant) == "SUCCESS"
    assert len(plant.dagster.runs(f"back_up_{NAME}")) == len(before) + 1
    assert not_fresh(plant) == {}
    assert plant.dagster.stale(SET) == {"": "FRESH"}
    assert [path for path in plant.backups.iterdir() if path.name.endswith(".pending")] == []


def test_a_new_database_appears_as_partitions_whose_backups_a_backfill_makes(
    plant: Plant,
) -> None:
    plant.source.query('CREATE DATABASE "new|one" WITH REPLICATION 3')
    write_weeks(plant.source, "new|one", [0, 1], 5.0)
    scan(plant)
    numbers = shard_numbers(plant.source, "new|one")
    new = [f"new%7Cone/autogen/{shard_id}" for shard_id in numbers]
    assert not_fresh(plant) == dict.fromkeys(new, "MISSING")
    plant.dagster.backfill(BACKUP, new)
    wait_for("the backfill's run", lambda: not plant.dagster.filled(BACKUP)["missing"])
    assert not_fresh(plant) == {}
    assert passes(plant)
    assert back_up(plant) == "SUCCESS"


def test_a_restore_brings_every_point_into_the_target(plant: Plant) -> None:
    config = {"db": "telegraf", "newdb": "telegraf_again", "dry_run": False}
    run = {"ops": {f"{NAME}__restored_meta": {"config": config}}}
    run_id = plant.dagster.launch(f"restore_{NAME}", run)
    assert plant.dagster.outcome(run_id) == "SUCCESS", plant.dagster.why(run_id)
    found = points(plant.target, "telegraf_again")
    assert sum(len(rows) for rows in found.values()) == 5 * WEEKS
    assert found == points(plant.source, "telegraf")
    restored = plant.dagster.filled(f"{NAME}/restored_shards")["materialized"]
    assert len(restored) == WEEKS
