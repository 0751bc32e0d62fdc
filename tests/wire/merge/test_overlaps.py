"""Groups of one policy that overlap, or begin at the same time: the last written value counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.protocol.commands import TruncateShardGroups
from resources.tsm.layout import BlockType
from tests.influxd import Influxd
from tests.wire.commands import backup, shardkeeper
from tests.wire.merge.scenario import leftovers, merge
from tests.wire.merge.stored import stored, typed

MONDAY_S = 1_641_168_000
DAY_S = 86_400


@pytest.mark.wire
def test_two_groups_with_one_start_are_both_merged(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db, with_="DURATION INF SHARD DURATION 1d")
    source.write(db, f"cpu v=1 {MONDAY_S}", "s")
    source.query(f'ALTER RETENTION POLICY autogen ON "{db}" SHARD DURATION 7d')
    source.write(db, [f"cpu v={day} {MONDAY_S + day * DAY_S}" for day in (2, 3)], "s")
    rows = [series for series in source.query("SHOW SHARDS")[0]["series"] if series["name"] == db]
    starts = [row[rows[0]["columns"].index("start_time")] for row in rows[0]["values"]]
    assert len(starts) == 2
    assert len(set(starts)) == 1
    backup(source, backups)
    before = stored(source.bind_addr, db)
    _lose(source, db)
    done = merge(source, backups, "-db", db)
    assert done, done
    assert "Merged 3 values" in done.out
    assert stored(source.bind_addr, db) == before
    assert leftovers(source, backups) == []


@pytest.mark.wire
def test_of_one_point_in_two_shards_the_value_that_was_written_last_is_merged(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db, with_="DURATION INF SHARD DURATION 7d")
    source.write(db, f"cpu,host=abc v=111 {MONDAY_S + DAY_S}", "s")
    source.query(f'ALTER RETENTION POLICY autogen ON "{db}" SHARD DURATION 10d')
    source.write(db, f"cpu,host=abc v=222 {MONDAY_S - 2 * DAY_S}", "s")
    source.write(db, f"cpu,host=abc v=333 {MONDAY_S + DAY_S}", "s")
    backup(source, backups)
    key = "autogen", b"cpu,host=abc#!~#v", (MONDAY_S + DAY_S) * 10**9
    first, last = typed(BlockType.FLOAT, 111.0), typed(BlockType.FLOAT, 333.0)
    assert stored(source.bind_addr, db)[key] == {first, last}
    _lose(source, db)
    done = merge(source, backups, "-db", db)
    assert done, done
    assert "1 value differs between shards of the backup" in done.err
    found = stored(source.bind_addr, db)
    assert found[key] == {last}
    assert len(found) == 2
    again = merge(source, backups, "-db", db)
    assert again, again
    assert " 0 new, 0 replaced" in again.out
    assert stored(source.bind_addr, db) == found
    assert leftovers(source, backups) == []


def _lose(source: Influxd, db: str) -> None:
    source.drop_database(db)
    source.create_database(db)


def test_what_a_truncated_group_holds_is_merged_unless_it_was_written_over(tmp_path: Path) -> None:
    """Truncation ends a group early; what it has of later times stays in it, and is read."""
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=2) as cluster:
        cluster.query("CREATE DATABASE db WITH REPLICATION 2")
        late = f"m v=1i {MONDAY_S + 50}\nm,k=only v=1i {MONDAY_S + 60}"
        cluster.write("db", f"m v=1i {MONDAY_S}\n{late}", precision="s")
        meta = MetaClient(cluster.meta[0].http_addr)
        meta.execute(TruncateShardGroups((MONDAY_S + 10) * 10**9))
        cluster.write("db", f"m v=2i {MONDAY_S + 50}", precision="s")
        [database] = [db for db in meta.metastore()[1].databases if db.name == "db"]
        [policy] = database.retention_policies
        assert [bool(group.truncated_at_ns) for group in policy.shard_groups] == [True, False]
        words = "-bind", cluster.meta[0].http_addr
        assert shardkeeper(*words, "backup", backups)
        cluster.query("DROP DATABASE db")
        cluster.query("CREATE DATABASE db WITH REPLICATION 2")
        done = shardkeeper(*words, "merge", "-db", "db", backups)
        assert done, done
        found = [
            {
                (series["tags"]["k"], *row)
                for series in cluster.query("SELECT v FROM m GROUP BY k", database="db", at=at)[
                    "results"
                ][0]["series"]
                for row in series["values"]
            }
            for at in range(2)
        ]
    points = [("", MONDAY_S, 1), ("", MONDAY_S + 50, 2), ("only", MONDAY_S + 60, 1)]
    assert found == [{(k, time_s * 10**9, v) for k, time_s, v in points}] * 2
    assert list(backups.glob(".shardkeeper.merge*")) == []
