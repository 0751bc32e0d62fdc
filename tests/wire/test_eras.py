"""A repository holds one server's backups; another state or copy of it begins a new era there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.repository.repository import BackupRepository
from tests.conftest import need_influxd
from tests.influxd import Influxd
from tests.wire.commands import at, backup, restore, shardkeeper
from tests.wire.points import points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
DB = "m"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Influxd]:
    need_influxd()
    with Influxd(tmp_path / "server") as server:
        server.create_database(DB)
        write(server, "first")
        yield server


def write(server: Influxd, series: str, at_ns: int = T0) -> None:
    server.write(DB, [f"{series} v={n} {at_ns + n}" for n in range(10)])
    server.flush(DB)


def rebuilt(server: Influxd) -> None:
    """As after a disk was lost: the same addresses, and nothing behind them."""
    server.stop()
    for path in (server.data_dir, server.wal_dir, server.meta_dir):
        shutil.rmtree(path)
    server.start()


def copy_of(server: Influxd, directory: Path) -> Influxd:
    """Another server with the same files; the first one goes on."""
    server.stop()
    clone = Influxd(directory)
    for name in ("data", "wal", "meta"):
        shutil.copytree(server.directory / name, directory / name)
    server.start()
    return clone


def current(directory: Path) -> BackupRepository:
    return BackupRepository.open(directory)


def test_a_rebuilt_server_goes_on_in_the_same_directory_once_confirmed(
    server: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    server.create_database("other")
    server.write("other", [f"cpu v=1 {T0}"])
    server.flush("other")
    backup(server, backups)
    [old] = sorted(backups.glob("*Z.manifest"))
    before = points(server, DB)
    rebuilt(server)
    restore(server, backups, "-db", DB)
    write(server, "later")

    refused = shardkeeper("backup", *at(server), backups)
    assert refused.code == 14, refused
    assert "-new-era" in refused.err
    confirmed = backup(server, backups, "-new-era")
    assert "shard" in confirmed.out
    after = points(server, DB)
    again = backup(server, backups)  # incremental, and without the flag
    assert "Backing up node" not in again.out

    found = current(backups).current()
    assert {a.entry.database for a in found.archives.values()} == {DB}
    assert all(a.manifest_file > old.name for a in found.archives.values())
    for flags, expected in (((), after), (("-as-of", old.stem), before)):
        name = fresh()
        restore(target, backups, "-db", DB, "-newdb", name, *flags)
        assert points(target, name) == expected
    name = fresh()
    restore(target, backups, "-db", "other", "-newdb", name, "-as-of", old.stem)
    assert shardkeeper("verify", backups).code == 0
    assert "era" in shardkeeper("restore", "-list", backups).out


def test_a_copy_that_went_its_own_way_is_noticed(
    server: Influxd, tmp_path: Path, backups: Path
) -> None:
    with copy_of(server, tmp_path / "clone") as clone:
        write(server, "original")
        backup(server, backups)
        server.stop()  # so that nothing but the files can tell
        write(clone, "copied")
        done = shardkeeper("backup", *at(clone), backups)
    assert done.code == 14, done
    assert "copy" in done.err
    assert "-new-era" in done.err
    assert len(list(backups.glob("*Z.manifest"))) == 1


def test_two_servers_that_run_side_by_side_are_noticed(
    server: Influxd, tmp_path: Path, backups: Path
) -> None:
    with copy_of(server, tmp_path / "clone") as clone:
        server.restart()
        import time

        deadline = time.monotonic() + 20
        while clone_age(clone) < 4 and time.monotonic() < deadline:
            time.sleep(0.2)
        backup(server, backups)
        done = shardkeeper("backup", *at(clone), backups)
    assert done.code == 14, done
    assert "beside" in done.err


def clone_age(server: Influxd) -> int:
    import requests

    return requests.get(f"{server.url}/debug/vars", timeout=10).json()["system"]["uptime"]


def test_a_server_that_was_put_back_is_noticed(server: Influxd, backups: Path) -> None:
    server.stop()
    kept = server.directory / "kept"
    shutil.copytree(server.meta_dir, kept)
    server.start()
    server.create_database("later")
    backup(server, backups)
    server.stop()
    shutil.rmtree(server.meta_dir)
    shutil.copytree(kept, server.meta_dir)
    server.start()
    done = shardkeeper("backup", *at(server), backups)
    assert done.code == 14, done
    assert "put back" in done.err
    backup(server, backups, "-new-era")
    backup(server, backups)


def test_restarts_writes_deletes_and_compactions_are_no_new_server(
    server: Influxd, backups: Path
) -> None:
    backup(server, backups)
    for step in range(4):
        write(server, f"s{step}", T0 + step * 1000)
        if step % 2:
            server.restart()
        else:
            server.query("DROP MEASUREMENT first", db=DB)
        backup(server, backups)
    assert current(backups).current().era == ""
