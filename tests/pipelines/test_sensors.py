"""What starts work by itself, on an embedded cluster: what it asks for, and when it does not."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.evaluation import (
    ARCHIVES_MATCH,
    COPIES_AGREE,
    EVERY_SHARD_CURRENT,
    NOTHING_MISSING,
    WITHIN_OBJECTIVE,
)
from assets.history.asset_history import AssetHistory
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.model import ShardID
from tests.pipelines.harness import CLUSTER_ASSETS, FIRST_NS, DagsterHarness, write_to
from tests.pipelines.hooks import listening

FRESH, STALE = StaleStatus.FRESH, StaleStatus.STALE


@pytest.fixture
def harness(over_cluster: DagsterHarness) -> DagsterHarness:
    return over_cluster


def test_a_change_is_one_request_and_after_the_run_there_is_none(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    first, cursor = harness.sense("watch_influxdb")
    assert len(first.run_requests) == 1
    assert harness.back_up().success
    for _ in range(2):
        quiet, cursor = harness.sense("watch_influxdb", cursor)
        assert quiet.run_requests == []
    write_to(cluster, 1, 2.0)
    asked, cursor = harness.sense("watch_influxdb", cursor)
    assert [request.tags["shardkeeper/why"] for request in asked.run_requests] == [
        "1-shard-changed"
    ]
    # What it saw is in the UI before the run begins.
    assert harness.shards() == {
        "telegraf/autogen/1": FRESH,
        "telegraf/autogen/4": STALE,
        "telegraf/autogen/7": FRESH,
    }
    assert harness.status(CLUSTER_ASSETS.backup_set) is STALE
    assert not harness.check().passed
    assert harness.back_up().success
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH
    quiet, _ = harness.sense("watch_influxdb", cursor)
    assert quiet.run_requests == []


def test_a_new_database_is_a_change_even_without_points(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    harness.back_up()
    _, cursor = harness.sense("watch_influxdb")
    cluster.query("CREATE DATABASE empty")
    asked, _ = harness.sense("watch_influxdb", cursor)
    assert len(asked.run_requests) == 1


def test_a_missed_backup_is_asked_for_and_the_check_lists_the_shards(
    tmp_path: Path, cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    missed, cursor = harness.sense("missed_influxdb")
    assert missed.run_requests == []  # `poll` may have asked in the same moment
    assert missed.skip_message == "there is no backup yet; the next tick requests one"
    missed, cursor = harness.sense("missed_influxdb", cursor)
    assert len(missed.run_requests) == 1
    assert not harness.check(CLUSTER_ASSETS.backup_set, WITHIN_OBJECTIVE).passed
    assert harness.back_up().success
    assert harness.check(CLUSTER_ASSETS.backup_set, WITHIN_OBJECTIVE).passed
    quiet, cursor = harness.sense("missed_influxdb", cursor)
    assert quiet.run_requests == []
    write_to(cluster, 7, 1.0)  # a shard that is younger than the objective is not late
    quiet, _ = harness.sense("missed_influxdb", cursor)
    assert quiet.run_requests == []


def test_backups_of_the_command_line_are_recorded_with_their_time_and_go_stale(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    repository = harness.repository
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    report = back_up(source, repository, BackupOptions(), Run(lambda _: None))
    events, cursor = harness.sense("adopt_influxdb")
    assert "3 archives recorded" in (events.skip_message or "")
    assert set(harness.shards().values()) == {FRESH}
    [point] = harness.events(CLUSTER_ASSETS.backup_set)
    assert point.metadata["restore_point"].value == report.manifest_file.removesuffix(".manifest")
    [backup] = harness.events(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/1")
    assert backup.metadata["copied"].value == "outside of Dagster"
    assert backup.metadata["made_at"].value == point.metadata["made_at"].value
    again, _ = harness.sense("adopt_influxdb", cursor)
    assert "all backups up to 20" in (again.skip_message or "")
    assert harness.back_up().success
    assert harness.backed_up() == dict.fromkeys(harness.partitions, 1)  # none was copied again
    write_to(cluster, 0, 3.0)
    harness.scan()
    assert harness.shards()["telegraf/autogen/1"] is STALE


def test_an_archive_that_is_damaged_fails_its_check_and_no_sample_turns_it_green(
    harness: DagsterHarness,
) -> None:
    harness.back_up()
    assert harness.run("verify_influxdb").success
    assert harness.check(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH).passed
    [archive] = harness.backups.glob("*.s4.tar.gz")
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 2] ^= 1
    archive.chmod(0o600)
    archive.write_bytes(raw)
    harness.run("verify_influxdb")
    found = harness.check(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH)
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert [row.data["file"] for row in found.metadata["problems"].records] == [archive.name]
    for _ in range(4):
        harness.run("verify_influxdb", sample=1.0)
        assert not harness.check(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH).passed
    archive.unlink()
    harness.scan()
    assert not harness.check(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH).passed
    harness.run("verify_influxdb", sample=1.0)
    assert not harness.check(CLUSTER_ASSETS.backup_set, NOTHING_MISSING).passed


def test_copies_that_differ_at_rest_are_listed_with_their_nodes(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    owners = [node for node in cluster.data if ShardID(1) in node.store.shards()]
    lines = "\n".join(f"cpu,host=x{i} v=1 {FIRST_NS + i}" for i in range(99))
    cluster.diverge(cluster.data.index(owners[0]), ShardID(1), lines)
    harness.scan()
    found = harness.check(CLUSTER_ASSETS.shards, COPIES_AGREE)
    assert (found.passed, found.metadata["shards_compared"].value) == (True, 0)
    for node in owners:
        node.store.compact(ShardID(1))
    harness.scan()
    found = harness.check(CLUSTER_ASSETS.shards, COPIES_AGREE)
    assert not found.passed
    [row] = found.metadata["differing"].records
    assert row.data["shard_id"] == "1"
    assert all(node.tcp_addr in row.data["copies"] for node in owners)
    # A backfill shows nothing of copies, and hides nothing either.
    assert harness.materialize(CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/1").success
    assert not harness.check(CLUSTER_ASSETS.shards, COPIES_AGREE).passed


@pytest.mark.fault(45)
def test_a_failed_run_is_reported_to_the_webhook_and_no_backup_minds_one_that_is_down(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        notify = [{"url": {"env": "HOOK"}, "format": "json"}]
        here = {"bind": cluster.meta[0].http_addr}
        url = "https://dagster.example/"
        harness = DagsterHarness(tmp_path, instance, here, notify=notify, url=url)
        harness.tell_of_failures()  # what failed earlier is history
        cluster.refuse()
        result = harness.back_up(attempts=1)
        assert not result.success
        harness.tell_of_failures()
        [events] = hook.received
        assert events["job"] == "back_up_influxdb"
        assert events["cluster"] == "influxdb"
        assert "Next: " in events["text"]
        assert events["url"] == f"https://dagster.example/runs/{result.run_id}"
        assert events["url"] in events["text"]
        harness.tell_of_failures()
        assert len(hook.received) == 1
        hook.status = 502
        second = harness.back_up(attempts=1)
        output = harness.tell_of_failures()
        assert "1 messages are not delivered yet: a webhook answered 502" in output
        assert "secret-path" not in output
        hook.status = 200
        harness.tell_of_failures()
        harness.tell_of_failures()
        assert [one["run"] for one in hook.received] == [
            result.run_id,
            second.run_id,
            second.run_id,
        ]
    # From here on nothing listens there.
    third = harness.back_up(attempts=1)
    assert not third.success
    assert (
        "1 messages are not delivered yet: a webhook could not be reached"
        in harness.tell_of_failures()
    )
    cluster.refuse(False)
    assert harness.back_up().success  # a backup asks no webhook
    # Shards that are only planned ahead might have been there while no node answered.
    assert harness.shards() == dict.fromkeys([f"telegraf/autogen/{i}" for i in (1, 4, 7)], FRESH)


@pytest.mark.parametrize("how", ["materialize", "backfill", "execute a check", "launch"])
def test_whatever_failed_and_however_it_was_launched_its_team_is_reported(
    how: str,
    cluster: EmbeddedCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as hook, listening() as other:
        monkeypatch.setenv("HOOK", hook.url)
        monkeypatch.setenv("OTHER", other.url)
        notify = [
            {"url": {"env": "HOOK"}, "format": "json", "clusters": ["influxdb"]},
            {"url": {"env": "OTHER"}, "format": "json", "clusters": ["elsewhere"]},
        ]
        here = {"bind": cluster.meta[0].http_addr}
        harness = DagsterHarness(
            tmp_path, instance, here, target={"host": "127.0.0.1:1"}, notify=notify
        )
        harness.tell_of_failures()  # what failed earlier is history
        assert harness.back_up().success
        cluster.stop_meta_node(0)
        key = dg.AssetCheckKey(CLUSTER_ASSETS.shard_backup, EVERY_SHARD_CURRENT)
        match how:
            case "materialize":
                result = harness.scan()
            case "backfill":
                result = harness.materialize(
                    CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/1"
                )
            case "execute a check":
                job = dg.define_asset_job("any", selection=dg.AssetSelection.checks(key))
                more = dg.Definitions.merge(harness.defs, dg.Definitions(jobs=[job]))
                result = more.resolve_job_def("any").execute_in_process(
                    instance=instance, raise_on_error=False
                )
            case _:
                result = harness.back_up()
        assert not result.success
        harness.tell_of_failures()
        assert [one["run"] for one in hook.received] == [result.run_id]
        assert hook.received[0]["cluster"] == "influxdb"
        assert "Next: " in hook.received[0]["text"]
        assert other.received == []


def test_a_cluster_at_rest_gets_a_restore_point_before_the_newest_is_too_old(
    cluster: EmbeddedCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"bind": cluster.meta[0].http_addr, "objectives": {"recovery_point": "10m"}}
    harness = DagsterHarness(tmp_path, instance, here)
    assert harness.back_up().success
    quiet, cursor = harness.sense("watch_influxdb")
    assert quiet.run_requests == []
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 301)
    for seen in (cursor, None):  # with and without a memory of the last look
        asked, _ = harness.sense("watch_influxdb", seen)
        [request] = asked.run_requests
        assert request.tags["shardkeeper/why"] == "nothing-changed-for-long"
    assert harness.back_up().success
    points = harness.events(CLUSTER_ASSETS.backup_set)
    assert len(points) == 2
    assert points[0].metadata["shards_copied"].value == 0


def test_a_check_that_a_dead_run_left_open_is_answered_by_the_next_look_at_the_directory(
    cluster: EmbeddedCluster, harness: DagsterHarness
) -> None:
    assert harness.back_up().success
    cluster.stop_meta_node(0)
    assert not harness.back_up().success  # before it came to look whether anything is missing
    history = AssetHistory.outside(harness.instance, CLUSTER_ASSETS)
    assert history.broke(CLUSTER_ASSETS.backup_set, NOTHING_MISSING)
    harness.sense("adopt_influxdb")
    assert not history.broke(CLUSTER_ASSETS.backup_set, NOTHING_MISSING)
    assert harness.check(CLUSTER_ASSETS.backup_set, NOTHING_MISSING).passed


def test_backups_go_before_restores_in_the_queue(harness: DagsterHarness) -> None:
    assert harness.defs.resolve_job_def("back_up_influxdb").tags["dagster/priority"] == "1"
    assert "dagster/priority" not in harness.defs.resolve_job_def("restore_influxdb").tags


def test_what_runs_from_the_start_is_configured(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        here = {"bind": cluster.meta[0].http_addr, "running": ["watch", "full"]}
        defs = DagsterHarness(tmp_path, instance, here).defs
    on = {s.name for s in defs.sensors or () if s.default_status is dg.DefaultSensorStatus.RUNNING}
    on |= {
        s.name
        for s in defs.schedules or ()
        if isinstance(s, dg.ScheduleDefinition)
        and s.default_status is dg.DefaultScheduleStatus.RUNNING
    }
    assert on == {"watch_influxdb", "full_influxdb", "check_configuration", "fail_lost_runs"}
