"""Checks turn wherever what they say turns, and none is green without a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.evaluation import (
    ARCHIVES_MATCH,
    EVERY_SHARD_CURRENT,
    LITTLE_TO_LOSE,
    NOTHING_MISSING,
    UNDAMAGED,
    WITHIN_OBJECTIVE,
)
from pipelines.sensors.ticks import TickFailed
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.devcluster.cluster import DevCluster
from resources.engine.backup.run import back_up
from resources.engine.options import BackupOptions
from resources.repository.repository import BackupRepository
from resources.repository.store import DirectoryStore
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from tests.pipelines.world import DAY_NS, FAMILY, FIRST_NS, World, write_to

SET, BACKUP = FAMILY.backup_set, FAMILY.shard_backup
ALL = (
    (BACKUP, EVERY_SHARD_CURRENT),
    (SET, WITHIN_OBJECTIVE),
    (SET, LITTLE_TO_LOSE),
    (SET, NOTHING_MISSING),
)

COLUMNS = (
    *("database", "policy", "shards changed"),
    *("newest saved", "newest at source", "behind seconds"),
)


@pytest.fixture
def world(over_cluster: World) -> World:
    return over_cluster


def failed(world: World) -> set[str]:
    """The checks whose latest evaluation is not green."""
    return {name for key, name in ALL if not world.check(key, name).passed}


def facts(world: World, name: str) -> dict[str, Any]:
    found = world.check(SET, name).metadata
    return {
        key: [row.data for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for key, value in found.items()
    }


def on_the_command_line(cluster: DevCluster, world: World, *, ago: timedelta) -> None:
    repository = BackupRepository(
        DirectoryStore(world.backups),
        str(world.backups),
        clock=lambda: datetime.now(UTC) - ago,
    )
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    back_up(source, repository, BackupOptions(), tell=lambda _: None)


def test_what_would_be_lost_is_told_by_the_newest_points_at_the_source_and_in_the_backups(
    cluster: DevCluster, world: World
) -> None:
    assert world.back_up().success
    assert failed(world) == set()
    assert facts(world, LITTLE_TO_LOSE)["lost_seconds"] == 0
    newest = FIRST_NS + 2 * 7 * DAY_NS + 4
    cluster.write("telegraf", f"cpu,host=a v=2 {newest + 90 * 10**9}")
    cluster.query("CREATE DATABASE other WITH REPLICATION 2")
    cluster.write("other", f"cpu v=1 {FIRST_NS}")
    world.look()
    assert failed(world) == {EVERY_SHARD_CURRENT}  # the backup is younger than the objective
    found = facts(world, LITTLE_TO_LOSE)
    assert found["shards_changed"] == 2
    assert found["lost_seconds"] > 0
    assert found["newest_point_behind_seconds"] == 90
    assert [tuple(row[name] for name in COLUMNS) for row in found["newest_points"]] == [
        ("other", "autogen", 1, "", "20200913T122640Z", None),
        ("telegraf", "autogen", 1, "20200927T122640Z", "20200927T122810Z", 90.0),
    ]
    # Writing to old shards makes no newer points, and is something to lose all the same.
    world.back_up()
    write_to(cluster, 0, 7.0)
    world.look()
    found = facts(world, LITTLE_TO_LOSE)
    assert (found["shards_changed"], found["newest_point_behind_seconds"]) == (1, 0)


def test_time_alone_turns_checks_and_a_backup_of_the_command_line_turns_them_back(
    cluster: DevCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    where = {"bind": cluster.meta[0].http_addr}
    world = World(tmp_path, instance, where)
    on_the_command_line(cluster, world, ago=timedelta(minutes=10))
    _, cursor = world.sense("adopt_influxdb")
    assert failed(world) == set()
    write_to(cluster, 1, 2.0)
    world.look()
    _, cursor = world.sense("adopt_influxdb", cursor)
    assert failed(world) == {EVERY_SHARD_CURRENT}
    # What is young enough by one objective is too old by another; nobody asks the cluster.
    strict = World(tmp_path, instance, {**where, "objectives": {"recovery_point": "5m"}})
    cluster.refuse()
    _, cursor = strict.sense("adopt_influxdb", cursor)
    cluster.refuse(False)
    assert failed(world) == {EVERY_SHARD_CURRENT, WITHIN_OBJECTIVE, LITTLE_TO_LOSE}
    on_the_command_line(cluster, world, ago=timedelta(0))
    strict.sense("adopt_influxdb", cursor)
    assert failed(world) == set()


def test_a_backup_whose_metastore_is_gone_turns_a_check_and_holds_up_none_after_it(
    cluster: DevCluster, world: World
) -> None:
    on_the_command_line(cluster, world, ago=timedelta(minutes=2))
    [meta] = world.backups.glob("*.meta")
    meta.unlink()
    with pytest.raises(TickFailed, match=meta.name):
        world.sense("adopt_influxdb")
    assert not world.check(SET, NOTHING_MISSING).passed
    [point] = world.events(SET)
    assert meta.name in point.metadata["trouble"].value
    assert world.partitions == []  # nobody knows where its shards belong
    on_the_command_line(cluster, world, ago=timedelta(0))
    told, _ = world.sense("adopt_influxdb")
    assert "up to" in (told.skip_message or "")
    assert failed(world) == set()
    assert world.back_up().success
    assert failed(world) == set()
    assert set(world.shards().values()) == {StaleStatus.FRESH}


def test_an_archive_that_is_gone_turns_checks_at_the_next_look_and_a_backup_hides_no_damage(
    cluster: DevCluster, world: World
) -> None:
    world.back_up()
    world.run("verify_influxdb")
    [damaged] = world.backups.glob("*.s1.tar.gz")
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    world.run("verify_influxdb")
    assert not world.check(BACKUP, ARCHIVES_MATCH).passed
    [gone] = world.backups.glob("*.s4.tar.gz")
    gone.unlink()
    world.look()
    assert failed(world) == {EVERY_SHARD_CURRENT, LITTLE_TO_LOSE, NOTHING_MISSING}
    assert facts(world, LITTLE_TO_LOSE)["lost"] == "everything in 1 shards"
    both = {gone.name, damaged.name}
    for heal in (False, True):
        verdict = world.check(BACKUP, ARCHIVES_MATCH)
        assert not verdict.passed
        assert {row.data["file"] for row in verdict.metadata["problems"].records} == both
        if not heal:
            assert world.back_up().success
            assert failed(world) == set()
    # A partition's run evaluates what it changes, the check on all archives it cannot.
    write_to(cluster, 2, 3.0)
    world.look()
    assert failed(world) == {EVERY_SHARD_CURRENT}
    assert world.materialize(BACKUP, first="telegraf/autogen/7").success
    assert failed(world) == set()
    assert not world.check(BACKUP, ARCHIVES_MATCH).passed


def test_archives_that_nobody_has_read_since_they_were_made_are_counted_until_verify_reads_them(
    cluster: DevCluster, world: World
) -> None:
    def archives() -> tuple[bool, int, str]:
        verdict = world.check(BACKUP, ARCHIVES_MATCH)
        values = [verdict.metadata[n].value for n in ("archives_not_read_back", "read_back_up_to")]
        return verdict.passed, *values

    world.back_up()
    assert archives() == (True, 3, "never")
    world.run("verify_influxdb", sample=1.0)  # a part says nothing of the others
    write_to(cluster, 0, 2.0)
    world.back_up()
    assert archives() == (True, 3, "never")
    [newest, *_] = world.events(SET)
    world.run("verify_influxdb")
    read_back = world.check(BACKUP, ARCHIVES_MATCH).metadata["read_back_up_to"].value
    assert read_back == newest.metadata["restore_point"].value
    write_to(cluster, 2, 2.0)
    world.back_up()
    assert archives() == (True, 1, read_back)
    [damaged] = world.backups.glob(f"{read_back}.s1.tar.gz")
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    world.back_up()  # copies it anew, and does not take the damage for healed
    assert not world.check(BACKUP, ARCHIVES_MATCH).passed


def test_a_cluster_that_nobody_may_ask_for_points_is_no_reason_to_be_green(
    cluster: DevCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    where = {"bind": cluster.meta[0].http_addr, "http": "none"}
    world = World(tmp_path, instance, where)
    world.look()
    missing = {EVERY_SHARD_CURRENT, WITHIN_OBJECTIVE, LITTLE_TO_LOSE}
    assert {name for key, name in ALL[:3] if not world.check(key, name).passed} == missing
    found = facts(world, LITTLE_TO_LOSE)
    assert found["lost"] == "everything in 3 shards"
    [row] = found["newest_points"]
    assert row["newest at source"] == "nobody was asked over HTTP"


def test_damage_at_the_source_fails_a_check_as_long_as_that_archive_is_the_newest(
    cluster: DevCluster, world: World
) -> None:
    for host in range(8):
        cluster.write("telegraf", f"mem,host=h{host} v=1 {FIRST_NS}")
    world.back_up()
    found = world.check(BACKUP, UNDAMAGED)
    assert found.passed
    assert found.metadata["archives"].value > 0
    whole = {}
    for node in cluster.data:
        for shard in node.store.shards():
            node.store.flush(shard)
        for path in (node.store.directory / "data" / "telegraf").rglob("*.tsm"):
            data = path.read_bytes()
            [first, *others] = TSMFile(BytesSource(data)).index()
            if others:  # else nothing would be left of its shard
                whole[path] = data
                at = first.entries[0].offset + first.entries[0].size - 2
                path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    assert whole
    assert not world.run("back_up_influxdb_full").success
    found = world.check(BACKUP, UNDAMAGED)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    rows = found.metadata["damaged"].records
    assert {row.data["database"] for row in rows} == {"telegraf"}
    assert "CRC-32" in rows[0].data["what"]
    assert "restoring leaves the damaged parts out" in found.metadata["next_step"].value
    world.look()
    assert not world.check(BACKUP, UNDAMAGED).passed
    for path, data in whole.items():
        path.write_bytes(data)
    assert world.run("back_up_influxdb_full").success
    assert world.check(BACKUP, UNDAMAGED).passed
