"""What the UI says of a cluster and its backups, from the first backup to a restore.

Each test leaves everything backed up, and begins there.
"""

from __future__ import annotations

import pytest

from tests.live.conftest import WEEKS, Plant
from tests.live.deployment import wait_for
from tests.live.world import (
    BACKUP,
    NAME,
    SET,
    points,
    shard_numbers,
    unreadable,
    write_weeks,
)

pytestmark = pytest.mark.xdist_group("live")
CHECK = "every_shard_current"


def back_up(plant: Plant) -> str:
    return plant.dagster.outcome(plant.dagster.launch(f"back_up_{NAME}"))


def look(plant: Plant) -> None:
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


def test_exactly_the_shards_that_were_written_to_are_stale_until_the_next_backup(
    plant: Plant,
) -> None:
    write_weeks(plant.source, "telegraf", [3, 50, 110], 2.0)
    look(plant)
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


def test_a_new_database_appears_as_partitions_whose_backups_a_backfill_makes(
    plant: Plant,
) -> None:
    plant.source.query('CREATE DATABASE "new|one" WITH REPLICATION 3')
    write_weeks(plant.source, "new|one", [0, 1], 5.0)
    look(plant)
    numbers = shard_numbers(plant.source, "new|one")
    new = [f"new%7Cone/autogen/{shard_id}" for shard_id in numbers]
    assert not_fresh(plant) == dict.fromkeys(new, "MISSING")
    plant.dagster.backfill(BACKUP, new)
    wait_for("the backfill's run", lambda: not plant.dagster.filled(BACKUP)["missing"])
    assert not_fresh(plant) == {}
    assert passes(plant)
    assert back_up(plant) == "SUCCESS"


def test_a_restore_brings_every_point_into_the_target(plant: Plant) -> None:
    config = {"db": "telegraf", "newdb": "telegraf_again"}
    run = {"ops": {f"{NAME}__restored_meta": {"config": config}}}
    run_id = plant.dagster.launch(f"restore_{NAME}", run)
    assert plant.dagster.outcome(run_id) == "SUCCESS", plant.dagster.why(run_id)
    found = points(plant.target, "telegraf_again")
    assert sum(len(rows) for rows in found.values()) == 5 * WEEKS
    assert found == points(plant.source, "telegraf")
    restored = plant.dagster.filled(f"{NAME}/restored_shards")["materialized"]
    assert len(restored) == WEEKS
