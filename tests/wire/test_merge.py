"""Merges into live databases of a real influxd: every point arrives, none is lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.influxd import Influxd, wait_until
from tests.wire.commands import Done, at, backup, shardkeeper
from tests.wire.points import Points, count, databases, points

pytestmark = pytest.mark.wire

WEEK_NS = 604_800 * 10**9
T0 = 1_600_000_000 * 10**9
ODD = [
    'we\\ ird\\,"x,ta\\ g=v"\\,\\=w fi\\ eld=1,s="a\nb"',
    "häßlich☃,tág=ü ☃=1i",
    "select,from=where into=t",
    r"back\slash,k=c:\dir v=1",
    "both,host=a host=5",
    "'quote',k='v' v=\"'\"",
]


def merge(server: Influxd, directory: Path, *flags: object) -> Done:
    return shardkeeper("merge", *at(server), *flags, directory)


def leftovers(server: Influxd, directory: Path) -> list[str]:
    """What a finished merge has taken away again."""
    names = [name for name in databases(server) if name.startswith("shardkeeper_merge")]
    return names + [path.name for path in directory.glob(".shardkeeper.merge*")]


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


@pytest.fixture
def lost(source: Influxd, backups: Path, fresh: Callable[[], str]) -> tuple[str, Points]:
    """A database that was backed up and dropped; its clients have made it anew since."""
    db = fresh()
    source.create_database(db)
    lines = [
        f'cpu,host=h{host} f={host}.5,i={2**53 + host}i,b={host % 2 == 0},s="h {host}" '
        f"{T0 + week * WEEK_NS + host}"
        for host in range(20)
        for week in range(3)
    ]
    source.write(db, [*lines, *(f"{line} {T0}" for line in ODD)])
    source.query(f'CREATE RETENTION POLICY "kept for ever" ON "{db}" DURATION INF REPLICATION 1')
    source.write(db, [f"mem used={n}i {T0 + n}" for n in range(10)], rp="kept for ever")
    backup(source, backups)
    before = points(source, db)
    source.drop_database(db)
    source.create_database(db)
    source.query(f'CREATE RETENTION POLICY "kept for ever" ON "{db}" DURATION INF REPLICATION 1')
    return db, before


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
    assert f"Merged {n} points into {db}" in done.out
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


# --- killed -------------------------------------------------------------------------------


def test_a_merge_that_is_killed_goes_on_where_it_was(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db)
    for week in range(4):
        lines = [f"m{n % 5},k=k{n % 3} v={n}i {T0 + week * WEEK_NS + n}" for n in range(2_000)]
        source.write(db, lines)
    backup(source, backups)
    before = points(source, db)
    source.drop_database(db)
    source.create_database(db)
    journals: list[dict[str, Any]] = []
    for _ in range(3):
        process = _start(source, backups, "-db", db, "-points", 20)
        here = len(journals)

        def further(seen: int = here) -> bool:
            found = _journal(backups)
            return (
                found is not None
                and found["copied"] is not None
                and (not seen or found["copied"] != journals[-1]["copied"])
            )

        try:
            wait_until(further, within_s=60, what="the merge to get further")
        finally:
            process.kill()
            process.wait()
        found = _journal(backups)
        assert found is not None
        journals.append(found)
    # Each went on with the database that the first had restored, from where it was.
    assert len({journal["temporary"] for journal in journals}) == 1
    assert [j["copied"] for j in journals] == sorted(j["copied"] for j in journals)
    assert count(points(source, db)) < count(before)
    other = merge(source, backups, "-db", db, "-rp", "autogen")
    assert other.code == 14
    assert "is not finished" in other.err
    done = merge(source, backups, "-db", db)
    assert done, done
    assert "Going on to merge" in done.out
    assert "Restoring" not in done.out
    assert points(source, db) == before
    assert leftovers(source, backups) == []
    assert f"Merged {count(before)} points" in done.out


def test_a_merge_that_is_killed_while_it_restores_begins_anew(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    process = _start(source, backups, "-db", db)
    try:
        wait_until(lambda: _journal(backups), within_s=60, what="the journal")
    finally:
        process.kill()
        process.wait()
    done = merge(source, backups, "-db", db)
    assert done, done
    assert points(source, db) == before
    assert leftovers(source, backups) == []


def test_a_merge_that_is_killed_before_anything_was_restored_begins_anew(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    process = _start(source, backups, "-db", db, "-points", 1)
    try:
        wait_until(lambda: (_journal(backups) or {}).get("shards"), within_s=60, what="the copying")
    finally:
        process.kill()
        process.wait()
    # As if it had been killed earlier: the database is created, and there is nothing in it yet.
    [path] = backups.glob(".shardkeeper.merge-*.json")
    journal = {**json.loads(path.read_bytes()), "shards": None, "copied": None, "points": 0}
    path.write_text(json.dumps(journal))
    source.drop_database(journal["temporary"])
    source.create_database(journal["temporary"])
    done = merge(source, backups, "-db", db)
    assert done, done
    assert f"Merged {count(before)} points" in done.out
    assert points(source, db) == before
    assert leftovers(source, backups) == []


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    server = influxd_factory()
    server.create_database("db")
    server.write("db", [f"m,k=k{n % 3} v={n}i {T0 + n}" for n in range(4_000)])
    backups = tmp_path / "backups"
    backups.mkdir()
    backup(server, backups)
    before = points(server, "db")
    server.drop_database("db")
    server.create_database("db")
    process = _start(server, backups, "-db", "db", "-points", 20)
    wait_until(
        lambda: server.rows("SELECT count(v) FROM m", db="db"), within_s=60, what="first points"
    )
    server.kill()
    time.sleep(1.5)
    server.start()
    assert process.wait(timeout=120) == 0
    assert points(server, "db") == before
    assert leftovers(server, backups) == []


def test_interrupting_says_how_to_go_on_and_abandoning_drops_what_was_made(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, _ = lost
    code, err, left = 0, b"", 10
    while code == 0 and left:  # one may be done before it hears
        code, err = _told_to_stop(_start(source, backups, "-db", db, "-points", 1), backups)
        left -= 1
    assert code == 130
    assert b"the same command goes on from there" in err
    done = merge(source, backups, "-db", db, "-abandon")
    assert done, done
    assert leftovers(source, backups) == []
    again = merge(source, backups, "-db", db, "-abandon")
    assert again.code == 1
    assert "was left unfinished" in again.err


def _start(server: Influxd, directory: Path, *flags: object) -> subprocess.Popen[bytes]:
    code = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    words = [sys.executable, "-c", code, "merge", *at(server), *map(str, flags), str(directory)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _told_to_stop(process: subprocess.Popen[bytes], backups: Path) -> tuple[int, bytes]:
    """Its status and what it said, having been told once it copies."""

    def copying_or_done() -> bool:
        return bool((_journal(backups) or {}).get("shards")) or process.poll() is not None

    wait_until(copying_or_done, within_s=60, what="the copying")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def _journal(directory: Path) -> dict[str, Any] | None:
    for path in directory.glob(".shardkeeper.merge-*.json"):
        return json.loads(path.read_bytes())
    return None


# --- what the server does not take --------------------------------------------------------


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
    if refused.code == 1:  # a week began since the first of them
        assert "-skip-expired" in refused.err
    done = merge(source, backups, "-db", db, "-skip-expired")
    assert done, done
    assert {row[1] for row in source.rows("SELECT v FROM m", db=db)} == set(range(0, 24, 2))
    assert "older points left out" in done.out


# --- what is refused ----------------------------------------------------------------------


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


def test_a_plan_tells_where_points_go_and_touches_nothing(
    source: Influxd, backups: Path, lost: tuple[str, Points]
) -> None:
    db, before = lost
    done = merge(source, backups, "-db", db, "-plan")
    assert done, done
    assert f"{count(before)} points" in done.out
    assert "nothing was changed" in done.out
    assert points(source, db) == {}
    assert leftovers(source, backups) == []
