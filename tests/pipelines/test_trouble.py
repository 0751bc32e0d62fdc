"""Backups in Dagster on bad days: recorded as they went, stale where they failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.evaluation import EVERY_SHARD_CURRENT
from tests.influxd import Influxd
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, at, failure, fill, write
from tests.proxy import Act, Cut, Proxy

pytestmark = pytest.mark.wire
FRESH, STALE, MISSING = StaleStatus.FRESH, StaleStatus.STALE, StaleStatus.MISSING


@pytest.fixture
def proxy(source: Influxd) -> Iterator[Proxy]:
    with Proxy(source.bind_addr) as proxy:
        yield proxy


@pytest.fixture
def harness(
    source: Influxd, proxy: Proxy, tmp_path: Path, instance: dg.DagsterInstance
) -> DagsterHarness:
    return DagsterHarness(tmp_path, instance, {**at(source), "host": proxy.address})


def copies_of(shard: int) -> Callable[[bytes], bool]:
    """Requests for all files of a shard: type 0, and no time after which they must be."""
    wanted = f'"ShardID":{shard},'.encode()
    return lambda head: head[:2] == b"\x03\x00" and wanted in head


def test_a_shard_that_cannot_be_copied_fails_the_run_and_not_the_others(
    source: Influxd, proxy: Proxy, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(3))
    proxy.break_all(Cut(at=600), chosen=copies_of(2))
    result = harness.back_up(attempts=1)
    assert not result.success
    output = failure(result)
    assert "1 of 3 shards was not saved; the first is shard 2" in output.description
    assert output.metadata["exit_code"].value == "PARTIAL"
    assert [record.data["shard_id"] for record in output.metadata["failed"].records] == [2]
    assert harness.shards() == {
        "telegraf/autogen/1": FRESH,
        "telegraf/autogen/2": MISSING,
        "telegraf/autogen/3": FRESH,
    }
    assert harness.events(CLUSTER_ASSETS.backup_set) == []
    [source_now, *_] = harness.events(CLUSTER_ASSETS.meta_snapshot)
    assert source_now.metadata["shards_to_copy"].value == 1
    assert not harness.check().passed

    proxy.heal()
    assert harness.back_up().success
    assert harness.check().passed
    assert harness.backed_up() == dict.fromkeys(harness.partitions, 1)
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


def test_a_shard_that_failed_again_stays_stale_and_keeps_its_old_backup(
    source: Influxd, proxy: Proxy, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    write(source, "telegraf", weeks=[0, 1], value=2.0)
    harness.scan()
    proxy.break_all(Cut(at=600), chosen=lambda head: copies_of(2)(head) and is_whole(head))
    assert not harness.back_up(attempts=1).success
    assert harness.shards() == {"telegraf/autogen/1": FRESH, "telegraf/autogen/2": STALE}
    assert harness.backed_up() == {"telegraf/autogen/1": 2, "telegraf/autogen/2": 1}
    assert harness.status(CLUSTER_ASSETS.backup_set) is STALE


def is_whole(head: bytes) -> bool:
    return b'"Since":"0001-01-01T00:00:00Z"' in head


@pytest.mark.fault(14)
def test_points_written_while_their_shard_is_copied_make_it_stale_at_the_next_look(
    source: Influxd, proxy: Proxy, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))

    def write_more() -> None:
        write(source, "telegraf", weeks=[0], value=2.0)

    proxy.break_next(Act(at=600, what=write_more), chosen=copies_of(1))
    assert harness.back_up().success
    assert proxy.pending == 0
    assert harness.check().passed  # as far as anyone knows
    harness.scan()
    assert not harness.check().passed
    assert harness.shards() == {"telegraf/autogen/1": STALE, "telegraf/autogen/2": FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is STALE
    assert harness.back_up().success
    assert set(harness.shards().values()) == {FRESH}


def test_executing_the_check_looks_at_the_server(source: Influxd, harness: DagsterHarness) -> None:
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    write(source, "telegraf", weeks=[1], value=2.0)
    key = dg.AssetCheckKey(CLUSTER_ASSETS.shard_backup, EVERY_SHARD_CURRENT)
    job = dg.define_asset_job("check", selection=dg.AssetSelection.checks(key))
    defs = dg.Definitions.merge(harness.defs, dg.Definitions(jobs=[job]))
    assert defs.resolve_job_def("check").execute_in_process(instance=harness.instance).success
    assert not harness.check().passed
    assert harness.shards() == {"telegraf/autogen/1": FRESH, "telegraf/autogen/2": STALE}


@pytest.mark.fault(34)
def test_an_unmounted_directory_is_an_error_with_the_next_step_and_records_nothing(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    harness.backups.rmdir()
    output = failure(harness.back_up())
    assert output.metadata["exit_code"].value == "NO_REPOSITORY"
    assert harness.partitions == []


@pytest.mark.fault(34)
def test_a_directory_that_is_empty_and_was_not_is_left_empty_until_somebody_says_so(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    assert harness.back_up().success
    [first] = harness.events(CLUSTER_ASSETS.backup_set)
    name = str(first.metadata["restore_point"].value)
    harness.backups.rename(harness.backups.with_name("not mounted"))
    harness.backups.mkdir()
    for result in (
        harness.back_up(),
        harness.back_up(full=True),
        harness.materialize(CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/1"),
    ):
        output = failure(result)
        assert output.metadata["exit_code"].value == "NO_REPOSITORY"
        assert f"holds no backup, and {name} was made there" in output.description
    assert list(harness.backups.iterdir()) == []
    assert len(harness.events(CLUSTER_ASSETS.backup_set)) == 1
    assert harness.back_up(new_directory=True).success
    assert harness.back_up().success
    assert len(harness.events(CLUSTER_ASSETS.backup_set)) == 3


def test_a_server_that_is_gone_is_an_error_that_may_be_tried_again(
    source: Influxd, harness: DagsterHarness
) -> None:
    source.stop()
    result = harness.scan()
    assert not result.success
    assert failure(result).metadata["kind"].value in ("PeerUnreachable", "PeerClosedEarly")
