"""What an auditor reads in the UI: of each archive, each restore point and each restore."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from assets.evaluation import ARCHIVES_MATCH
from tests.influxd import Influxd
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness, at, fill, write
from tests.wire.commands import influxd_backup

pytestmark = pytest.mark.wire
SHARDS, META = CLUSTER_ASSETS.shards.to_user_string(), CLUSTER_ASSETS.meta_snapshot.to_user_string()
ROW = (
    *("change", "shard", "database", "policy"),
    *("tar bytes before", "tar bytes now", "values before", "values now"),
)


def facts(event: Any) -> dict[str, Any]:
    """The metadata of an event; tables as lists of rows."""
    return {
        name: [row.data for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.metadata.items()
    }


def newest(
    harness: DagsterHarness, key: dg.AssetKey, partition: str | None = None
) -> dict[str, Any]:
    return facts(harness.events(key, partition)[0])


def test_a_restore_point_lists_what_came_changed_and_went_since_the_last_one(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(3))
    fill(source, "old", weeks=[0])
    harness.back_up()
    first = newest(harness, CLUSTER_ASSETS.backup_set)
    assert first["since"] == "the beginning; this is the first"
    assert [row["change"] for row in first["changes"]] == ["new"] * 4
    assert {row["values before"] for row in first["changes"]} == {None}

    write(source, "telegraf", weeks=[1], value=2.0)
    source.drop_database("old")
    fill(source, "fresh", weeks=[0])
    before = newest(harness, CLUSTER_ASSETS.shard_backup, "telegraf/autogen/2")
    old = newest(harness, CLUSTER_ASSETS.shard_backup, "old/autogen/4")
    assert harness.back_up().success
    now = newest(harness, CLUSTER_ASSETS.shard_backup, "telegraf/autogen/2")
    fresh = newest(harness, CLUSTER_ASSETS.shard_backup, "fresh/autogen/5")
    found = newest(harness, CLUSTER_ASSETS.backup_set)
    assert found["since"] == first["restore_point"]
    assert [found[f"shards_{kind}"] for kind in ("new", "changed", "gone")] == [1, 1, 1]
    assert [tuple(row[name] for name in ROW) for row in found["changes"]] == [
        ("gone", 4, "old", "autogen", old["tar_bytes"], None, 10, None),
        ("new", 5, "fresh", "autogen", None, fresh["tar_bytes"], None, 10),
        (
            *("changed", 2, "telegraf", "autogen"),
            *(before["tar_bytes"], now["tar_bytes"], before["values"], now["values"]),
        ),
    ]
    assert now["values"] > before["values"] == 10

    assert harness.back_up(full=True).success  # copies all of them; none is another one
    last = newest(harness, CLUSTER_ASSETS.backup_set)
    assert last["shards_copied"] == 4
    assert last["since"] == found["restore_point"]
    assert [last[f"shards_{kind}"] for kind in ("new", "changed", "gone")] == [0, 0, 0]
    assert "changes" not in last


def test_what_is_gone_is_reported_by_the_next_whole_backup_or_reported_to_be_unknown(
    source: Influxd, harness: DagsterHarness
) -> None:
    for name in ("kept", "one", "two"):
        fill(source, name, weeks=[0])
    harness.back_up()
    source.drop_database("one")
    harness.back_up(db="kept")
    assert (
        newest(harness, CLUSTER_ASSETS.backup_set)["shards_gone"] == 0
    )  # it looked at a part only
    harness.back_up()
    found = newest(harness, CLUSTER_ASSETS.backup_set)
    [row] = found["changes"]
    assert (row["change"], row["database"]) == ("gone", "one")
    source.drop_database("two")
    (harness.backups / f"{found['restore_point']}.meta").unlink()
    assert harness.back_up().success
    found = newest(harness, CLUSTER_ASSETS.backup_set)
    assert found["shards_gone"] == 0
    assert "missing" in found["shards_gone_unknown"]


def test_every_event_carries_what_an_audit_asks_and_the_versions_it_was_made_from(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    assert harness.back_up().success
    [scanned, *_] = harness.events(CLUSTER_ASSETS.meta_snapshot)
    seen = scanned.tags["dagster/data_version"]
    [event] = harness.events(CLUSTER_ASSETS.shard_backup, "telegraf/autogen/2")
    backup = facts(event)
    archive = Path(backup["path"])
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == backup["sha256"]
    assert archive.name in Path(backup["manifest"]).read_text()
    assert backup["bytes"] == archive.stat().st_size
    assert (backup["values"], backup["node"]) == (10, source.bind_addr)
    assert backup["server_version"] == source.version
    assert backup["checked"].startswith("full")
    assert {"seconds", "first_point", "last_point", "made_at"} <= backup.keys()
    assert backup["shard_version"] == event.tags[f"dagster/input_data_version/{SHARDS}"]
    # The copies were made from what the run's own look saw, which came before them.
    earlier = {e.tags["dagster/data_version"] for e in harness.events(CLUSTER_ASSETS.meta_snapshot)}
    assert backup["meta_snapshot_version"] in earlier

    [event] = harness.events(CLUSTER_ASSETS.backup_set)
    point = facts(event)
    assert point["meta_snapshot_version"] == seen
    assert point["meta_snapshot_version"] == event.tags[f"dagster/input_data_version/{META}"]
    versions = {row["shard"]: row["shard version"] for row in point["shards_of_this_run"]}
    assert versions[2] == backup["shard_version"]

    # A run that asks for what is there already gets the same facts, and the run that made it.
    assert harness.materialize(CLUSTER_ASSETS.shard_backup, first="telegraf/autogen/2").success
    again = newest(harness, CLUSTER_ASSETS.shard_backup, "telegraf/autogen/2")
    assert again["copied"].startswith("earlier")
    same = ("path", "manifest", "sha256", "server_version", "values", "node", "shard_version")
    assert {name: again[name] for name in same} == {name: backup[name] for name in same}


def test_a_backup_of_the_original_tool_is_reported_with_its_own_time_and_where_it_is(
    source: Influxd, harness: DagsterHarness
) -> None:
    fill(source, "telegraf", weeks=range(2))
    influxd_backup(source, harness.backups)
    [manifest] = harness.backups.glob("*.manifest")
    made_at = datetime.strptime(manifest.stem, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    events, cursor = harness.sense("adopt_influxdb")
    assert "2 archives recorded" in (events.skip_message or "")
    assert harness.partitions == ["telegraf/autogen/1", "telegraf/autogen/2"]
    for shard in (1, 2):
        [event] = harness.events(CLUSTER_ASSETS.shard_backup, f"telegraf/autogen/{shard}")
        found = facts(event)
        assert found["made_at"] == made_at.timestamp()
        assert found["copied"] == "outside of Dagster"
        assert found["checked"].startswith("not yet: another tool made it")
        assert Path(found["path"]) == harness.backups / f"{manifest.stem}.s{shard}.tar.gz"
        assert found["manifest"] == str(manifest)
        assert event.tags[f"dagster/input_event_pointer/{SHARDS}"].isdigit()
    [event] = harness.events(CLUSTER_ASSETS.backup_set)
    point = facts(event)
    assert (point["made"], point["made_at"]) == ("outside of Dagster", made_at.timestamp())
    assert point["restore_point"] == manifest.stem
    assert point["shards_new"] == 2
    assert set(harness.shards().values()) == {StaleStatus.FRESH}
    assert harness.status(CLUSTER_ASSETS.backup_set) is StaleStatus.FRESH

    # Its archives have not been read, so the check is open; verify reads them.
    key = dg.AssetCheckKey(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH)
    log = harness.instance.event_log_storage
    assert log.get_asset_check_execution_history(key, limit=1) == []
    assert harness.run("verify_influxdb").success
    assert (
        harness.check(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH).metadata["archives_read"].value
        == 2
    )

    # It cannot be compared with the shards, so the next backup copies them once more.
    assert harness.back_up().success
    assert harness.backed_up() == dict.fromkeys(harness.partitions, 2)
    assert newest(harness, CLUSTER_ASSETS.backup_set)["since"] == manifest.stem
    assert harness.sense("adopt_influxdb", cursor)[0].run_requests == []
    assert len(harness.events(CLUSTER_ASSETS.backup_set)) == 2


def test_a_restore_names_its_source_its_target_its_numbers_and_its_receipts(
    source: Influxd,
    influxd_factory: Callable[..., Influxd],
    tmp_path: Path,
    instance: dg.DagsterInstance,
) -> None:
    target = influxd_factory()
    harness = DagsterHarness(tmp_path, instance, at(source), target=at(target))
    target.create_database("already there")  # so that shard numbers differ
    target.write("already there", "m v=1 1")
    fill(source, "telegraf", weeks=range(2))
    harness.back_up()
    point = newest(harness, CLUSTER_ASSETS.backup_set)
    assert harness.run("restore_influxdb", db="telegraf", newdb="copy").success

    meta = newest(harness, CLUSTER_ASSETS.restored_meta)
    assert meta["restore_point"] == point["restore_point"]
    assert meta["target"] == target.bind_addr
    receipts = Path(meta["receipts"])
    assert receipts.parent == harness.backups
    assert target.bind_addr in receipts.read_text()
    numbers = {row["shard"]: row["new shard"] for row in meta["shards_restored"]}
    assert numbers == {1: 2, 2: 3}
    assert [row["from"] for row in meta["shards_restored"]] == ["telegraf.autogen"] * 2
    assert [row["into"] for row in meta["shards_restored"]] == ["copy.autogen"] * 2
    for shard, number in numbers.items():
        partition = f"telegraf/autogen/{shard}"
        restored = newest(harness, CLUSTER_ASSETS.restored_shards, partition)
        backup = newest(harness, CLUSTER_ASSETS.shard_backup, partition)
        assert restored["restore_point"] == point["restore_point"]
        assert (restored["shard_id"], restored["new_shard_id"]) == (str(shard), str(number))
        assert restored["archive"] == Path(backup["path"]).name
        assert restored["shard_version"] == backup["shard_version"]
        assert restored["receipts"] == meta["receipts"]
