"""Backups go both ways between us and influxd's own tools, point for point."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from resources.clients.snapshotter import SnapshotterClient
from resources.model import ShardID
from resources.protocol import meta_pb2 as pb
from resources.protocol.tar import END_MARKER, encode_header, padding
from tests.influxd import Influxd, wait_until
from tests.resources.tsm.writing import block, raw_integers, raw_times, tsm_file
from tests.wire.commands import (
    backup,
    influxd_backup,
    influxd_restore,
    restore,
    shardkeeper,
    verify,
)
from tests.wire.points import Points, count, points, wait_for_points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
HOUR = 3_600_000_000_000
WEEK = 168 * HOUR

Fresh = Callable[[], str]

NAMES = [
    "sp ace",
    "dots.and-dash",
    "bäse 数据 🚀",
    'quo"ted',
    "it's",
    "_leading",
    "a|b",
    "a;b; DROP DATABASE x",
    "-hyphen",
    "L" * 80,  # influxd's tool puts both names into one file name
]


def fill(server: Influxd, db: str, *, weeks: int = 2, n: int = 50, rp: str | None = None) -> None:
    """All four field types that HTTP takes, with extremes, over some shards."""
    for week in range(weeks):
        at = T0 + week * WEEK
        server.write(
            db,
            [
                f"cpu,host=h{i % 3},region=eu\\ west "
                f'load={i / 7},n={i - 25}i,up={"true" if i % 2 else "false"},note="n° {i}\\"" '
                f"{at + i * 1_000_000_007}"
                for i in range(n)
            ]
            + [
                f"edge i=9223372036854775807i,f=1.7976931348623157e308 {at}",
                f"edge i=-9223372036854775808i,f=5e-324 {at + 1}",
                f'edge s="{"long " * 500}" {at + 2}',
            ],
            rp=rp,
        )


@pytest.fixture
def full(source: Influxd, fresh: Fresh) -> tuple[str, Points]:
    db = fresh()
    source.create_database(db)
    fill(source, db)
    return db, points(source, db)


def test_influxd_restores_what_we_backed_up_in_several_runs(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    fill(source, db, weeks=2)
    backup(source, backups, "-db", db)
    source.write(db, [f"cpu,host=h0 load=99 {T0 + WEEK + 5}", f"late x=1i {T0 + 5 * WEEK}"])
    backup(source, backups, "-db", db)
    source.write(db, f"late x=2i {T0 + 5 * WEEK + 1}")
    backup(source, backups, "-db", db)
    assert len(list(backups.glob("*.manifest"))) == 3
    expected = points(source, db)
    name = fresh()
    influxd_restore(target, backups, "-db", db, "-newdb", name)
    wait_for_points(target, name, expected)
    assert count(expected) > 400


def test_we_restore_what_influxd_backed_up(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh, full: tuple[str, Points]
) -> None:
    db, expected = full
    influxd_backup(source, backups, "-db", db)
    assert "0 problems" in verify(backups).out
    listed = shardkeeper("restore", "-list", backups)
    assert listed
    assert "2 archives" in listed.out
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected


def test_backups_of_both_tools_share_a_directory(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh, full: tuple[str, Points]
) -> None:
    db, first = full
    influxd_backup(source, backups, "-db", db)
    states = [(max(p.name for p in backups.glob("*.manifest")), first)]
    for turn, tool in enumerate([backup, influxd_backup, backup]):
        source.write(db, f"cpu,host=h0 load={turn} {T0 + turn % 2 * WEEK + 3 + turn}")
        _wait_for_the_next_second(backups)
        tool(source, backups, "-db", db)
        states.append((max(p.name for p in backups.glob("*.manifest")), points(source, db)))
    verify(backups)
    for manifest, expected in states:
        name = fresh()
        restore(
            target, backups, "-db", db, "-newdb", name, "-as-of", manifest.removesuffix(".manifest")
        )
        assert points(target, name) == expected
    name = fresh()
    influxd_restore(target, backups, "-db", db, "-newdb", name)
    wait_for_points(target, name, states[-1][1])


@pytest.mark.fault(66)
def test_one_policy_under_another_name(
    source: Influxd, target: Influxd, tmp_path: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.query(f'CREATE RETENTION POLICY "one.year x" ON "{db}" DURATION INF REPLICATION 1')
    fill(source, db, rp="one.year x")
    fill(source, db, weeks=1, n=3)
    only = {k: v for k, v in points(source, db).items() if k[0] in ("one.year x", "types")}
    for make, take in (
        (backup, influxd_restore),
        (influxd_backup, restore),
        (backup, restore),
    ):
        directory = tmp_path / f"{make.__name__}-{take.__name__}"
        directory.mkdir()
        make(source, directory, "-db", db, "-rp", "one.year x")
        name = fresh()
        take(target, directory, "-db", db, "-newdb", name, "-rp", "one.year x", "-newrp", "new rp")
        wait_for_points(target, name, only, policies={"new rp": "one.year x"})
        policies = target.rows(f'SHOW RETENTION POLICIES ON "{name}"')
        assert [(rp[0], rp[-1]) for rp in policies] == [("new rp", True)]


def test_one_shard_of_influxds_backup_without_names(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh, full: tuple[str, Points]
) -> None:
    db, expected = full
    [*_, shard] = _shards(source, db)
    influxd_backup(source, backups, "-shard", str(shard))
    assert '"database": ""' in next(backups.glob("*.manifest")).read_text()
    verify(backups)
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name, "-shard", shard)
    assert points(target, name) == later_than(expected, T0 + WEEK)


def test_one_shard_of_ours_for_influxd(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh, full: tuple[str, Points]
) -> None:
    db, expected = full
    [*_, shard] = _shards(source, db)
    backup(source, backups, "-shard", shard)
    name = fresh()
    influxd_restore(target, backups, "-db", db, "-newdb", name, "-shard", str(shard))
    wait_for_points(target, name, later_than(expected, T0 + WEEK))


@pytest.mark.fault(96, 97)
@pytest.mark.parametrize("name", NAMES)
def test_names_that_influxd_takes(
    source: Influxd, target: Influxd, tmp_path: Path, fresh: Fresh, name: str
) -> None:
    """The name of the database, its policy, a measurement, a tag, a field and a string."""
    db = f"{name} {fresh()[-4:]}"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    source.create_database(db, with_=f'NAME "{quoted}"')
    escaped = name.replace("\\", "\\\\").replace(" ", "\\ ").replace("=", "\\=").replace(",", "\\,")
    text = name.replace('"', '\\"')
    source.write(db, f'm{escaped},t{escaped}={escaped} f{escaped}="{text}" {T0}')
    expected = points(source, db)
    assert count(expected) == 1
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    backup(source, ours, "-db", db)
    influxd_backup(source, theirs, "-db", db)
    for directory in (ours, theirs):
        verify(directory)
        new = f"{name} {fresh()[-4:]}"
        restore(target, directory, "-db", db, "-newdb", new)
        assert points(target, new) == expected
        target.drop_database(new)
    influxd_restore(target, ours, "-db", db)
    wait_for_points(target, db, expected)
    target.drop_database(db)
    source.drop_database(db)


def test_unsigned_integers_that_no_release_can_write_over_http(
    source: Influxd, target: Influxd, tmp_path: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, f"m i=1i {T0}")
    [shard] = _shards(source, db)
    highest = block(4, raw_times([T0, T0 + 1]), raw_integers([2**64 - 1, 7]))
    file = tsm_file({b"m#!~#u": [(T0, T0 + 1, highest)]})
    with SnapshotterClient(source.bind_addr).upload(ShardID(shard)) as upload:
        upload.sendall(encode_header(f"{db}/autogen/{shard}/000000007-000000001.tsm", len(file), 0))
        upload.sendall(file + padding(len(file)) + END_MARKER)
        upload.finish()
    expected = points(source, db)
    assert expected["types", "m"] == [("i", "integer"), ("u", "unsigned")]
    assert expected["autogen", "m", ()][0] == (T0, {"i": 1, "u": 2**64 - 1})
    for make, take in ((backup, restore), (backup, influxd_restore), (influxd_backup, restore)):
        directory = tmp_path / f"{make.__name__}-{take.__name__}"
        directory.mkdir()
        make(source, directory, "-db", db)
        verify(directory)
        name = fresh()
        take(target, directory, "-db", db, "-newdb", name)
        wait_for_points(target, name, expected)


def test_empty_databases_keep_their_policies(
    source: Influxd,
    target: Influxd,
    influxd_factory: Callable[..., Influxd],
    tmp_path: Path,
    fresh: Fresh,
) -> None:
    """Also where the server makes no policy of its own for a new database."""
    plain = influxd_factory(config={"meta": {"retention-autocreate": False}})
    db, normal, bare = fresh(), fresh(), fresh()
    source.create_database(db, with_='DURATION 8w SHARD DURATION 3d NAME "only"')
    source.create_database(normal)
    source.create_database(bare)
    source.query(f'DROP RETENTION POLICY autogen ON "{bare}"')
    for make in (backup, influxd_backup):
        for each in (db, normal, bare):
            directory = tmp_path / f"{make.__name__}-{each}"
            directory.mkdir()
            make(source, directory, "-db", each)
            verify(directory)
            for server in (target, plain):
                name = fresh()
                restore(server, directory, "-db", each, "-newdb", name)
                assert _policies(server, name) == _policies(source, each)


@pytest.mark.fault(67)
def test_deletes_that_are_pending_are_warned_about_twice(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, [f"m v={i} {T0 + i}" for i in range(20)])
    source.flush(db)
    source.query(f"DELETE FROM m WHERE time >= {T0 + 10}", db=db)
    assert source.tombstone_files(db)
    done = backup(source, backups, "-db", db)
    assert "1 delete is still pending on the server" in done.err
    assert points(source, db)["autogen", "m", ()] == [(T0 + i, {"v": i}) for i in range(10)]
    verify(backups)
    name = fresh()
    done = restore(target, backups, "-db", db, "-newdb", name)
    assert "the restore applies them" in done.err
    assert len(points(target, name)["autogen", "m", ()]) == 10


def test_from_an_index_in_files_to_one_in_memory(
    source: Influxd, target: Influxd, tmp_path: Path, fresh: Fresh
) -> None:
    db = fresh()
    target.create_database(db)
    fill(target, db)
    expected = points(target, db)
    for make in (backup, influxd_backup):
        directory = tmp_path / make.__name__
        directory.mkdir()
        make(target, directory, "-db", db)
        name = fresh()
        restore(source, directory, "-db", db, "-newdb", name)
        assert points(source, name) == expected
    name = fresh()
    influxd_restore(source, tmp_path / "backup", "-db", db, "-newdb", name)
    wait_for_points(source, name, expected)


@pytest.mark.fault(69)
def test_shard_numbers_with_zeros_at_their_ends(
    influxd_factory: Callable[..., Influxd], target: Influxd, backups: Path, fresh: Fresh
) -> None:
    """Influxd's own restore once took shard 10 for shard 1."""
    server = influxd_factory()
    server.create_database("db", with_='DURATION INF SHARD DURATION 1h NAME "hourly"')
    for i, shard in enumerate((1, 10, 100, 790)):
        _count_shards_from(server, shard)
        server.write("db", f"m v={i} {T0 + i * HOUR}")
    assert _shards(server, "db") == [1, 10, 100, 790]
    expected = points(server, "db")
    rows = expected["hourly", "m", ()]
    backup(server, backups)
    name = fresh()
    restore(target, backups, "-db", "db", "-newdb", name)
    assert points(target, name) == expected
    for i, shard in enumerate((1, 10, 100, 790)):
        name = fresh()
        restore(target, backups, "-db", "db", "-newdb", name, "-shard", shard)
        assert points(target, name)["hourly", "m", ()] == [rows[i]]
    name = fresh()
    influxd_restore(target, backups, "-db", "db", "-newdb", name)
    wait_for_points(target, name, expected)


def _count_shards_from(server: Influxd, shard: int) -> None:
    """Let the server number its next shard so, as if it had had all those before."""
    server.stop()
    file = server.meta_dir / "meta.db"
    data = pb.Data.FromString(file.read_bytes())
    data.MaxShardID = shard - 1
    file.write_bytes(data.SerializeToString())
    server.start()


def later_than(found: Points, start: int) -> Points:
    """The points at or after a time."""
    kept = {
        key: rows if key[0] == "types" else [row for row in rows if row[0] >= start]
        for key, rows in found.items()
    }
    return {key: rows for key, rows in kept.items() if rows}


def _policies(server: Influxd, db: str) -> list[Any]:
    [result] = server.query(f'SHOW RETENTION POLICIES ON "{db}"')
    return result["series"][0].get("values", [])


def _shards(server: Influxd, db: str) -> list[int]:
    [result] = server.query("SHOW SHARDS")
    [series] = [s for s in result["series"] if s["name"] == db]
    return sorted(row[0] for row in series["values"])


def _wait_for_the_next_second(directory: Path) -> None:
    """Influxd's tool writes over a backup of the same second, which is not what we test."""
    newest = max(path.name[:16] for path in directory.glob("*.manifest"))
    wait_until(
        lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ") > newest,
        within_s=5,
        what="the next second",
    )
