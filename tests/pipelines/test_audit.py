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
from tests.pipelines.world import FAMILY, World, at, fill, write
from tests.wire.commands import influxd_backup

pytestmark = pytest.mark.wire
SHARDS, META = FAMILY.shards.to_user_string(), FAMILY.meta_snapshot.to_user_string()
ROW = (
    *("change", "shard", "database", "policy"),
    *("tar bytes before", "tar bytes now", "points before", "points now"),
)


def facts(event: Any) -> dict[str, Any]:
    """The metadata of an event; tables as lists of rows."""
    return {
        name: [row.data for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in event.metadata.items()
    }


def newest(world: World, key: dg.AssetKey, partition: str | None = None) -> dict[str, Any]:
    return facts(world.events(key, partition)[0])


def test_a_restore_point_lists_what_came_changed_and_went_since_the_last_one(
    source: Influxd, world: World
) -> None:
    fill(source, "telegraf", weeks=range(3))
    fill(source, "old", weeks=[0])
    world.back_up()
    first = newest(world, FAMILY.backup_set)
    assert first["since"] == "the beginning; this is the first"
    assert [row["change"] for row in first["changes"]] == ["new"] * 4
    assert {row["points before"] for row in first["changes"]} == {None}

    write(source, "telegraf", weeks=[1], value=2.0)
    source.drop_database("old")
    fill(source, "fresh", weeks=[0])
    before = newest(world, FAMILY.shard_backup, "telegraf/autogen/2")
    old = newest(world, FAMILY.shard_backup, "old/autogen/4")
    assert world.back_up().success
    now = newest(world, FAMILY.shard_backup, "telegraf/autogen/2")
    fresh = newest(world, FAMILY.shard_backup, "fresh/autogen/5")
    found = newest(world, FAMILY.backup_set)
    assert found["since"] == first["restore_point"]
    assert [found[f"shards_{kind}"] for kind in ("new", "changed", "gone")] == [1, 1, 1]
    assert [tuple(row[name] for name in ROW) for row in found["changes"]] == [
        ("gone", 4, "old", "autogen", old["tar_bytes"], None, 10, None),
        ("new", 5, "fresh", "autogen", None, fresh["tar_bytes"], None, 10),
        (
            *("changed", 2, "telegraf", "autogen"),
            *(before["tar_bytes"], now["tar_bytes"], before["points"], now["points"]),
        ),
    ]
    assert now["points"] > before["points"] == 10

    assert world.back_up(full=True).success  # copies all of them; none is another one
    last = newest(world, FAMILY.backup_set)
    assert last["shards_copied"] == 4
    assert last["since"] == found["restore_point"]
    assert [last[f"shards_{kind}"] for kind in ("new", "changed", "gone")] == [0, 0, 0]
    assert "changes" not in last


def test_what_is_gone_is_told_by_the_next_whole_backup_or_said_to_be_unknown(
    source: Influxd, world: World
) -> None:
    for name in ("kept", "one", "two"):
        fill(source, name, weeks=[0])
    world.back_up()
    source.drop_database("one")
    world.back_up(db="kept")
    assert newest(world, FAMILY.backup_set)["shards_gone"] == 0  # it looked at a part only
    world.back_up()
    found = newest(world, FAMILY.backup_set)
    [row] = found["changes"]
    assert (row["change"], row["database"]) == ("gone", "one")
    source.drop_database("two")
    (world.backups / f"{found['restore_point']}.meta").unlink()
    assert world.back_up().success
    found = newest(world, FAMILY.backup_set)
    assert found["shards_gone"] == 0
    assert "missing" in found["shards_gone_unknown"]


def test_every_event_carries_what_an_audit_asks_and_the_versions_it_was_made_from(
    source: Influxd, world: World
) -> None:
    fill(source, "telegraf", weeks=range(2))
    assert world.back_up().success
    [looked, *_] = world.events(FAMILY.meta_snapshot)
    seen = looked.tags["dagster/data_version"]
    [event] = world.events(FAMILY.shard_backup, "telegraf/autogen/2")
    backup = facts(event)
    archive = Path(backup["path"])
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == backup["sha256"]
    assert archive.name in Path(backup["manifest"]).read_text()
    assert backup["bytes"] == archive.stat().st_size
    assert (backup["points"], backup["node"]) == (10, source.bind_addr)
    assert backup["server_version"] == source.version
    assert backup["checked"].startswith("full")
    assert {"seconds", "first_point", "last_point", "made_at"} <= backup.keys()
    assert backup["shard_version"] == event.tags[f"dagster/input_data_version/{SHARDS}"]
    # The copies were made from what the run's own look saw, which came before them.
    earlier = {e.tags["dagster/data_version"] for e in world.events(FAMILY.meta_snapshot)}
    assert backup["meta_snapshot_version"] in earlier

    [event] = world.events(FAMILY.backup_set)
    point = facts(event)
    assert point["meta_snapshot_version"] == seen
    assert point["meta_snapshot_version"] == event.tags[f"dagster/input_data_version/{META}"]
    versions = {row["shard"]: row["shard version"] for row in point["shards_of_this_run"]}
    assert versions[2] == backup["shard_version"]

    # Who asks for what is there already gets the same facts, and who made it.
    assert world.materialize(FAMILY.shard_backup, first="telegraf/autogen/2").success
    again = newest(world, FAMILY.shard_backup, "telegraf/autogen/2")
    assert again["copied"].startswith("earlier")
    same = ("path", "manifest", "sha256", "server_version", "points", "node", "shard_version")
    assert {name: again[name] for name in same} == {name: backup[name] for name in same}


def test_a_backup_of_the_original_tool_is_reported_with_its_own_time_and_where_it_is(
    source: Influxd, world: World
) -> None:
    fill(source, "telegraf", weeks=range(2))
    influxd_backup(source, world.backups)
    [manifest] = world.backups.glob("*.manifest")
    made_at = datetime.strptime(manifest.stem, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    told, cursor = world.sense("adopt_influxdb")
    assert "2 archives recorded" in (told.skip_message or "")
    assert world.partitions == ["telegraf/autogen/1", "telegraf/autogen/2"]
    for shard in (1, 2):
        [event] = world.events(FAMILY.shard_backup, f"telegraf/autogen/{shard}")
        found = facts(event)
        assert found["made_at"] == made_at.timestamp()
        assert found["copied"] == "outside of Dagster"
        assert found["checked"].startswith("not yet: another tool made it")
        assert Path(found["path"]) == world.backups / f"{manifest.stem}.s{shard}.tar.gz"
        assert found["manifest"] == str(manifest)
        assert event.tags[f"dagster/input_event_pointer/{SHARDS}"].isdigit()
    [event] = world.events(FAMILY.backup_set)
    point = facts(event)
    assert (point["made"], point["made_at"]) == ("outside of Dagster", made_at.timestamp())
    assert point["restore_point"] == manifest.stem
    assert point["shards_new"] == 2
    assert set(world.shards().values()) == {StaleStatus.FRESH}
    assert world.status(FAMILY.backup_set) is StaleStatus.FRESH

    # Nobody has read its archives, so the check is open; verify reads them.
    key = dg.AssetCheckKey(FAMILY.shard_backup, ARCHIVES_MATCH)
    log = world.instance.event_log_storage
    assert log.get_asset_check_execution_history(key, limit=1) == []
    assert world.run("verify_influxdb").success
    assert world.check(FAMILY.shard_backup, ARCHIVES_MATCH).metadata["archives_read"].value == 2

    # It cannot be compared with the shards, so the next backup copies them once more.
    assert world.back_up().success
    assert world.backed_up() == dict.fromkeys(world.partitions, 2)
    assert newest(world, FAMILY.backup_set)["since"] == manifest.stem
    assert world.sense("adopt_influxdb", cursor)[0].run_requests == []
    assert len(world.events(FAMILY.backup_set)) == 2


def test_a_restore_names_its_source_its_target_its_numbers_and_its_receipts(
    source: Influxd,
    influxd_factory: Callable[..., Influxd],
    tmp_path: Path,
    instance: dg.DagsterInstance,
) -> None:
    target = influxd_factory()
    world = World(tmp_path, instance, at(source), target=at(target))
    target.create_database("already there")  # so that shard numbers differ
    target.write("already there", "m v=1 1")
    fill(source, "telegraf", weeks=range(2))
    world.back_up()
    point = newest(world, FAMILY.backup_set)
    assert world.run("restore_influxdb", db="telegraf", newdb="copy").success

    meta = newest(world, FAMILY.restored_meta)
    assert meta["restore_point"] == point["restore_point"]
    assert meta["target"] == target.bind_addr
    receipts = Path(meta["receipts"])
    assert receipts.parent == world.backups
    assert target.bind_addr in receipts.read_text()
    numbers = {row["shard"]: row["new shard"] for row in meta["shards_restored"]}
    assert numbers == {1: 2, 2: 3}
    assert [row["from"] for row in meta["shards_restored"]] == ["telegraf.autogen"] * 2
    assert [row["into"] for row in meta["shards_restored"]] == ["copy.autogen"] * 2
    for shard, number in numbers.items():
        partition = f"telegraf/autogen/{shard}"
        restored = newest(world, FAMILY.restored_shards, partition)
        backup = newest(world, FAMILY.shard_backup, partition)
        assert restored["restore_point"] == point["restore_point"]
        assert (restored["shard_id"], restored["new_shard_id"]) == (str(shard), str(number))
        assert restored["archive"] == Path(backup["path"]).name
        assert restored["shard_version"] == backup["shard_version"]
        assert restored["receipts"] == meta["receipts"]
