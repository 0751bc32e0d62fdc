"""Runs that are launched twice, launched again or outlived by a reload; partitions in numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.history.asset_history import AssetHistory
from assets.history.gone_shards import MAX_FORGOTTEN
from assets.history.recording import record_backup, record_scan
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup.plan import plan_backup
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.model import ShardID
from resources.repository.manifest_cache import ManifestCache
from tests.live.live_harness import held, unreadable
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, failure, launched, write_to

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
def harness(over_cluster: DagsterHarness) -> DagsterHarness:
    return over_cluster


def archives(harness: DagsterHarness) -> list[str]:
    return sorted(path.name.split(".", 1)[1] for path in harness.backups.glob("*.tar.gz"))


@pytest.mark.fault(41)
def test_a_run_beside_one_that_is_at_work_waits_copies_nothing_twice_and_no_reload_asks_for_more(
    cluster: EmbeddedCluster, harness: DagsterHarness, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        with held(cluster) as reached:
            runs = [pool.submit(harness.back_up)]
            assert reached.wait(timeout=60)
            runs.append(pool.submit(harness.back_up))
            while len(instance.get_run_ids(dg.RunsFilter(statuses=[STARTED]))) < 2:
                time.sleep(0.05)
            # The code location is loaded anew: what its sensors remembered is gone.
            anew = DagsterHarness(tmp_path, instance, {"bind": cluster.meta[0].http_addr})
            for sensor in ("watch_influxdb", "adopt_influxdb"):
                events, _ = anew.sense(sensor)
                assert events.run_requests == []
                assert events.skip_message == "back_up_influxdb is running"
        assert all(run.result().success for run in runs)
    assert archives(harness) == ["s1.tar.gz", "s4.tar.gz", "s7.tar.gz"]
    # The second run may record the archives before the first has: then each has two events.
    assert harness.backed_up().keys() == set(PARTITIONS)
    assert max(harness.backed_up().values()) <= 2
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH
    events, _ = anew.sense("watch_influxdb")
    assert events.run_requests == []


STARTED = dg.DagsterRunStatus.STARTED


@pytest.mark.fault(41)
def test_a_look_that_took_longer_than_the_backup_beside_it_leaves_no_shard_stale(
    cluster: EmbeddedCluster, harness: DagsterHarness, instance: dg.DagsterInstance
) -> None:
    source = Cluster(MetaClient(cluster.meta[0].http_addr))
    seen = plan_backup(source, harness.repository, BackupOptions(), emit=lambda _: None)
    assert harness.back_up().success
    record_scan(AssetHistory.outside(instance, CLUSTER_ASSETS), seen, {})
    assert set(harness.shards().values()) == {STALE}  # it was seen before there was an archive
    # As in a run whose look this was, and none of whose checks looks again.
    copies = dg.AssetSelection.assets(CLUSTER_ASSETS.backup_set).without_checks()
    job = dg.Definitions(jobs=[dg.define_asset_job("the_rest_of_a_run", copies)])
    rest = dg.Definitions.merge(harness.defs, job).resolve_job_def("the_rest_of_a_run")
    assert rest.execute_in_process(instance=instance).success
    assert harness.check().passed
    assert set(harness.shards().values()) == {FRESH}
    assert harness.backed_up() == dict.fromkeys(PARTITIONS, 1)
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


@pytest.mark.fault(41)
def test_what_others_see_during_a_backup_that_finds_nothing_changed_is_not_forgotten(
    cluster: EmbeddedCluster, harness: DagsterHarness, instance: dg.DagsterInstance
) -> None:
    assert harness.back_up().success
    source, history = (
        Cluster(MetaClient(cluster.meta[0].http_addr)),
        AssetHistory.outside(instance, CLUSTER_ASSETS),
    )
    seen_before = history.observed()
    report = back_up(source, harness.repository, BackupOptions(), Run(lambda _: None))
    assert len(report.unchanged) == 3
    write_to(cluster, 0, 2.0)
    assert harness.scan().success
    record_backup(
        history, report, ManifestCache(harness.repository), archives={}, seen_before=seen_before
    )
    assert sorted(harness.shards().values(), key=str) == [FRESH, FRESH, STALE]


@pytest.mark.fault(41)
def test_a_run_that_failed_and_is_launched_again_from_its_failure_copies_what_is_left(
    cluster: EmbeddedCluster,
    harness: DagsterHarness,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHARDKEEPER_CONFIG", str(tmp_path / "shardkeeper.yaml"))
    with unreadable(cluster, ShardID(4)):
        failed = harness.back_up(attempts=1)
    assert "1 of 3 shards was not saved" in failure(failed).description
    assert harness.backed_up() == {PARTITIONS[0]: 1, PARTITIONS[1]: 0, PARTITIONS[2]: 1}
    again = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
    job = launched("back_up_influxdb")
    with dg.execute_job(job, instance=instance, reexecution_options=again) as result:
        assert result.success
        steps = {event.step_key for event in result.all_events if event.is_step_start}
    assert f"{CLUSTER_ASSETS.name}__meta_snapshot" not in steps  # it had succeeded
    assert archives(harness) == ["s1.tar.gz", "s4.tar.gz", "s7.tar.gz"]
    assert harness.backed_up() == dict.fromkeys(PARTITIONS, 1)
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


@pytest.mark.fault(44)
def test_shards_come_and_go_by_the_dozen_among_a_hundred_thousand_partitions(
    cluster: EmbeddedCluster, harness: DagsterHarness, instance: dg.DagsterInstance
) -> None:
    past = [f"past/autogen/{10**6 + i}" for i in range(MANY)]
    instance.add_dynamic_partitions("influxdb/shards", past)
    assert harness.back_up().success
    _, cursor = harness.sense("watch_influxdb")
    cluster.query("DROP DATABASE telegraf")
    cluster.query("CREATE DATABASE telegraf WITH REPLICATION 1")
    for week in range(40):
        write_to(cluster, week, 1.0)
    places = [place for place in cluster.group.metastore.places() if place.database == "telegraf"]
    there = {f"telegraf/autogen/{place.shard_id}" for place in places}
    began = time.process_time()
    asked, cursor = harness.sense("watch_influxdb", cursor)
    tick_s = time.process_time() - began
    assert [request.tags["shardkeeper/why"] for request in asked.run_requests] == [
        "40-shards-changed"
    ]
    assert tick_s < 10.0
    assert harness.back_up().success
    kept = harness.partitions
    # Those that were never backed up go, a few with each look; all others stay.
    max_polls = 10
    assert len(kept) == len(set(kept))
    assert MANY + 3 + 40 - max_polls * MAX_FORGOTTEN <= len(kept) < MANY + 3 + 40
    assert set(PARTITIONS) <= set(kept)
    new = sorted(set(kept) - {*past, *PARTITIONS})
    assert set(new) <= there
    # A partition whose shard has gone keeps its backup, and nothing asks for another one.
    for partition in (*PARTITIONS, new[0], new[-1]):
        assert len(harness.events(CLUSTER_ASSETS.shard_backup, partition)) == 1
        assert harness.status(CLUSTER_ASSETS.shard_backup, partition) is FRESH
    quiet, _ = harness.sense("watch_influxdb", cursor)
    assert quiet.run_requests == []
    assert harness.check().passed
