"""Days in the life of a server: each state that was backed up comes back, point for point."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd, wait_until
from tests.wire.commands import at as address_of
from tests.wire.commands import (
    backup,
    influxd_ctl,
    influxd_restore,
    restore,
    shardkeeper,
    verify,
)
from tests.wire.points import Points, points, wait_for_points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
HOUR = 3_600_000_000_000
WEEK = 168 * HOUR

Fresh = Callable[[], str]
State = dict[str, Points]


def copied(out: str) -> list[int]:
    """The shards that a backup says it copied; the order is that of finishing."""
    return sorted(int(shard) for shard in re.findall(r"shard ([0-9]+)\.\.\. Done\.", out))


def shards(server: Influxd, db: str, rp: str | None = None) -> list[int]:
    """Shard IDs of a database by start time."""
    [result] = server.query("SHOW SHARDS")
    rows = [row for s in result["series"] if s["name"] == db for row in s["values"]]
    return [row[0] for row in sorted(rows, key=lambda row: row[5]) if rp in (None, row[2])]


def state_of(server: Influxd) -> State:
    return {db: points(server, db) for [db] in server.rows("SHOW DATABASES")}


def carried_out(server: Influxd, db: str) -> None:
    """Wait until deletes are in the TSM files and no longer beside them."""
    wait_until(
        lambda: not server.tombstone_files(db), within_s=15, what=f"the deletes of {db} to be done"
    )


def newest(directory: Path) -> Path:
    return max(directory.glob("*.manifest"))


def fill_three_databases(server: Influxd) -> None:
    for db in ("alpha", "beta", "doomed"):
        server.create_database(db)
        server.write(
            db,
            [
                f'm,host=h{i % 4} v={i},n={i}i,ok=true,s="{db}" {T0 + week * WEEK + i}'
                for week in range(3)
                for i in range(40)
            ],
        )
    server.query(
        'CREATE RETENTION POLICY "hourly" ON "alpha" DURATION INF REPLICATION 1 SHARD DURATION 1h'
    )
    server.write("alpha", [f"m v={i} {T0 + i * HOUR}" for i in range(3)], rp="hourly")


@pytest.mark.fault(78)
def test_every_state_comes_back(
    influxd_factory: Callable[..., Influxd],
    target: Influxd,
    tmp_path: Path,
    fresh: Fresh,
) -> None:
    server = influxd_factory()
    steps, wholes = tmp_path / "steps", tmp_path / "wholes"
    steps.mkdir()
    wholes.mkdir()
    states: list[tuple[Path, Path, State]] = []

    def save(expected_copies: list[int]) -> None:
        done = backup(server, steps)
        assert copied(done.out) == sorted(expected_copies)
        whole = backup(server, wholes, "-full")
        assert set(expected_copies) <= set(copied(whole.out))
        states.append((newest(steps), newest(wholes), state_of(server)))

    fill_three_databases(server)
    save(shards(server, "alpha") + shards(server, "beta") + shards(server, "doomed"))

    # Writes into an old shard and a new one; a range delete; a series dropped.
    server.write("alpha", f"m,host=h1 v=-1 {T0 + WEEK + 20}", rp="autogen")
    server.write("alpha", f"new v=1 {T0 + 8 * WEEK}", rp="autogen")
    server.query(f"DELETE FROM m WHERE time >= {T0} AND time < {T0 + 20}", db="beta")
    server.query("DROP SERIES FROM m WHERE host = 'h2'", db="beta")
    carried_out(server, "beta")
    alpha = shards(server, "alpha", "autogen")
    save([alpha[1], alpha[3], *shards(server, "beta")])

    # One shard emptied, one database dropped, one dropped and made anew, one made.
    server.query(f"DELETE FROM m WHERE time >= {T0 + WEEK} AND time < {T0 + 2 * WEEK}", db="beta")
    carried_out(server, "beta")
    middle = shards(server, "beta")[1]
    wait_until(
        lambda: not [p for p in server.tsm_files("beta") if p.parent.name == str(middle)],
        within_s=15,
        what="the emptied shard's file to go",
    )
    server.drop_database("doomed")
    server.create_database("doomed")
    server.write("doomed", f"m v=1 {T0}")
    server.create_database("late")
    server.write("late", f"m v=2 {T0}")
    save([middle, *shards(server, "doomed"), *shards(server, "late")])

    verify(steps)
    verify(wholes)
    assert states[0][2]["beta"] != states[1][2]["beta"] != states[2][2]["beta"]
    for step, whole, state in states:
        for db, expected in state.items():
            for directory, flags in ((steps, ("-as-of", step.stem)), (whole, ("-full",))):
                name = fresh()
                restore(target, directory, *flags, "-db", db, "-newdb", name)
                assert points(target, name) == expected, (directory, flags, db)
                target.drop_database(name)
    name = fresh()
    influxd_restore(target, steps, "-db", "beta", "-newdb", name)
    wait_for_points(target, name, states[-1][2]["beta"])


def test_only_what_changed_is_copied(
    influxd_factory: Callable[..., Influxd], backups: Path
) -> None:
    server = influxd_factory()
    server.create_database("db")
    server.write("db", [f"m v={i} {T0 + i * WEEK}" for i in range(4)])
    all_shards = shards(server, "db")
    assert copied(backup(server, backups).out) == all_shards
    done = backup(server, backups)
    assert copied(done.out) == []
    assert re.fullmatch(
        r"Backing up meta data\.\.\. Done\. (\d+) bytes transferred\n"
        r"Backed up to .* in \S+, transferred \1 bytes\n",
        done.out,
    )
    for shard in all_shards:
        server.write("db", f"m v=9 {T0 + all_shards.index(shard) * WEEK + 1}")
        assert copied(backup(server, backups).out) == [shard]
        assert copied(backup(server, backups).out) == []
    # The same point again is a change of bytes and of nothing else, so one copy is right too.
    server.write("db", f"m v=9 {T0 + 1}")
    assert copied(backup(server, backups).out) == all_shards[:1]
    assert copied(backup(server, backups).out) == []
    server.restart()
    assert len(copied(backup(server, backups).out)) <= 1
    assert copied(backup(server, backups).out) == []
    server.write("db", f"m v=10 {T0 + 2}")
    server.kill()
    server.start()
    assert copied(backup(server, backups).out) == all_shards[:1]
    assert copied(backup(server, backups).out) == []
    verify(backups)


def test_deleting_everything_is_a_change(
    influxd_factory: Callable[..., Influxd], target: Influxd, backups: Path, fresh: Fresh
) -> None:
    """No file is newer then: there is none."""
    server = influxd_factory()
    server.create_database("db")
    server.write("db", [f"m v={i} {T0 + i * WEEK}" for i in range(2)])
    backup(server, backups)
    server.query("DROP SERIES FROM m", db="db")
    wait_until(lambda: not server.tsm_files("db"), within_s=15, what="the files to go")
    assert copied(backup(server, backups).out) == shards(server, "db")
    assert copied(backup(server, backups).out) == []
    name = fresh()
    restore(target, backups, "-db", "db", "-newdb", name)
    assert points(target, name) == {}
    server.write("db", f"m v=7 {T0}")
    assert copied(backup(server, backups).out) == shards(server, "db")[:1]
    name = fresh()
    restore(target, backups, "-db", "db", "-newdb", name)
    assert points(target, name)["autogen", "m", ()] == [(T0, {"v": 7})]


def test_a_whole_server_comes_back_at_once(
    influxd_factory: Callable[..., Influxd], backups: Path
) -> None:
    server, other = influxd_factory(monitor=True), influxd_factory(index_version="tsi1")
    for db in ("one", "two", "empty"):
        server.create_database(db)
    server.query('CREATE RETENTION POLICY "year" ON "two" DURATION 10000w REPLICATION 1 DEFAULT')
    server.query(
        'CREATE CONTINUOUS QUERY "cq" ON "one" BEGIN '
        'SELECT mean(v) INTO "one"."autogen"."down" FROM "m" GROUP BY time(1h), * END'
    )
    server.query("CREATE USER \"ann\" WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
    server.write("one", [f"m,t=a v={i} {T0 + i * WEEK}" for i in range(3)])
    server.write("two", f"m v=1 {T0}")
    wait_until(lambda: server.tsm_files("one"), within_s=10, what="files")
    backup(server, backups)
    done = influxd_ctl("restore", *address_of(other), backups)
    assert done, done
    assert "leaves out 1 user ('ann')" in done.err
    for db in ("one", "two", "empty"):
        assert points(other, db) == points(server, db)
        there = other.query(f'SHOW RETENTION POLICIES ON "{db}"')
        assert there == server.query(f'SHOW RETENTION POLICIES ON "{db}"')
    assert {row[0] for row in other.rows("SHOW DATABASES")} - {"_internal"} == {
        "one",
        "two",
        "empty",
    }
    queries = [s for s in other.query("SHOW CONTINUOUS QUERIES")[0]["series"] if s["name"] == "one"]
    assert queries[0]["values"][0][0] == "cq"


def test_a_manifest_that_leans_on_others_is_not_restored_alone(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, [f"m v={i} {T0 + i * WEEK}" for i in range(2)])
    backup(source, backups, "-db", db)
    source.write(db, f"m v=5 {T0 + 1}")
    backup(source, backups, "-db", db)
    alone = newest(backups)
    done = shardkeeper("restore", *address_of(target), "-full", "-db", db, "-newdb", fresh(), alone)
    assert done.code == 13
    assert f"{alone.name} is incremental" in done.err
    assert f"-as-of {alone.stem}" in done.err
    name = fresh()
    restore(target, backups, "-as-of", alone.stem, "-db", db, "-newdb", name)
    assert points(target, name) == points(source, db)
    min(backups.glob("*.manifest")).unlink()
    done = shardkeeper("restore", *address_of(target), "-db", db, "-newdb", fresh(), backups)
    assert done.code == 13
