"""Backups in Dagster: what a run copies, what it records, and what is stale afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from resources.engine.verify.verify import verify
from tests.influxd import Influxd
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, at, failure, fill, write

pytestmark = pytest.mark.wire
FRESH, STALE, MISSING = StaleStatus.FRESH, StaleStatus.STALE, StaleStatus.MISSING


def test_a_first_run_copies_every_shard_and_leaves_nothing_stale(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(3))
    assert harness.back_up().success
    assert harness.partitions == [f"telegraf/autogen/{i}" for i in (1, 2, 3)]
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH
    [point] = harness.events(CLUSTER_ASSETS.backup_set)
    assert point.metadata["shards_copied"].value == 3
    assert point.metadata["values"].value == 30
    assert verify(harness.repository).problems == ()


def test_a_look_marks_the_written_shard_and_the_next_run_copies_that_one_alone(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(3))
    harness.back_up()
    write(source, "telegraf", weeks=[1], value=2.0)
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH  # no scan has run yet
    assert harness.scan().success
    assert harness.shards() == {
        "telegraf/autogen/1": FRESH,
        "telegraf/autogen/2": STALE,
        "telegraf/autogen/3": FRESH,
    }
    assert harness.status(CLUSTER_ASSETS.backup_set) is STALE
    assert not harness.check().passed
    [row] = harness.check().metadata["to_copy"].records
    assert row.data["partition"] == "telegraf/autogen/2"
    assert row.data["archived bytes"]
    assert harness.back_up().success
    assert harness.check().passed
    assert harness.backed_up() == {
        "telegraf/autogen/1": 1,
        "telegraf/autogen/2": 2,
        "telegraf/autogen/3": 1,
    }
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


def test_more_shards_than_dagster_compares_are_current_and_stale_all_the_same(
    source: Influxd, harness: DagsterHarness
) -> None:
    # Dagster does not look at an edge with 100 or more parent partitions.
    fill(source, "telegraf", weeks=range(110))
    assert harness.back_up().success
    assert len(harness.partitions) == 110
    harness.scan()
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH
    write(source, "telegraf", weeks=[50], value=2.0)
    harness.scan()
    assert harness.status(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/51") is STALE
    assert harness.status(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/52") is FRESH
    assert harness.status(CLUSTER_ASSETS.backup_set) is STALE
    harness.back_up()
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


def test_a_look_at_a_server_at_rest_changes_nothing(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    scans = len(harness.events(CLUSTER_ASSETS.shards))
    harness.scan()
    assert len(harness.events(CLUSTER_ASSETS.shards)) == scans
    assert set(harness.shards().values()) == {FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


@pytest.mark.fault(17)
def test_a_dropped_database_keeps_its_partitions_and_their_backups(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "old", weeks=[0])
    fill(source, "kept", weeks=[0])
    harness.back_up()
    source.drop_database("old")
    fill(source, "old", weeks=[0])
    assert harness.back_up().success
    assert harness.shards() == {
        "old/autogen/1": FRESH,
        "kept/autogen/2": FRESH,
        "old/autogen/3": FRESH,
    }
    assert harness.backed_up() == {"old/autogen/1": 1, "kept/autogen/2": 1, "old/autogen/3": 1}


@pytest.mark.fault(96, 99)
def test_names_of_any_spelling_become_partitions(source: Influxd, harness: DagsterHarness) -> None:
    for name in ("a...b", "x|y", 'q"uote, [1]', "größe 数", "50%"):
        fill(source, name, weeks=[0])
    assert harness.back_up().success
    assert harness.partitions == [
        "a.%2E%2Eb/autogen/1",
        "x%7Cy/autogen/2",
        "q%22uote%2C %5B1%5D/autogen/3",
        "größe 数/autogen/4",
        "50%25/autogen/5",
    ]
    assert set(harness.shards().values()) == {FRESH}


def test_a_run_limited_to_a_database_is_a_backup_and_no_restore_point_of_the_server(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "one", weeks=[0])
    fill(source, "two", weeks=[0])
    assert harness.back_up(db="one").success
    assert harness.shards() == {"one/autogen/1": FRESH, "two/autogen/2": MISSING}
    assert harness.status(CLUSTER_ASSETS.backup_set) is STALE
    [point] = harness.events(CLUSTER_ASSETS.backup_set)
    assert point.metadata["covers"].value == "database one"
    assert harness.back_up().success
    assert harness.status(CLUSTER_ASSETS.backup_set) is FRESH


def test_missing_partitions_are_filled_by_a_range_run_that_copies_those_alone(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(4))
    harness.back_up(shard=2)
    result = harness.materialize(
        CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/3", last="telegraf/autogen/4"
    )
    assert result.success
    assert harness.shards() == {
        "telegraf/autogen/1": MISSING,
        "telegraf/autogen/2": FRESH,
        "telegraf/autogen/3": FRESH,
        "telegraf/autogen/4": FRESH,
    }
    assert not harness.check().passed
    [row] = harness.check().metadata["to_copy"].records
    assert row.data["partition"] == "telegraf/autogen/1"
    assert harness.materialize(CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/1").success
    assert harness.check().passed
    assert harness.back_up().success
    assert sorted(harness.repository.current().archives) == [1, 2, 3, 4]


def test_a_partition_that_needs_no_copy_is_done_all_the_same(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    write(source, "telegraf", weeks=[0], value=2.0)
    chosen = {"first": "telegraf/autogen/1", "last": "telegraf/autogen/2"}
    assert harness.materialize(CLUSTER_ASSETS.shard_backup, **chosen).success
    states = harness.instance.get_status_by_partition(
        CLUSTER_ASSETS.shard_backup, harness.partitions, CLUSTER_ASSETS.partitions
    )
    assert states == dict.fromkeys(harness.partitions, AssetPartitionStatus.MATERIALIZED)
    [newest, _] = harness.events(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/2")
    assert newest.metadata["copied"].value == "earlier; found unchanged in this run"
    assert set(harness.shards().values()) == {FRESH}
    assert harness.materialize(CLUSTER_ASSETS.shard_backup, **chosen, full=True).success
    newest, *_ = harness.events(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/2")
    assert newest.metadata["copied"].value == "in this run"


def test_a_partition_that_no_server_has_is_refused_in_a_sentence(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    harness.instance.add_dynamic_partitions("influxdb/shards", ["telegraf/autogen/99", "nonsense"])
    gone = failure(harness.materialize(CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/99"))
    assert "the server has no shard 99" in gone.description
    nonsense = failure(harness.materialize(CLUSTER_ASSETS.shard_backup, first="nonsense"))
    assert "'nonsense' is no shard's partition" in nonsense.description
    assert nonsense.metadata["exit_code"].value == "USAGE"


def test_a_partition_that_names_another_database_is_refused_in_a_sentence(
    source: Influxd, harness: DagsterHarness
) -> None:
    """A shard's number alone does not make it the one that was chosen."""
    fill(source, "telegraf", weeks=[0])
    assert harness.scan().success
    [right] = harness.partitions
    wrong = right.replace("telegraf", "wrong")
    harness.instance.add_dynamic_partitions("influxdb/shards", [wrong])
    alone = failure(harness.materialize(CLUSTER_ASSETS.shard_backup, first=wrong))
    number = right.rpartition("/")[2]
    there, wanted = (f"policy 'autogen' of '{name}'" for name in ("telegraf", "wrong"))
    output = f"shard {number} belongs to {there}, not to {wanted}"
    assert alone.description.startswith(output)
    assert "by the database and the policy" in alone.metadata["next_step"].value
    assert list(harness.backups.glob("*.manifest")) == []
    among = failure(harness.materialize(CLUSTER_ASSETS.shard_backup, first=right, last=wrong))
    assert among.description.startswith(f"{output}; the others are saved")
    assert harness.backed_up() == {right: 1}  # what was never a shard leaves the graph
    harness.instance.add_dynamic_partitions("influxdb/shards", [wrong])
    assert harness.scan().success
    assert harness.partitions == [right]


@pytest.mark.fault(42)
def test_backups_made_outside_dagster_are_adopted_and_not_copied_again(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    with dg.DagsterInstance.ephemeral() as another:
        newcomer = DagsterHarness(harness.backups.parent, another, at(source))
        assert newcomer.back_up().success
        assert set(newcomer.shards().values()) == {FRESH}
        [backup] = newcomer.events(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/1")
        assert backup.metadata["copied"].value.startswith("earlier")
        [point] = newcomer.events(CLUSTER_ASSETS.backup_set)
        assert point.metadata["shards_copied"].value == 0
    assert len(harness.repository.manifests()) == 2


def test_a_backup_says_where_its_archive_is_and_what_is_in_it(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=[0])
    harness.back_up()
    [backup] = harness.events(CLUSTER_ASSETS.shard_backup)
    facts = {name: value.value for name, value in backup.metadata.items()}
    assert Path(facts["path"]).stat().st_size == facts["bytes"]
    assert facts["values"] == 10
    assert facts["node"] == source.bind_addr
    assert facts["server_version"] == source.version
    assert facts["first_point"] == "2020-09-13 12:26:40 UTC"
    assert facts["checked"].startswith("full")


@pytest.mark.fault(82)
def test_no_secret_is_in_what_a_run_leaves_behind(
    influxd_factory: Callable[..., Influxd],
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = influxd_factory(config={"http": {"auth-enabled": True}})
    source.query("CREATE USER admin WITH PASSWORD 'hunter2-the-secret' WITH ALL PRIVILEGES")
    source.credentials = "admin", "hunter2-the-secret"
    fill(source, "telegraf", weeks=[0])
    monkeypatch.setenv("INFLUX_SECRET", "hunter2-the-secret")
    here = at(source, user="admin", password={"env": "INFLUX_SECRET"})
    harness = DagsterHarness(tmp_path, instance, here)
    result = harness.back_up()
    assert result.success
    log = instance.all_logs(result.run_id)
    run = instance.get_run_by_id(result.run_id)
    left = "\n".join(str(entry) for entry in log) + json.dumps(run.run_config if run else None)
    assert "telegraf" in left
    assert "hunter2" not in left
    [point] = harness.events(CLUSTER_ASSETS.backup_set)
    assert point.metadata["server_version"].value == source.version  # HTTP let us in
