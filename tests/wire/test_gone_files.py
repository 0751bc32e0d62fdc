"""A file that a server renamed to `.bad` is missed, named and looked for: never a whole backup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.server import EmbeddedServer
from tests.conftest import need_influxd
from tests.influxd import Influxd
from tests.wire.commands import Done, at, shardkeeper

T0 = 1_600_000_000_000_000_000
GONE = "000000002-000000001.tsm"


def lines(n: int) -> str:
    return "\n".join(f"{m} v={i} {T0 + n * 1000 + i}" for m in ("cpu", "mem") for i in range(9))


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Three files of two series; as influxd, it knows no file that is called `.bad`."""
    with EmbeddedServer(tmp_path / "server") as server:
        server.query("CREATE DATABASE db")
        for n in range(3):
            server.write("db", lines(n))
            for shard_id in server.node.store.shards():
                server.node.store.flush(shard_id)
        yield server


def backup(server: EmbeddedServer, directory: Path, *flags: str) -> Done:
    address = ("-host", server.tcp_addr, "-http", f"http://{server.http_addr}")
    return shardkeeper("backup", *address, *flags, directory)


def path_of(server: EmbeddedServer, name: str = GONE) -> Path:
    [path] = (server.directory / "data").rglob(name)
    return path


def lose(server: EmbeddedServer) -> Path:
    server.stop()
    lost = path_of(server)
    bad = lost.rename(lost.with_name(f"{lost.name}.bad"))
    server.start()
    return bad


def test_a_lost_file_is_named_by_each_backup_and_reader(
    server: EmbeddedServer, backups: Path
) -> None:
    assert backup(server, backups)
    lose(server)
    for _ in range(2):
        done = backup(server, backups)
        assert done.code == 3, done
        assert f"{GONE} is gone, with its 18 values of 2020-09-13T12:26:40.000001Z" in done.err
        assert "has it whole" in done.err
    server.write("db", f"cpu v=1 {T0 + 5000}")
    assert GONE in backup(server, backups).err  # of an archive made after it, too
    listed = shardkeeper("restore", "-list", backups)
    assert f"{GONE} is gone" in listed.out
    verified = shardkeeper("verify", backups)
    assert verified.code == 3, verified
    assert f"{GONE} is gone" in verified.out

    with EmbeddedServer(server.directory.with_name("target")) as target:
        address = ("-host", target.tcp_addr, "-http", f"http://{target.http_addr}")
        back = shardkeeper("restore", *address, "-db", "db", backups)
        assert back.code == 3, back
        assert f"{GONE} is gone" in back.err
        assert "restores it as it was then, whole" in back.err


def test_a_loss_is_forgotten_when_the_file_is_back(server: EmbeddedServer, backups: Path) -> None:
    assert backup(server, backups)
    bad = lose(server)
    assert backup(server, backups).code == 3
    server.stop()
    bad.rename(bad.with_name(GONE))
    server.start()
    assert backup(server, backups)
    assert GONE not in shardkeeper("restore", "-list", backups).out


def test_a_loss_can_be_accepted_once(server: EmbeddedServer, backups: Path) -> None:
    assert backup(server, backups)
    lose(server)
    assert backup(server, backups).code == 3
    assert backup(server, backups, "-damaged", "accept")
    assert backup(server, backups)
    assert backup(server, backups, "-full")


def test_a_strict_backup_keeps_the_earlier_archive(server: EmbeddedServer, backups: Path) -> None:
    assert backup(server, backups)
    lose(server)
    done = backup(server, backups, "-damaged", "refuse")
    assert done.code == 3, done
    assert f"{GONE} is gone" in done.err
    assert len(list(backups.glob("*.tar.gz"))) == 1


def test_compaction_and_deletes_lose_nothing(server: EmbeddedServer, backups: Path) -> None:
    assert backup(server, backups)
    server.query("DROP MEASUREMENT mem", database="db")
    for shard_id in server.node.store.shards():
        server.node.store.compact(shard_id)
    server.stop()
    assert not list((server.directory / "data").rglob(GONE))
    server.start()
    assert backup(server, backups)


def test_the_only_replica_of_a_cluster_is_missed_too(tmp_path: Path, backups: Path) -> None:
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=1) as cluster:
        cluster.query("CREATE DATABASE db")
        store = cluster.data[0].store
        for n in range(3):
            cluster.write("db", lines(n))
            for shard_id in store.shards():
                store.flush(shard_id)
        bind = ("-bind", cluster.meta[0].http_addr)
        assert shardkeeper(*bind, "backup", "-db", "db", backups)
        cluster.stop_node(0)
        [lost] = store.directory.rglob(GONE)
        lost.rename(lost.with_name(f"{GONE}.bad"))
        cluster.start_node(0)
        done = shardkeeper(*bind, "backup", "-db", "db", backups)
        assert done.code == 3, done
        assert f"{GONE} is gone" in done.err


@pytest.mark.wire
def test_a_server_that_renames_a_file_when_it_starts_is_found_out(
    tmp_path: Path, backups: Path
) -> None:
    need_influxd()
    with Influxd(tmp_path / "influxd") as server:
        server.create_database("db")
        for n in range(3):
            server.write("db", lines(n))
            server.flush("db")
        paths = server.tsm_files("db")
        assert shardkeeper("backup", *at(server), "-db", "db", backups)
        server.stop()
        data = bytearray(paths[1].read_bytes())
        data[-1] ^= 0xFF  # where the index begins
        paths[1].write_bytes(data)
        server.start()
        assert paths[1].with_name(f"{GONE}.bad").exists()
        assert shardkeeper("backup", *at(server), "-db", "db", backups).code == 3  # it is not open
        server.restart()  # now it is, without the file
        done = shardkeeper("backup", *at(server), "-db", "db", backups)
        assert done.code == 3, done
        assert f"{GONE} is gone, with its 18 values" in done.err
