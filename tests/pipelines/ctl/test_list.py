"""`shardkeeper list` shows every backup and every shard, also in need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.ctl.list_render import age, catalog_json, render_catalog, state
from resources.engine.catalog.catalog import Catalog, list_backup, list_shards
from resources.model import ShardID
from resources.repository.formats.details import FailedShard
from resources.repository.formats.manifest import Limits
from tests import builders as b
from tests.wire.commands import shardkeeper

NOW_NS = 1_795_341_060 * 10**9 + 2 * b.HOUR_NS
STORE = b.metastore(
    b.database("home", b.policy("week", b.group(1, 1))), b.database("other", b.policy("rp"))
)
OURS = b.archive(
    1, b.details(points=12, min_time_ns=0, max_time_ns=9), database="home", policy="week"
)
GONE = b.archive(9, database="other\n\x1b[31m", policy="rp", second=1)
SIZES = {OURS.entry.file_name: 9, GONE.entry.file_name: 5, "20261122T095100Z.meta": 1}


def catalog(*failed: int, **unreadable: str) -> Catalog:
    details = b.backup_details(
        started_at_ns=NOW_NS - 2 * b.HOUR_NS,
        failed=tuple(FailedShard(ShardID(i), "broken") for i in failed),
    )
    backup = list_backup(b.stored(OURS.entry, details=details), SIZES)
    shards = list_shards(b.backup_set(OURS, GONE), STORE, SIZES, {})
    return Catalog((backup,), unreadable, shards)


def test_a_backup_and_each_policy_have_a_line() -> None:
    backups, policies, gone = render_catalog(catalog(), Limits(), NOW_NS, by_shard=False).split(
        "\n\n"
    )
    assert backups.splitlines()[1].split() == [
        "20261122T095100Z", "2", "h", "incremental", "everything", "h:8088", "1", "0", "9", "B",
        "12", "complete",
    ]  # fmt: skip
    assert policies.splitlines()[1].split()[:6] == ["home", "week", "1", "9", "B", "12"]
    assert policies.splitlines()[2].split()[-2:] == ["1", "adopted"]
    assert gone.startswith("1 shard is gone at the source")


def test_each_shard_has_a_line_and_no_name_reaches_the_terminal_raw() -> None:
    shown = render_catalog(catalog(), Limits(), NOW_NS, by_shard=True)
    assert "\x1b" not in shown
    assert len(shown.split("\n\n")[1].splitlines()) == 3
    only = render_catalog(catalog(), Limits("home"), NOW_NS, by_shard=True)
    assert "other" not in only
    assert "no shard of nothing" in render_catalog(catalog(), Limits("nothing"), 0, by_shard=True)


def test_the_document_has_exact_numbers() -> None:
    document = json.loads(catalog_json(catalog(4), Limits("home"), NOW_NS))
    assert document["backups"][0]["failed"] == [4]
    assert document["backups"][0]["complete"] is False
    [shard] = document["shards"]
    assert (shard["values"], shard["grade"], shard["backup"]) == (12, "verified", b.stamp(0))


@pytest.mark.parametrize(
    ("failed", "text"), [((), "complete"), ((4,), "1 shard failed"), ((4, 5), "2 shards failed")]
)
def test_the_state_of_a_backup(failed: tuple[int, ...], text: str) -> None:
    assert state(catalog(*failed).backups[0]) == text


def test_an_age_has_one_unit() -> None:
    assert [age(n) for n in (0, 119, 120, 7200, 2 * 86_400, -300)] == [
        "0 s", "119 s", "2 min", "2 h", "2 d", "in 5 min",
    ]  # fmt: skip


def test_what_can_be_read_is_listed_beside_a_damaged_manifest(tmp_path: Path) -> None:
    whole = b.stored(second=1)
    (tmp_path / whole.file_name).write_bytes(whole.manifest.encode())
    (tmp_path / f"{b.stamp(0)}.manifest").write_bytes(b"{")
    done = shardkeeper("list", tmp_path)
    assert done.code == 13
    assert b.stamp(1) in done.out
    assert f"unreadable: {b.stamp(0)}.manifest" in done.out
    assert "verify" in done.err


def test_what_is_no_repository_or_no_request_is_refused(tmp_path: Path) -> None:
    assert shardkeeper("list", tmp_path).code == 10
    assert shardkeeper("list", "-rp", "x", tmp_path).code == 2
