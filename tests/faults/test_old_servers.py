"""What servers up to InfluxDB 1.7 do wrong by themselves, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.server import EmbeddedServer
from tests.wire.commands import Done, shardkeeper

T0 = 1_600_000_000 * 10**9
COUNT = "SELECT count(v) FROM cpu"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "server", version="1.6.7") as running:
        running.query("CREATE DATABASE telegraf")
        running.write("telegraf", f"cpu v=1 {T0}")
        yield running


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def run(server: EmbeddedServer, *words: object) -> Done:
    return shardkeeper("-host", server.tcp_addr, "-http", server.http_addr, *words)


def counted(server: EmbeddedServer, database: str = "telegraf") -> int:
    [result] = server.query(COUNT, database=database)["results"]
    return result["series"][0]["values"][0][1] if "series" in result else 0


@pytest.mark.fault(78)
def test_metadata_of_which_a_server_reads_a_part_makes_no_database(
    server: EmbeddedServer, backups: Path
) -> None:
    assert run(server, "backup", backups)
    flags = ("restore", "-db", "telegraf", "-newdb", "copy", backups)
    server.node.snapshotter.faults.short_read_bytes = 40
    failed = run(server, *flags)
    assert failed.code == 1, failed
    assert server.meta.metastore.database("copy") is None
    server.node.snapshotter.faults.short_read_bytes = None
    assert run(server, *flags)
    assert counted(server, "copy") == 1


@pytest.mark.fault(78)
def test_a_snapshot_that_is_in_progress_is_waited_for(
    server: EmbeddedServer, backups: Path
) -> None:
    server.node.snapshotter.faults.in_progress = 2
    done = run(server, "backup", backups)
    assert done, done
    assert done.err.count("attempt") == 2
    assert server.node.snapshotter.faults.in_progress == 0
    assert run(server, "restore", "-db", "telegraf", "-newdb", "copy", backups)
    assert counted(server, "copy") == 1


@pytest.mark.fault(78)
def test_changes_that_a_coarse_clock_hides_are_found(server: EmbeddedServer, backups: Path) -> None:
    """A file gets the time of the last tick, which is before the backup that it follows."""
    server.node.snapshotter.faults.coarse_ns = 10**9
    assert run(server, "backup", backups)
    for n in range(1, 4):
        server.write("telegraf", f"cpu v=1 {T0 + n}")
        done = run(server, "backup", backups)
        assert "shard 1... Done" in done.out, (n, done)
    assert run(server, "restore", "-db", "telegraf", "-newdb", "copy", backups)
    assert counted(server, "copy") == 4
