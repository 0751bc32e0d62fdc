"""What a server does not take of a merge is named, and a merge that cannot be is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.commands import backup, shardkeeper
from tests.wire.merge.scenario import T0, leftovers, merge
from tests.wire.points import Points, count, databases, points

pytestmark = pytest.mark.wire


def test_points_of_another_type_are_named_and_kept_and_all_others_are_merged(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    source.write(db, f"cpu,host=h1 i=1.5 {T0}")  # a float now, in the first of three weeks
    done = merge(source, backups, "-db", db)
    assert done.code == 3, done
    assert "'cpu'.'i' is integer in the backup and float" in done.err
    assert "field type conflict" in done.err
    [temporary, *_] = [name for name in databases(source) if name.startswith("shardkeeper_")]
    assert points(source, temporary) == before
    found = points(source, db)
    others = {key: rows for key, rows in before.items() if "cpu" not in key}
    assert {key: rows for key, rows in found.items() if key in others} == others
    # What was in the way is dropped, with what the first run had merged of the other weeks.
    source.query('DROP MEASUREMENT "cpu"', db=db)
    again = merge(source, backups, "-db", db)
    assert again, again
    assert points(source, db) == before
    assert leftovers(source, backups) == []


def test_points_that_the_live_policy_does_not_keep_are_left_out_and_counted(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db, now = fresh(), time.time_ns()
    hour = 3_600 * 10**9
    source.create_database(db)
    source.write(db, [f"m v={h}i {now - h * hour}" for h in range(0, 60, 2)])
    backup(source, backups)
    source.drop_database(db)
    source.create_database(db, with_='DURATION 1d NAME "autogen"')
    refused = merge(source, backups, "-db", db, "-rp", "autogen")
    if refused.code == 14:  # a week began since the first of them
        assert "-skip-expired" in refused.err
    done = merge(source, backups, "-db", db, "-skip-expired")
    assert done, done
    assert {row[1] for row in source.rows("SELECT v FROM m", db=db)} == set(range(0, 24, 2))
    # How many depends on the hour: whole weeks are left out before.
    assert re.search(r"[1-9][0-9]* older values? left out", done.out), done


def test_without_a_live_database_or_policy_restore_is_named(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, _ = lost
    source.query(f'DROP RETENTION POLICY "kept for ever" ON "{db}"')
    policy = merge(source, backups, "-db", db)
    assert policy.code == 1
    assert 'CREATE RETENTION POLICY "kept for ever"' in policy.err
    source.drop_database(db)
    database = merge(source, backups, "-db", db)
    assert database.code == 1
    assert f"shardkeeper restore -db {db}" in database.err
    assert leftovers(source, backups) == []


def test_a_merge_needs_http_and_the_right_one(
    source: Influxd, target: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, _ = lost
    without = shardkeeper("merge", "-host", source.bind_addr, "-http", "none", "-db", db, backups)
    assert without.code == 2
    assert "-http" in without.err
    strange = shardkeeper(
        "merge", "-host", source.bind_addr, "-http", target.http_addr, "-db", db, backups
    )
    assert strange.code == 2
    assert "is not an HTTP address of" in strange.err
    assert leftovers(source, backups) == []
    assert leftovers(target, backups) == []


def test_a_plan_reports_where_points_go_and_touches_nothing(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    done = merge(source, backups, "-db", db, "-plan")
    assert done, done
    assert f"{count(before)} values" in done.out
    assert "nothing was changed" in done.out
    assert points(source, db) == {}
    assert leftovers(source, backups) == []
