"""What starts work by itself, on an embedded cluster: what it asks for, and when it does not."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.judging import ARCHIVES_MATCH, COPIES_AGREE, NOTHING_MISSING, WITHIN_OBJECTIVE
from assets.pacing import FIRST_PAUSE_S, pace
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.devcluster.cluster import DevCluster
from resources.engine.backup.run import back_up
from resources.engine.options import BackupOptions
from resources.errors import PeerUnreachable
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


def test_after_failures_the_next_request_waits_longer_each_time(
    cluster: DevCluster, world: World
) -> None:
    waits: list[float] = []
    cluster.refuse()
    for _ in range(3):
        assert not world.back_up(attempts=1).success
        [record] = world.instance.get_run_records(limit=1)
        waits.append(pace(world.instance, FAMILY).wait_until_s - (record.end_time or 0.0))
    assert waits == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S])
    cluster.refuse(False)
    told, _ = world.sense("watch_influxdb")
    assert told.run_requests == []
    assert "the last 3 backups failed" in (told.skip_message or "")
    assert world.back_up().success
    assert pace(world.instance, FAMILY).failures == 0


def test_a_missed_backup_is_asked_for_and_the_check_lists_the_shards(
    tmp_path: Path, cluster: DevCluster, world: World
) -> None:
    missed, cursor = world.sense("missed_influxdb")
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
    assert "0 archives recorded" in (again.skip_message or "")
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
    assert row.data["shard_id"] == 1
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
        world = World(tmp_path, instance, {"bind": cluster.meta[0].http_addr}, notify=notify)
        cluster.refuse()
        result = world.back_up(attempts=1)
        assert not result.success
        world.tell_of_failure(result)
    [told] = hook.said
    assert told["job"] == "back_up_influxdb"
    assert told["cluster"] == "influxdb"
    assert "Next: " in told["text"]
    # From here on nobody listens there.
    with pytest.raises(PeerUnreachable) as down:
        world.tell_of_failure(result)
    assert "a webhook could not be told" in str(down.value)
    assert "secret-path" not in str(down.value)
    cluster.refuse(False)
    assert world.back_up().success  # a backup asks no webhook
    # Shards that are only planned ahead might have been there while no node answered.
    assert world.shards() == dict.fromkeys([f"telegraf/autogen/{i}" for i in (1, 4, 7)], FRESH)


@pytest.mark.fault(45)
def test_a_missed_backup_is_told_once_and_again_only_while_nobody_has_heard_it(
    cluster: DevCluster,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = {"bind": cluster.meta[0].http_addr}
    with listening() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        world = World(
            tmp_path,
            instance,
            {**where, "objectives": {"recovery_point": "5m", "missed": "warn"}},
            notify=[{"url": {"env": "HOOK"}, "format": "json"}],
        )
        hook.status = 500
        told, cursor = world.sense("missed_influxdb")
        assert told.run_requests == []
        assert told.skip_message == f"influxdb: {TOO_OLD}"
        assert not world.check(FAMILY.backup_set, WITHIN_OBJECTIVE).passed
        hook.status = 200
        for _ in range(2):
            _, cursor = world.sense("missed_influxdb", cursor)
        assert [one["text"] for one in hook.said] == [f"influxdb: {TOO_OLD}"] * 2  # 500, then 200
        assert world.back_up().success
        quiet, cursor = world.sense("missed_influxdb", cursor)
        assert "3 shards are in a backup that is young enough" in (quiet.skip_message or "")
        assert world.check(FAMILY.backup_set, WITHIN_OBJECTIVE).passed
        assert len(hook.said) == 2


TOO_OLD = "3 of 3 shards are in no backup of the last 0:05:00"


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
    assert on == {"watch_influxdb", "full_influxdb"}
