"""A server that lost its meta.db is told what is on its disk, and gets its metastore back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need_influxd
from tests.influxd import Influxd
from tests.wire.commands import at, backup, shardkeeper
from tests.wire.points import points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Influxd]:
    need_influxd()
    with Influxd(tmp_path / "server") as server:
        for name in ("m", "n"):
            server.create_database(name)
            server.write(name, [f"cpu v={n} {T0 + n}" for n in range(10)])
            server.flush(name)
        yield server


def lose_meta(server: Influxd) -> None:
    server.stop()
    shutil.rmtree(server.meta_dir)
    server.start()


def test_the_metastore_of_the_newest_backup_brings_everything_back(
    server: Influxd, backups: Path, tmp_path: Path
) -> None:
    backup(server, backups)
    server.write("m", [f"cpu,later=yes v={n} {T0 + n}" for n in range(10)])
    server.flush("m")
    whole = points(server, "m"), points(server, "n")
    lose_meta(server)

    done = shardkeeper("backup", *at(server), backups)
    assert done.code == 14, done
    assert "2 shards on its disk" in done.err
    assert "'m', 'n'" in done.err
    assert f"restore -meta-file meta.db {backups}" in done.err

    file = tmp_path / "meta.db"
    written = shardkeeper("restore", "-meta-file", file, backups)
    assert written.code == 0, written
    assert file.stat().st_mode & 0o777 == 0o600
    assert shardkeeper("restore", "-meta-file", file, backups).code != 0  # nothing is written over
    server.stop()
    shutil.copyfile(file, server.meta_dir / "meta.db")
    server.start()
    assert (points(server, "m"), points(server, "n")) == whole
    backup(server, backups)  # it is the same server, and goes on


def test_without_any_backup_it_is_reported_all_the_same(server: Influxd, backups: Path) -> None:
    lose_meta(server)
    done = shardkeeper("backup", *at(server), backups)
    assert done.code == 14, done
    assert "its meta.db is lost" in done.err
    assert "influx_inspect export" in done.err
    assert not list(backups.glob("*.manifest"))


def test_who_created_one_database_again_is_reported_the_same(
    server: Influxd, backups: Path
) -> None:
    backup(server, backups)
    lose_meta(server)
    server.create_database("m")
    done = shardkeeper("backup", *at(server), backups)
    assert done.code == 14, done
    assert "its meta.db is lost" in done.err
