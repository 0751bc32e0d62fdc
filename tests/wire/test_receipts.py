"""A restore leaves the proof of what it did, or does not claim to have done it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.repository.formats.self_checksum import checksum_matches
from tests.influxd import Influxd
from tests.wire.commands import backup, influxd_backup, restore
from tests.wire.points import count, points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000

Fresh = Callable[[], str]


@pytest.fixture(scope="module")
def life(source: Influxd) -> Iterator[str]:
    """A database of two shards: 60 points of three series."""
    db = "receipts"
    source.create_database(db)
    source.write(db, [f"m,k={i % 3} v={i} {T0 + i % 2 * WEEK + i}" for i in range(60)])
    yield db
    source.drop_database(db)


def receipt_in(directory: Path) -> dict[str, Any]:
    [path] = directory.glob("*.receipt.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert checksum_matches(path.read_bytes())
    return json.loads(path.read_bytes())


def test_a_receipt_says_what_the_target_holds(
    source: Influxd, target: Influxd, life: str, backups: Path, fresh: Fresh
):
    backup(source, backups, "-db", life)
    new = fresh()
    done = restore(target, backups, "-db", life, "-newdb", new)
    [path] = backups.glob("*.receipt.json")
    assert f"receipt of 2 copies, read back and compared: {path}" in done.err
    receipt = receipt_in(backups)
    assert receipt["target"]["address"] == target.bind_addr
    assert receipt["target"]["version"] == target.version
    shards = receipt["shards"]
    assert [shard["newDatabase"] for shard in shards] == [new, new]
    copies = [copy for shard in shards for copy in shard["copies"]]
    assert {copy["readBack"] for copy in copies} == {"identical"}
    assert sum(copy["points"] for copy in copies) == count(points(target, new)) == 60
    assert [copy["series"] for copy in copies] == [3, 3]
    assert min(copy["minTime"] for copy in copies) == T0
    assert max(copy["maxTime"] for copy in copies) == T0 + WEEK + 59
    output = {
        (str(shard["newShardID"]), file["name"]): (file["size"], file["crc32"])
        for shard in shards
        for file in shard["copies"][0]["files"]
    }
    there = {
        (path.parent.name, path.name): (path.stat().st_size, f"{zlib.crc32(path.read_bytes()):08x}")
        for path in target.tsm_files(new)
    }
    assert output == there


def test_content_is_the_manifests_when_nothing_was_deleted(
    source: Influxd, target: Influxd, life: str, backups: Path, fresh: Fresh
):
    backup(source, backups, "-db", life)
    restore(target, backups, "-db", life, "-newdb", fresh())
    [manifest] = backups.glob("*.manifest")
    files = json.loads(manifest.read_bytes())["files"]
    backed_up = {entry["fileName"]: entry["shardkeeper"]["content"] for entry in files}
    restored = {
        shard["fileName"]: shard["copies"][0]["content"] for shard in receipt_in(backups)["shards"]
    }
    assert restored == backed_up


def test_archives_of_the_original_tools_get_figures_too(
    source: Influxd, target: Influxd, life: str, backups: Path, fresh: Fresh
):
    source.flush(life)
    influxd_backup(source, backups, "-database", life)
    restore(target, backups, "-db", life, "-newdb", fresh())
    copies = [copy for shard in receipt_in(backups)["shards"] for copy in shard["copies"]]
    assert sum(copy["points"] for copy in copies) == 60


def test_two_restores_keep_two_receipts(
    source: Influxd, target: Influxd, life: str, backups: Path, fresh: Fresh
):
    backup(source, backups, "-db", life)
    for _ in range(2):
        restore(target, backups, "-db", life, "-newdb", fresh())
    assert len(list(backups.glob("*.receipt.json"))) == 2


def test_without_receipts_nobody_claims_proof(
    source: Influxd, target: Influxd, life: str, backups: Path, fresh: Fresh
):
    backup(source, backups, "-db", life)
    new = fresh()
    done = restore(target, backups, "-receipts", "off", "-db", life, "-newdb", new)
    assert "nothing proves what arrives" in done.err
    assert "read back and" not in done.err
    assert not list(backups.glob("*.receipt.json"))
    assert count(points(target, new)) == 60
