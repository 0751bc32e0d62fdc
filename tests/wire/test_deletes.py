"""What was deleted at the source stays deleted on the target, whatever the backup caught.

A server may compact its files, and with them its tombstones, at any moment: the backup follows
at once, and where it comes too late, another database gets another try.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from resources.protocol.snapshotter import MUX_HEADER, RequestType
from tests.conftest import need_influxd
from tests.influxd import Influxd, wait_until
from tests.proxy import Proxy
from tests.wire.commands import Done, backup, influxd_backup, influxd_restore, restore, verify
from tests.wire.points import Points, count, points, wait_for_points

pytestmark = pytest.mark.wire

S = 1_000_000_000
T0 = 1_600_000_000 * S
WEEK = 604_800 * S

Fresh = Callable[[], str]
EXPORT = MUX_HEADER + bytes([RequestType.SHARD_EXPORT])


@pytest.fixture(scope="module")
def tombstoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A server that compacts late: what is deleted stays in its files for a while."""
    need_influxd()
    config = {"data": {"compact-full-write-cold-duration": "24h", "max-concurrent-compactions": 1}}
    with Influxd(tmp_path_factory.mktemp("tombstoned"), config=config) as server:
        yield server


def filled(server: Influxd, db: str, *, weeks: int = 2, rows: int = 5000) -> None:
    """A file a shard: three series of four types each, and another measurement."""
    server.create_database(db)
    lines = [
        f"m,k={'abc'[i % 3]} f={i}.25,i={i}i,b={'true' if i % 2 else 'false'},"
        f's="text {i}" {T0 + week * WEEK + i * S}'
        for week in range(weeks)
        for i in range(rows)
    ]
    lines += [f"other v={i} {T0 + i * WEEK}" for i in range(weeks)]
    server.write(db, lines)
    server.flush(db)


def caught(
    server: Influxd, directory: Path, name: Fresh, deletes: Sequence[str], **fill: int
) -> tuple[str, Points, Done]:
    """Fill, delete and back up until the backup has the deletes; what was there before them."""
    for _ in range(5):
        db = name()
        filled(server, db, **fill)
        before = points(server, db)
        for statement in deletes:
            server.query(statement, db=db)
        done = backup(server, directory, "-db", db)
        if "still pending" in done.err:
            return db, before, done
    raise AssertionError("the server compacts its files faster than they are backed up")


def at_s(seconds: int, week: int = 0) -> int:
    return T0 + week * WEEK + seconds * S


DELETES = {
    "a range": [f"DELETE FROM m WHERE time >= {at_s(100)} AND time <= {at_s(2000)}"],
    "a range of one series": [f"DELETE FROM m WHERE k='b' AND time < {at_s(4000)}"],
    "a single point": [f"DELETE FROM m WHERE time = {at_s(999)}"],
    "a series": ["DROP SERIES FROM m WHERE k='a'"],
    "a measurement": ["DROP MEASUREMENT m"],
    "a whole shard": [f"DELETE WHERE time >= {at_s(-1, 1)}"],
    "everything": ["DELETE WHERE time > 0"],
    "several batches": [
        f"DELETE FROM m WHERE time >= {at_s(0)} AND time <= {at_s(10)}",
        "DROP SERIES FROM m WHERE k='c'",
        f"DELETE FROM m WHERE k='a' AND time >= {at_s(5)} AND time <= {at_s(1500)}",
        f"DELETE FROM m WHERE k='b' AND time >= {at_s(3, 1)}",
        "DELETE FROM other",
    ],
}


@pytest.mark.fault(67)
@pytest.mark.parametrize("deletes", DELETES.values(), ids=list(DELETES))
def test_deleted_points_stay_deleted(
    tombstoned: Influxd, target: Influxd, backups: Path, fresh: Fresh, deletes: Sequence[str]
):
    new = fresh()
    db, before, _ = caught(tombstoned, backups, fresh, deletes)
    expected = points(tombstoned, db)
    assert count(expected) < count(before)
    untouched = {path.name: path.read_bytes() for path in backups.glob("*.tar.gz")}
    planned = restore(target, backups, "-plan", "-db", db, "-newdb", new)
    assert "the restore applies them" in planned.out
    done = restore(target, backups, "-db", db, "-newdb", new)
    assert "the restore applies them" in done.err
    assert rows(points(target, new)) == rows(expected)
    [path] = backups.glob("*.receipt.json")
    copies = [c for shard in json.loads(path.read_bytes())["shards"] for c in shard["copies"]]
    assert sum(copy["points"] for copy in copies) == count(expected)
    assert sum(copy["deletedRanges"] for copy in copies) > 0
    assert {path.name: path.read_bytes() for path in backups.glob("*.tar.gz")} == untouched
    assert not target.tombstone_files(new)
    verify(backups)
    tombstoned.drop_database(db)


def rows(found: object) -> dict[object, object]:
    """The rows alone: a server forgets the types of fields later than their points."""
    assert isinstance(found, dict)
    return {key: value for key, value in found.items() if key[0] != "types" and value}


@pytest.mark.fault(67)
def test_they_stay_deleted_when_the_target_compacts_its_files(
    tombstoned: Influxd, backups: Path, fresh: Fresh, tmp_path: Path
):
    new = fresh()
    deletes = [f"DELETE FROM m WHERE k='a' AND time > {at_s(700)}"]
    db, _, _ = caught(tombstoned, backups, fresh, deletes, weeks=1)
    expected = points(tombstoned, db)
    config = {"data": {"compact-full-write-cold-duration": "1s"}}
    with Influxd(tmp_path / "compacting", config=config) as server:
        restore(server, backups, "-db", db, "-newdb", new)
        assert points(server, new) == expected
        server.write(new, f"m,k=z f=1 {at_s(1)}")
        server.flush(new)
        wait_until(
            lambda: len(server.tsm_files(new)) == 1, within_s=60, what="files to be compacted"
        )
        found = points(server, new)
        assert count(found) == count(expected) + 1
        server.restart()
        assert points(server, new) == found
    tombstoned.drop_database(db)


@pytest.mark.fault(67)
def test_points_that_were_deleted_come_back_if_that_is_wanted(
    tombstoned: Influxd, target: Influxd, backups: Path, fresh: Fresh
):
    new = fresh()
    deletes = [f"DELETE FROM m WHERE time < {at_s(20)}"]
    db, everything, _ = caught(tombstoned, backups, fresh, deletes, weeks=1, rows=50)
    assert points(tombstoned, db) != everything
    done = restore(target, backups, "-keep-tombstoned", "-db", db, "-newdb", new)
    assert "their points come back" in done.err
    assert points(target, new) == everything
    tombstoned.drop_database(db)


@pytest.mark.fault(67)
def test_what_is_written_after_a_deletion_stays(
    tombstoned: Influxd, target: Influxd, backups: Path, fresh: Fresh
):
    db, new = fresh(), fresh()
    filled(tombstoned, db, weeks=1, rows=50)
    tombstoned.query("DELETE FROM m", db=db)
    tombstoned.write(db, [f"m,k=a f={i} {at_s(i)}" for i in range(7)])
    tombstoned.flush(db)
    backup(tombstoned, backups, "-db", db)
    restore(target, backups, "-db", db, "-newdb", new)
    assert rows(points(target, new)) == rows(points(tombstoned, db))
    tombstoned.drop_database(db)


@pytest.mark.fault(67)
def test_archives_of_the_original_tool_lose_their_deleted_points_too(
    tombstoned: Influxd, target: Influxd, backups: Path, fresh: Fresh
):
    db, theirs, ours = fresh(), fresh(), fresh()
    filled(tombstoned, db, weeks=1, rows=50)
    everything = points(tombstoned, db)
    tombstoned.query(f"DELETE FROM m WHERE time < {at_s(20)}", db=db)
    influxd_backup(tombstoned, backups, "-database", db)
    influxd_restore(target, backups, "-db", db, "-newdb", theirs)
    wait_for_points(target, theirs, everything)
    restore(target, backups, "-db", db, "-newdb", ours)
    assert points(target, ours) == points(tombstoned, db)
    tombstoned.drop_database(db)


@pytest.mark.fault(67, 68)
def test_a_time_range_never_makes_a_server_cut_a_shard(
    tombstoned: Influxd, target: Influxd, backups: Path, fresh: Fresh
):
    """Servers read deleted ranges of a file wrongly when they export a part of a shard."""
    new = fresh()
    deletes = [f"DELETE FROM m WHERE k='a' AND time > {at_s(700)}"]
    db, _, _ = caught(tombstoned, backups, fresh, deletes, weeks=1)
    expected = points(tombstoned, db)
    times = ("-start", "2020-09-13T12:30:00Z", "-end", "2020-09-13T12:31:00Z")
    with Proxy(tombstoned.bind_addr) as proxy:
        backup(tombstoned, backups, "-full", "-db", db, *times, tcp=proxy.address)
        kinds = {head[:2] for head in proxy.heads}
    assert b"\x03\x00" in kinds
    assert EXPORT not in kinds
    restore(target, backups, "-db", db, "-newdb", new)
    assert rows(points(target, new)) == rows(expected)
    tombstoned.drop_database(db)
