"""Merges into live databases of a real influxd: every point arrives, none is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.influxd import Influxd
from tests.wire.commands import Done, backup
from tests.wire.merge.scenario import T0, WEEK_NS, leftovers, merge
from tests.wire.points import Points, count, points

pytestmark = pytest.mark.wire


def union(live: Points, restored: Points) -> Points:
    """What a merge makes of the points of both: where both have a value, the restored one."""
    found: dict[Any, Any] = {}
    for key in live.keys() | restored.keys():
        if key[0] == "types":
            kinds = {*map(tuple, live.get(key, [])), *map(tuple, restored.get(key, []))}
            found[key] = sorted(kinds)
            continue
        rows: dict[int, dict[str, Any]] = {}
        for moment, fields in [*live.get(key, []), *restored.get(key, [])]:
            rows.setdefault(moment, {}).update(fields)
        found[key] = sorted(rows.items())
    return found


def test_what_was_lost_comes_back_and_what_was_written_since_stays(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    source.write(
        db,
        [
            f"cpu,host=h1 f=1.5 {T0 + 1}",  # as it was
            f"cpu,host=h2 f=99 {T0 + 2}",  # something else: the backup's stays
            f"cpu,host=h3 g=1 {T0 + 3}",  # another field of the same point
            f"cpu,host=new,zone=z f=7 {T0 + 1}",
            f"disk free=1i {T0}",
        ],
    )
    live = points(source, db)
    done = merge(source, backups, "-db", db)
    assert done, done
    assert points(source, db) == union(live, before)
    assert leftovers(source, backups) == []
    n = count(before)
    assert f"Merged {n} values into {db}" in done.out
    assert sum(int(line.split(": ")[1].split()[0]) for line in _groups(done)) == n - 2
    assert sum(int(line.split("new, ")[1].split()[0]) for line in _groups(done)) == 1
    assert sum(int(line.split("replaced, ")[1].split()[0]) for line in _groups(done)) == 1


def _groups(done: Done) -> list[str]:
    return [line for line in done.out.splitlines() if line.startswith("Merging rp")]


def test_a_second_merge_finds_everything_there_and_writes_nothing(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    assert merge(source, backups, "-db", db)
    done = merge(source, backups, "-db", db)
    assert done, done
    assert points(source, db) == before
    assert all(" 0 new, 0 replaced" in line for line in _groups(done))


def test_one_policy_goes_into_another_database_and_policy(
    source: Influxd, backups: Path, lost: tuple[str, Points], fresh: Callable[[], str]
) -> None:
    db, before = lost
    other = fresh()
    source.create_database(other, with_='NAME "mine"')
    done = merge(
        source, backups, "-db", db, "-rp", "kept for ever", "-newdb", other, "-newrp", "mine"
    )
    assert done, done
    expected = {
        ("mine", *key[1:]) if key[0] == "kept for ever" else key: rows
        for key, rows in before.items()
        if key[0] == "kept for ever"
    }
    found = {key: rows for key, rows in points(source, other).items() if key[0] != "types"}
    assert found == expected
    assert points(source, db) == {}


def test_only_points_of_a_time_are_merged(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, _ = lost
    flags = ("-start", "2020-09-20T00:00:00Z", "-end", "2020-09-21T00:00:00Z")
    done = merge(source, backups, "-db", db, "-rp", "autogen", *flags)
    assert done, done
    assert {row[0] for row in source.rows("SELECT f FROM cpu", db=db)} == {
        T0 + WEEK_NS + host for host in range(20)
    }


def test_slices_shrink_until_the_servers_limits_let_them_through(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    server = influxd_factory(config={"coordinator": {"max-concurrent-queries": 1}})
    server.create_database("db")
    server.write("db", [f"m,k=k{n % 7} v={n} {T0 + n}" for n in range(5_000)])
    backups = tmp_path / "backups"
    backups.mkdir()
    backup(server, backups)
    before = points(server, "db")
    server.drop_database("db")
    server.create_database("db")
    server.configure({"http": {"max-row-limit": 10}})
    server.restart()
    done = merge(server, backups, "-db", "db", "-points", 333)
    assert done, done
    assert points(server, "db") == before
