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
from assets.history.asset_history import Ledger
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.devcluster.cluster import DevCluster
from resources.engine.backup.run import back_up
from resources.engine.options import BackupOptions
from resources.model import ShardID
from tests.pipelines.hooks import listening
from tests.pipelines.world import FAMILY, FIRST_NS, World, write_to

FRESH, STALE = StaleStatus.FRESH, StaleStatus.STALE


@pytest.fixture
def world(over_cluster: World) -> World:
    return over_cluster


def test_a_change_is_one_request_and_after_the_run_there_is_none(
    cluster: DevCluster, world: World
) -> None:
    first, cursor = world.sense("watch_influxdb")
    assert len(first.run_requests) == 1
    assert world.back_up().success
    for _ in range(2):
        quiet, cursor = world.sense("watch_influxdb", cursor)
        assert quiet.run_requests == []
    write_to(cluster, 1, 2.0)
    asked, cursor = world.sense("watch_influxdb", cursor)
    assert [request.tags["shardkeeper/why"] for request in asked.run_requests] == [
        "1-shard-changed"
    ]
    # What it saw is in the UI before the run begins.
    assert world.shards() == {
        "telegraf/autogen/1": FRESH,
        "telegraf/autogen/4": STALE,
        "telegraf/autogen/7": FRESH,
    }
    assert world.status(FAMILY.backup_set) is STALE
    assert not world.check().passed
    assert world.back_up().success
    assert set(world.shards().values()) == {FRESH}
    assert world.status(FAMILY.backup_set) is FRESH
    quiet, _ = world.sense("watch_influxdb", cursor)
    assert quiet.run_requests == []


def test_a_new_database_is_a_change_even_without_points(cluster: DevCluster, world: World) -> None:
    world.back_up()
    _, cursor = world.sense("watch_influxdb")
    cluster.query("CREATE DATABASE empty")
    asked, _ = world.sense("watch_influxdb", cursor)
    assert len(asked.run_requests) == 1


def test_a_missed_backup_is_asked_for_and_the_check_lists_the_shards(
    tmp_path: Path, cluster: DevCluster, world: World
) -> None:
    missed, cursor = world.sense("missed_influxdb")
    assert missed.run_requests == []  # `watch` may have asked in the same moment
    assert missed.skip_message == "there is no backup yet; asks for one at the next look"
    missed, cursor = world.sense("missed_influxdb", cursor)
    assert len(missed.run_requests) == 1
    assert not world.check(FAMILY.backup_set, WITHIN_OBJECTIVE).passed
    assert world.back_up().success
    assert world.check(FAMILY.backup_set, WITHIN_OBJECTIVE).passed
    quiet, cursor = world.sense("missed_influxdb", cursor)
    assert quiet.run_requests == []
    write_to(cluster, 7, 1.0)  # a shard that is younger than the objective is not late
    quiet, _ = world.sense("missed_influxdb", cursor)
    assert quiet.run_requests == []


def test_backups_of_the_command_line_are_recorded_with_their_time_and_go_stale(
    cluster: DevCluster, world: World
) -> None:
    repository = world.repository
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    report = back_up(source, repository, BackupOptions(), tell=lambda _: None)
    told, cursor = world.sense("adopt_influxdb")
    assert "3 archives recorded" in (told.skip_message or "")
    assert set(world.shards().values()) == {FRESH}
    [point] = world.events(FAMILY.backup_set)
    assert point.metadata["restore_point"].value == report.manifest_file.removesuffix(".manifest")
    [backup] = world.events(FAMILY.shard_backup, "telegraf/autogen/1")
    assert backup.metadata["copied"].value == "outside of Dagster"
    assert backup.metadata["made_at"].value == point.metadata["made_at"].value
    again, _ = world.sense("adopt_influxdb", cursor)
    assert "all backups up to 20" in (again.skip_message or "")
    assert world.back_up().success
    assert world.backed_up() == dict.fromkeys(world.partitions, 1)  # none was copied again
    write_to(cluster, 0, 3.0)
    world.look()
    assert world.shards()["telegraf/autogen/1"] is STALE


def test_an_archive_that_is_damaged_fails_its_check_and_no_sample_turns_it_green(
    world: World,
) -> None:
    world.back_up()
    assert world.run("verify_influxdb").success
    assert world.check(FAMILY.shard_backup, ARCHIVES_MATCH).passed
    [archive] = world.backups.glob("*.s4.tar.gz")
    raw = bytearray(archive.read_bytes())
    raw[len(raw) // 2] ^= 1
    archive.chmod(0o600)
    archive.write_bytes(raw)
    world.run("verify_influxdb")
    found = world.check(FAMILY.shard_backup, ARCHIVES_MATCH)
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert [row.data["file"] for row in found.metadata["problems"].records] == [archive.name]
    for _ in range(4):
        world.run("verify_influxdb", sample=1.0)
        assert not world.check(FAMILY.shard_backup, ARCHIVES_MATCH).passed
    archive.unlink()
    world.look()
    assert not world.check(FAMILY.shard_backup, ARCHIVES_MATCH).passed
    world.run("verify_influxdb", sample=1.0)
    assert not world.check(FAMILY.backup_set, NOTHING_MISSING).passed


def test_copies_that_differ_at_rest_are_listed_with_their_nodes(
    cluster: DevCluster, world: World
) -> None:
    owners = [node for node in cluster.data if ShardID(1) in node.store.shards()]
    lines = "\n".join(f"cpu,host=x{i} v=1 {FIRST_NS + i}" for i in range(99))
    cluster.diverge(cluster.data.index(owners[0]), ShardID(1), lines)
    world.look()
    found = world.check(FAMILY.shards, COPIES_AGREE)
    assert (found.passed, found.metadata["shards_compared"].value) == (True, 0)
    for node in owners:
        node.store.compact(ShardID(1))
    world.look()
    found = world.check(FAMILY.shards, COPIES_AGREE)
    assert not found.passed
    [row] = found.metadata["differing"].records
    assert row.data["shard_id"] == "1"
    assert all(node.tcp_addr in row.data["copies"] for node in owners)
    # A backfill shows nothing of copies, and hides nothing either.
    assert world.materialize(FAMILY.shard_backup, first="telegraf/autogen/1").success
    assert not world.check(FAMILY.shards, COPIES_AGREE).passed


@pytest.mark.fault(45)
def test_a_failed_run_is_told_to_the_webhook_and_no_backup_minds_one_that_is_down(
    cluster: DevCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        notify = [{"url": {"env": "HOOK"}, "format": "json"}]
        here = {"bind": cluster.meta[0].http_addr}
        url = "https://dagster.example/"
        world = World(tmp_path, instance, here, notify=notify, url=url)
        world.tell_of_failures()  # what failed earlier is history
        cluster.refuse()
        result = world.back_up(attempts=1)
        assert not result.success
        world.tell_of_failures()
        [told] = hook.said
        assert told["job"] == "back_up_influxdb"
        assert told["cluster"] == "influxdb"
        assert "Next: " in told["text"]
        assert told["url"] == f"https://dagster.example/runs/{result.run_id}"
        assert told["url"] in told["text"]
        world.tell_of_failures()
        assert len(hook.said) == 1
        hook.status = 502
        second = world.back_up(attempts=1)
        said = world.tell_of_failures()
        assert "1 messages are not heard yet: a webhook answered 502" in said
        assert "secret-path" not in said
        hook.status = 200
        world.tell_of_failures()
        world.tell_of_failures()
        assert [one["run"] for one in hook.said] == [result.run_id, second.run_id, second.run_id]
    # From here on nobody listens there.
    third = world.back_up(attempts=1)
    assert not third.success
    assert "1 messages are not heard yet: a webhook could not be told" in world.tell_of_failures()
    cluster.refuse(False)
    assert world.back_up().success  # a backup asks no webhook
    # Shards that are only planned ahead might have been there while no node answered.
    assert world.shards() == dict.fromkeys([f"telegraf/autogen/{i}" for i in (1, 4, 7)], FRESH)


@pytest.mark.parametrize("how", ["materialize", "backfill", "execute a check", "launch"])
def test_whatever_failed_and_however_it_was_launched_its_team_is_told(
    how: str,
    cluster: DevCluster,
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
        world = World(tmp_path, instance, here, target={"host": "127.0.0.1:1"}, notify=notify)
        world.tell_of_failures()  # what failed earlier is history
        assert world.back_up().success
        cluster.stop_meta_node(0)
        key = dg.AssetCheckKey(FAMILY.shard_backup, EVERY_SHARD_CURRENT)
        match how:
            case "materialize":
                result = world.look()
            case "backfill":
                result = world.materialize(FAMILY.shard_backup, first="telegraf/autogen/1")
            case "execute a check":
                job = dg.define_asset_job("any", selection=dg.AssetSelection.checks(key))
                more = dg.Definitions.merge(world.defs, dg.Definitions(jobs=[job]))
                result = more.resolve_job_def("any").execute_in_process(
                    instance=instance, raise_on_error=False
                )
            case _:
                result = world.back_up()
        assert not result.success
        world.tell_of_failures()
        assert [one["run"] for one in hook.said] == [result.run_id]
        assert hook.said[0]["cluster"] == "influxdb"
        assert "Next: " in hook.said[0]["text"]
        assert other.said == []


def test_a_cluster_at_rest_gets_a_restore_point_before_the_newest_is_too_old(
    cluster: DevCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"bind": cluster.meta[0].http_addr, "objectives": {"recovery_point": "10m"}}
    world = World(tmp_path, instance, here)
    assert world.back_up().success
    quiet, cursor = world.sense("watch_influxdb")
    assert quiet.run_requests == []
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 301)
    for seen in (cursor, None):  # with and without a memory of the last look
        asked, _ = world.sense("watch_influxdb", seen)
        [request] = asked.run_requests
        assert request.tags["shardkeeper/why"] == "nothing-changed-for-long"
    assert world.back_up().success
    points = world.events(FAMILY.backup_set)
    assert len(points) == 2
    assert points[0].metadata["shards_copied"].value == 0


def test_a_check_that_a_dead_run_left_open_is_answered_by_the_next_look_at_the_directory(
    cluster: DevCluster, world: World
) -> None:
    assert world.back_up().success
    cluster.stop_meta_node(0)
    assert not world.back_up().success  # before it came to look whether anything is missing
    ledger = Ledger.outside(world.instance, FAMILY)
    assert ledger.broke(FAMILY.backup_set, NOTHING_MISSING)
    world.sense("adopt_influxdb")
    assert not ledger.broke(FAMILY.backup_set, NOTHING_MISSING)
    assert world.check(FAMILY.backup_set, NOTHING_MISSING).passed


def test_backups_go_before_restores_in_the_queue(world: World) -> None:
    assert world.defs.resolve_job_def("back_up_influxdb").tags["dagster/priority"] == "1"
    assert "dagster/priority" not in world.defs.resolve_job_def("restore_influxdb").tags


def test_what_runs_from_the_start_is_configured(cluster: DevCluster, tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        here = {"bind": cluster.meta[0].http_addr, "running": ["watch", "full"]}
        defs = World(tmp_path, instance, here).defs
    on = {s.name for s in defs.sensors or () if s.default_status is dg.DefaultSensorStatus.RUNNING}
    on |= {
        s.name
        for s in defs.schedules or ()
        if isinstance(s, dg.ScheduleDefinition)
        and s.default_status is dg.DefaultScheduleStatus.RUNNING
    }
    assert on == {"watch_influxdb", "full_influxdb", "check_configuration"}
