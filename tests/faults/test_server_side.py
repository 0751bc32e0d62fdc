"""What happens on the servers' side meanwhile: compactions, full disks, limits, other indexes."""

from __future__ import annotations

import base64
import hashlib
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.places import T0, WEEK, Place
from tests.influxd import Influxd, InfluxdFailed, wait_until
from tests.proxy import Act, Proxy, shard_backups
from tests.wire.commands import at, backup, restore, shardkeeper, verify
from tests.wire.points import databases

pytestmark = pytest.mark.wire

SOME = 40_000
"""Bytes of a string that no compression makes smaller."""


def noise(n: int) -> str:
    return base64.b64encode(random.Random(n).randbytes(SOME * 3 // 4)).decode()


def noisy(numbers: range) -> list[str]:
    return [f'big,t=x s="{noise(n)}" {T0 + n}' for n in numbers]


def points(server: Influxd, db: str) -> dict[str, str]:
    """By measurement and tags, as digests, which keeps failures short."""
    found: dict[str, str] = {}
    [result] = server.query("SELECT * FROM /./ GROUP BY *", db=db)
    for series in result.get("series", []):
        tags = {name: value for name, value in series.get("tags", {}).items() if value}
        names = series["columns"]
        rows = [[p for p in zip(names, row, strict=True) if p[1] is not None]
                for row in series["values"]]  # fmt: skip
        found[f"{series['name']} {tags}"] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir(mode=0o700)
    return directory


# --- while it is copied ----------------------------------------------------------------------


@pytest.mark.fault(15)
def test_a_compaction_during_a_copy_mixes_nothing(
    influxd_factory: Callable[..., Influxd], real: Place, backups: Path
) -> None:
    server = influxd_factory(config={"data": {"compact-full-write-cold-duration": "1s"}})
    server.create_database("db")
    for part in range(2):
        server.write("db", noisy(range(part * 40, part * 40 + 40)))
        server.flush("db")
    before = server.tsm_files("db")
    during: list[Path] = []

    def compacted() -> None:
        server.write("db", f"small v=1 {T0}")  # a shard must be written to for being looked at
        wait_until(
            lambda: not set(server.tsm_files("db")) & set(before),
            within_s=30,
            what="the files to be compacted",
        )
        during.extend(server.tsm_files("db"))

    with Proxy(server.bind_addr) as proxy:
        proxy.break_next(Act(100_000, compacted), chosen=shard_backups)
        backup(server, backups, "-db", "db", tcp=proxy.address)
    assert during
    verify(backups)
    with_all = points(server, "db")
    first = {key: rows for key, rows in with_all.items() if not key.startswith("small")}
    restore(real.target, backups, "-db", "db", "-newdb", "compacted")
    assert points(real.target, "compacted") in (first, with_all)
    real.target.drop_database("compacted")
    backup(server, backups, "-db", "db")
    restore(real.target, backups, "-db", "db", "-newdb", "compacted")
    assert points(real.target, "compacted") == with_all
    real.target.drop_database("compacted")


@pytest.mark.fault(23)
def test_a_metastore_that_changes_during_a_backup_is_the_one_of_its_beginning(
    influxd_factory: Callable[..., Influxd], real: Place, backups: Path
) -> None:
    server = influxd_factory()
    for db in ("stays", "goes"):
        server.create_database(db)
        server.write(db, f"m v=1 {T0}")
    backup(server, backups)
    expected = {db: points(server, db) for db in ("stays", "goes")}

    [shard] = [row[0] for row in shards(server) if row[1] == "goes"]

    def of_goes(head: bytes) -> bool:
        return shard_backups(head) and b'"ShardID":%d,' % shard in head

    def change() -> None:
        server.drop_database("goes")
        server.query('CREATE RETENTION POLICY "late" ON "stays" DURATION INF REPLICATION 1')
        server.write("stays", f"m v=2 {T0}", rp="late")
        server.create_database("comes")
        server.write("comes", f"m v=3 {T0}")

    with Proxy(server.bind_addr) as proxy:
        proxy.break_next(Act(0, change, direction="to server"), chosen=of_goes)
        done = backup(server, backups, "-full", tcp=proxy.address)
        assert proxy.pending == 0
    assert f"shard {shard} (goes/autogen) is gone at the source" in done.err
    verify(backups)
    first, during = sorted(path.stem for path in backups.glob("*.manifest"))
    for db, state in (("stays", during), ("stays", first), ("goes", during), ("goes", first)):
        restore(real.target, backups, "-db", db, "-newdb", "then", "-as-of", state)
        assert points(real.target, "then") == expected[db], (db, state)
        real.target.drop_database("then")
    backup(server, backups)
    for db in ("stays", "comes"):
        restore(real.target, backups, "-db", db, "-newdb", "now")
        assert points(real.target, "now") == points(server, db)
        real.target.drop_database("now")


def shards(server: Influxd) -> list[list[Any]]:
    """ID, database and what follows."""
    [result] = server.query("SHOW SHARDS")
    return [row for series in result["series"] for row in series.get("values", [])]


# --- no room ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a few MiB somewhere; for a server's data."""
    mounted: list[Path] = []

    def mount(name: str) -> Path:
        where = tmp_path / name
        where.mkdir(parents=True)
        words = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(where)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(where)
        return where

    yield mount
    for where in mounted:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest.mark.fault(24)
def test_a_server_without_space_for_a_snapshot_is_named_and_the_next_run_converges(
    influxd_factory: Callable[..., Influxd],
    small_disk: Callable[[str], Path],
    real: Place,
    backups: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resources.engine.options.Retry.pause_s", lambda self, attempt: 0.001)
    data = small_disk("data")
    server = influxd_factory(cache_cold="10m", config={"data": {"dir": str(data)}})
    server.create_database("db")
    server.write("db", f"small v=1 {T0}")
    backup(server, backups, "-db", "db")
    before = {path.name for path in backups.iterdir()}
    server.write("db", noisy(range(200)))  # into the log, which is elsewhere, and the cache
    expected = points(server, "db")
    done = shardkeeper("backup", *at(server), "-db", "db", backups)
    assert done.code in (1, 3, 13), done
    assert server.bind_addr in done.err
    assert "next:" in done.err
    assert {path.name for path in backups.iterdir()} == before
    verify(backups)
    subprocess.run(["mount", "-o", "remount,size=64m", str(data)], check=True)
    backup(server, backups, "-db", "db")
    restore(real.target, backups, "-db", "db", "-newdb", "roomy")
    assert points(real.target, "roomy") == expected
    real.target.drop_database("roomy")


@pytest.mark.fault(71)
def test_a_target_without_space_keeps_nothing_and_takes_it_once_there_is(
    influxd_factory: Callable[..., Influxd],
    small_disk: Callable[[str], Path],
    real: Place,
    backups: Path,
) -> None:
    server = influxd_factory()
    server.create_database("db")
    server.write("db", noisy(range(250)))
    server.write("db", f"small v=1 {T0 + WEEK}")
    backup(server, backups, "-db", "db")
    expected = points(server, "db")
    data = small_disk("data")
    target = influxd_factory(config={"data": {"dir": str(data)}})
    done = shardkeeper("restore", *at(target), "-db", "db", backups)
    assert done.code in (1, 13, 15), done
    assert "rolled back: dropped" in done.err
    assert databases(target) == set()
    subprocess.run(["mount", "-o", "remount,size=64m", str(data)], check=True)
    restore(target, backups, "-db", "db")
    assert points(target, "db") == expected


@pytest.mark.fault(71)
def test_more_series_than_a_target_takes_are_reported_or_there(
    influxd_factory: Callable[..., Influxd], real: Place, backups: Path
) -> None:
    """Its limit is for what is written; what is restored is read back, whatever it does."""
    expectation = real.expectation(filled=False)
    lines = [f"m,t={i} v={i} {T0}" for i in range(50)]
    real.source.write(expectation.database, lines)
    backup(real.source, backups, "-db", expectation.database)
    target = influxd_factory(config={"data": {"max-series-per-database": 10}})
    target.create_database("limited")
    with pytest.raises(InfluxdFailed, match="max-series"):
        target.write("limited", lines)
    done = shardkeeper("restore", *at(target), "-db", expectation.database, backups)
    if done:
        assert points(target, expectation.database) == points(real.source, expectation.database)
    else:
        assert "rolled back: dropped" in done.err
        assert expectation.database not in databases(target)


# --- another kind of server ------------------------------------------------------------------


@pytest.mark.fault(78)
def test_what_an_index_in_files_held_comes_back_under_one_in_memory(
    real: Place, backups: Path
) -> None:
    """The other way round is what all tests of real servers do."""
    there, here = real.target, real.source
    there.create_database("indexed")
    there.write("indexed", [f'm,t={i % 7},u=é\\ {i} v={i},s="x" {T0 + i}' for i in range(50)])
    expected = points(there, "indexed")
    backup(there, backups, "-db", "indexed")
    restore(here, backups, "-db", "indexed")
    assert points(here, "indexed") == expected
    here.restart()
    assert points(here, "indexed") == expected
    for server in (here, there):
        server.drop_database("indexed")
