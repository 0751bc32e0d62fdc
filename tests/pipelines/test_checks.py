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
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import DirectoryStore
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from tests.pipelines.harness import CLUSTER_ASSETS, DAY_NS, FIRST_NS, DagsterHarness, write_to

SET, BACKUP = CLUSTER_ASSETS.backup_set, CLUSTER_ASSETS.shard_backup
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
def harness(over_cluster: DagsterHarness) -> DagsterHarness:
    return over_cluster


def failed(harness: DagsterHarness) -> set[str]:
    """The checks whose latest evaluation is not green."""
    return {name for key, name in ALL if not harness.check(key, name).passed}


def facts(harness: DagsterHarness, name: str) -> dict[str, Any]:
    found = harness.check(SET, name).metadata
    return {
        key: [row.data for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for key, value in found.items()
    }


def on_the_command_line(
    cluster: EmbeddedCluster, harness: DagsterHarness, *, ago: timedelta
) -> None:
    repository = BackupRepository(
        DirectoryStore(harness.backups),
        str(harness.backups),
        clock=lambda: datetime.now(UTC) - ago,
    )
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    back_up(source, repository, BackupOptions(), Run(lambda _: None))


def test_what_would_be_lost_is_reported_by_the_newest_points_at_the_source_and_in_the_backups(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    assert harness.back_up().success
    assert failed(harness) == set()
    assert facts(harness, LITTLE_TO_LOSE)["lost_seconds"] == 0
    newest = FIRST_NS + 2 * 7 * DAY_NS + 4
    cluster.write("telegraf", f"cpu,host=a v=2 {newest + 90 * 10**9}")
    cluster.query("CREATE DATABASE other WITH REPLICATION 2")
    cluster.write("other", f"cpu v=1 {FIRST_NS}")
    harness.scan()
    assert failed(harness) == {EVERY_SHARD_CURRENT}  # the backup is younger than the objective
    found = facts(harness, LITTLE_TO_LOSE)
    assert found["shards_changed"] == 2
    assert found["lost_seconds"] > 0
    assert found["newest_point_behind_seconds"] == 90
    assert [tuple(row[name] for name in COLUMNS) for row in found["newest_points"]] == [
        ("other", "autogen", 1, "", "20200913T122640Z", None),
        ("telegraf", "autogen", 1, "20200927T122640Z", "20200927T122810Z", 90.0),
    ]
    # Writing to old shards makes no newer points, and is something to lose all the same.
    harness.back_up()
    write_to(cluster, 0, 7.0)
    harness.scan()
    found = facts(harness, LITTLE_TO_LOSE)
    assert (found["shards_changed"], found["newest_point_behind_seconds"]) == (1, 0)


def test_time_alone_turns_checks_and_a_backup_of_the_command_line_turns_them_back(
    cluster: EmbeddedCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    where = {"bind": cluster.meta[0].http_addr}
    harness = DagsterHarness(tmp_path, instance, where)
    on_the_command_line(cluster, harness, ago=timedelta(minutes=10))
    _, cursor = harness.sense("adopt_influxdb")
    assert failed(harness) == set()
    write_to(cluster, 1, 2.0)
    harness.scan()
    _, cursor = harness.sense("adopt_influxdb", cursor)
    assert failed(harness) == {EVERY_SHARD_CURRENT}
    # What is young enough by one objective is too old by another; the cluster is not asked.
    strict = DagsterHarness(tmp_path, instance, {**where, "objectives": {"recovery_point": "5m"}})
    cluster.refuse()
    _, cursor = strict.sense("adopt_influxdb", cursor)
    cluster.refuse(False)
    assert failed(harness) == {EVERY_SHARD_CURRENT, WITHIN_OBJECTIVE, LITTLE_TO_LOSE}
    on_the_command_line(cluster, harness, ago=timedelta(0))
    strict.sense("adopt_influxdb", cursor)
    assert failed(harness) == set()


def test_a_backup_whose_metastore_is_gone_turns_a_check_and_holds_up_none_after_it(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    on_the_command_line(cluster, harness, ago=timedelta(minutes=2))
    [meta] = harness.backups.glob("*.meta")
    meta.unlink()
    with pytest.raises(TickFailed, match=meta.name):
        harness.sense("adopt_influxdb")
    assert not harness.check(SET, NOTHING_MISSING).passed
    [point] = harness.events(SET)
    assert meta.name in point.metadata["trouble"].value
    assert harness.partitions == []  # it is not known where its shards belong
    on_the_command_line(cluster, harness, ago=timedelta(0))
    events, _ = harness.sense("adopt_influxdb")
    assert "up to" in (events.skip_message or "")
    assert failed(harness) == set()
    assert harness.back_up().success
    assert failed(harness) == set()
    assert set(harness.shards().values()) == {StaleStatus.FRESH}


def test_an_archive_that_is_gone_turns_checks_at_the_next_look_and_a_backup_hides_no_damage(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    harness.back_up()
    harness.run("verify_influxdb")
    [damaged] = harness.backups.glob("*.s1.tar.gz")
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    harness.run("verify_influxdb")
    assert not harness.check(BACKUP, ARCHIVES_MATCH).passed
    [gone] = harness.backups.glob("*.s4.tar.gz")
    gone.unlink()
    harness.scan()
    assert failed(harness) == {EVERY_SHARD_CURRENT, LITTLE_TO_LOSE, NOTHING_MISSING}
    assert facts(harness, LITTLE_TO_LOSE)["lost"] == "everything in 1 shard"
    both = {gone.name, damaged.name}
    for heal in (False, True):
        evaluation = harness.check(BACKUP, ARCHIVES_MATCH)
        assert not evaluation.passed
        assert {row.data["file"] for row in evaluation.metadata["problems"].records} == both
        if not heal:
            assert harness.back_up().success
            assert failed(harness) == set()
    # A partition's run evaluates what it changes, the check on all archives it cannot.
    write_to(cluster, 2, 3.0)
    harness.scan()
    assert failed(harness) == {EVERY_SHARD_CURRENT}
    assert harness.materialize(BACKUP, first="telegraf/autogen/7").success
    assert failed(harness) == set()
    assert not harness.check(BACKUP, ARCHIVES_MATCH).passed


def test_archives_that_nobody_has_read_since_they_were_made_are_counted_until_verify_reads_them(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    def archives() -> tuple[bool, int, str]:
        evaluation = harness.check(BACKUP, ARCHIVES_MATCH)
        values = [
            evaluation.metadata[n].value for n in ("archives_not_read_back", "read_back_up_to")
        ]
        return evaluation.passed, *values

    harness.back_up()
    assert archives() == (True, 3, "never")
    harness.run("verify_influxdb", sample=1.0)  # a part says nothing of the others
    write_to(cluster, 0, 2.0)
    harness.back_up()
    assert archives() == (True, 3, "never")
    [newest, *_] = harness.events(SET)
    harness.run("verify_influxdb")
    read_back = harness.check(BACKUP, ARCHIVES_MATCH).metadata["read_back_up_to"].value
    assert read_back == newest.metadata["restore_point"].value
    write_to(cluster, 2, 2.0)
    harness.back_up()
    assert archives() == (True, 1, read_back)
    [damaged] = harness.backups.glob(f"{read_back}.s1.tar.gz")
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    harness.back_up()  # copies it anew, and does not take the damage for healed
    assert not harness.check(BACKUP, ARCHIVES_MATCH).passed


def test_a_cluster_that_nobody_may_ask_for_points_is_no_reason_to_be_green(
    cluster: EmbeddedCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    where = {"bind": cluster.meta[0].http_addr, "http": "none"}
    harness = DagsterHarness(tmp_path, instance, where)
    harness.scan()
    missing = {EVERY_SHARD_CURRENT, WITHIN_OBJECTIVE, LITTLE_TO_LOSE}
    assert {name for key, name in ALL[:3] if not harness.check(key, name).passed} == missing
    found = facts(harness, LITTLE_TO_LOSE)
    assert found["lost"] == "everything in 3 shards"
    [row] = found["newest_points"]
    assert row["newest at source"] == "the source was not queried over HTTP"


def test_damage_at_the_source_fails_a_check_as_long_as_that_archive_is_the_newest(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    for host in range(8):
        cluster.write("telegraf", f"mem,host=h{host} v=1 {FIRST_NS}")
    harness.back_up()
    found = harness.check(BACKUP, UNDAMAGED)
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
    assert not harness.run("back_up_influxdb_full").success
    found = harness.check(BACKUP, UNDAMAGED)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    rows = found.metadata["damaged"].records
    assert {row.data["database"] for row in rows} == {"telegraf"}
    assert "CRC-32" in rows[0].data["what"]
    assert "restoring leaves the damaged parts out" in found.metadata["next_step"].value
    harness.scan()
    assert not harness.check(BACKUP, UNDAMAGED).passed
    for path, data in whole.items():
        path.write_bytes(data)
    assert harness.run("back_up_influxdb_full").success
    assert harness.check(BACKUP, UNDAMAGED).passed
