"""Runs that are launched twice, launched again or outlived by a reload; partitions in numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.history.asset_history import Ledger
from assets.history.gone_shards import MAX_FORGOTTEN
from assets.history.recording import record_backup, record_look
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.devcluster.cluster import DevCluster
from resources.engine.backup.plan import plan_backup
from resources.engine.backup.run import back_up
from resources.engine.options import BackupOptions
from resources.model import ShardID
from tests.live.world import held, unreadable
from tests.pipelines.world import FAMILY, World, failure, launched, write_to

FRESH, STALE = StaleStatus.FRESH, StaleStatus.STALE
PARTITIONS = [f"telegraf/autogen/{shard_id}" for shard_id in (1, 4, 7)]
MANY = 100_000


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Kept in files, so that several threads and processes may use it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


@pytest.fixture
def world(over_cluster: World) -> World:
    return over_cluster


def archives(world: World) -> list[str]:
    return sorted(path.name.split(".", 1)[1] for path in world.backups.glob("*.tar.gz"))


@pytest.mark.fault(41)
def test_a_run_beside_one_that_is_at_work_waits_copies_nothing_twice_and_no_reload_asks_for_more(
    cluster: DevCluster, world: World, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        with held(cluster) as reached:
            runs = [pool.submit(world.back_up)]
            assert reached.wait(timeout=60)
            runs.append(pool.submit(world.back_up))
            while len(instance.get_run_ids(dg.RunsFilter(statuses=[STARTED]))) < 2:
                time.sleep(0.05)
            # The code location is loaded anew: what its sensors remembered is gone.
            anew = World(tmp_path, instance, {"bind": cluster.meta[0].http_addr})
            for sensor in ("watch_influxdb", "adopt_influxdb"):
                told, _ = anew.sense(sensor)
                assert told.run_requests == []
                assert told.skip_message == "back_up_influxdb is at work"
        assert all(run.result().success for run in runs)
    assert archives(world) == ["s1.tar.gz", "s4.tar.gz", "s7.tar.gz"]
    assert world.backed_up() == dict.fromkeys(PARTITIONS, 1)
    assert set(world.shards().values()) == {FRESH}
    assert world.status(FAMILY.backup_set) is FRESH
    told, _ = anew.sense("watch_influxdb")
    assert told.run_requests == []


STARTED = dg.DagsterRunStatus.STARTED


@pytest.mark.fault(41)
def test_a_look_that_took_longer_than_the_backup_beside_it_leaves_no_shard_stale(
    cluster: DevCluster, world: World, instance: dg.DagsterInstance
) -> None:
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    seen = plan_backup(source, world.repository, BackupOptions(), tell=lambda _: None)
    assert world.back_up().success
    record_look(Ledger.outside(instance, FAMILY), seen, {})
    assert set(world.shards().values()) == {STALE}  # it was seen before there was an archive
    # As in a run whose look this was, and none of whose checks looks again.
    copies = dg.AssetSelection.assets(FAMILY.backup_set).without_checks()
    job = dg.Definitions(jobs=[dg.define_asset_job("the_rest_of_a_run", copies)])
    rest = dg.Definitions.merge(world.defs, job).resolve_job_def("the_rest_of_a_run")
    assert rest.execute_in_process(instance=instance).success
    assert world.check().passed
    assert set(world.shards().values()) == {FRESH}
    assert world.backed_up() == dict.fromkeys(PARTITIONS, 1)
    assert world.status(FAMILY.backup_set) is FRESH


@pytest.mark.fault(41)
def test_what_others_see_during_a_backup_that_finds_nothing_changed_is_not_forgotten(
    cluster: DevCluster, world: World, instance: dg.DagsterInstance
) -> None:
    assert world.back_up().success
    source, ledger = (
        Cluster(MetaClient(cluster.meta[0].http_addr)),
        Ledger.outside(instance, FAMILY),
    )
    seen_before = ledger.observed()
    report = back_up(source, world.repository, BackupOptions(), tell=lambda _: None)
    assert len(report.unchanged) == 3
    write_to(cluster, 0, 2.0)
    assert world.look().success
    record_backup(ledger, report, world.repository, archives={}, seen_before=seen_before)
    assert sorted(world.shards().values(), key=str) == [FRESH, FRESH, STALE]


@pytest.mark.fault(41)
def test_a_run_that_failed_and_is_launched_again_from_its_failure_copies_what_is_left(
    cluster: DevCluster,
    world: World,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    with unreadable(cluster, ShardID(4)):
        failed = world.back_up(attempts=1)
    assert "1 of 3 shards were not saved" in failure(failed).description
    assert world.backed_up() == {PARTITIONS[0]: 1, PARTITIONS[1]: 0, PARTITIONS[2]: 1}
    again = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
    job = launched("back_up_influxdb")
    with dg.execute_job(job, instance=instance, reexecution_options=again) as result:
        assert result.success
        steps = {event.step_key for event in result.all_events if event.is_step_start}
    assert f"{FAMILY.name}__meta_snapshot" not in steps  # it had succeeded
    assert archives(world) == ["s1.tar.gz", "s4.tar.gz", "s7.tar.gz"]
    assert world.backed_up() == dict.fromkeys(PARTITIONS, 1)
    assert set(world.shards().values()) == {FRESH}
    assert world.status(FAMILY.backup_set) is FRESH


@pytest.mark.fault(44)
def test_shards_come_and_go_by_the_dozen_among_a_hundred_thousand_partitions(
    cluster: DevCluster, world: World, instance: dg.DagsterInstance
) -> None:
    past = [f"past/autogen/{10**6 + i}" for i in range(MANY)]
    instance.add_dynamic_partitions("influxdb/shards", past)
    assert world.back_up().success
    _, cursor = world.sense("watch_influxdb")
    cluster.query("DROP DATABASE telegraf")
    cluster.query("CREATE DATABASE telegraf WITH REPLICATION 1")
    for week in range(40):
        write_to(cluster, week, 1.0)
    places = [place for place in cluster.group.metastore.places() if place.database == "telegraf"]
    there = {f"telegraf/autogen/{place.shard_id}" for place in places}
    began = time.process_time()
    asked, cursor = world.sense("watch_influxdb", cursor)
    tick_s = time.process_time() - began
    assert [request.tags["shardkeeper/why"] for request in asked.run_requests] == [
        "40-shards-changed"
    ]
    assert tick_s < 10.0
    assert world.back_up().success
    kept = world.partitions
    # Those that were never backed up go, a few with each look; all others stay.
    most_looks = 10
    assert len(kept) == len(set(kept))
    assert MANY + 3 + 40 - most_looks * MAX_FORGOTTEN <= len(kept) < MANY + 3 + 40
    assert set(PARTITIONS) <= set(kept)
    new = sorted(set(kept) - {*past, *PARTITIONS})
    assert set(new) <= there
    # A partition whose shard has gone keeps its backup, and nothing asks for another one.
    for partition in (*PARTITIONS, new[0], new[-1]):
        assert len(world.events(FAMILY.shard_backup, partition)) == 1
        assert world.status(FAMILY.shard_backup, partition) is FRESH
    quiet, _ = world.sense("watch_influxdb", cursor)
    assert quiet.run_requests == []
    assert world.check().passed
