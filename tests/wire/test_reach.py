"""Servers as they stand: proxies, tunnels, certificates, orphans and names, on a real server.

Of each, the backup goes on as well as it can, and the doctor says in one line what is in the way.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.influxd import Influxd, wait_until
from tests.tunnel import Tunnel
from tests.wire.commands import doctor, shardkeeper

pytestmark = pytest.mark.wire

LINES = [f"m,k=a v={i} {1_600_000_000 + i}" for i in range(10)]


@pytest.fixture
def server(influxd_factory: Callable[..., Influxd]) -> Influxd:
    made = influxd_factory()
    made.create_database("precious")
    made.write("precious", LINES, "s")
    made.flush("precious")
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def archives(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.tar.gz"))


def test_a_server_in_good_order_gets_a_clean_bill(server: Influxd, directory: Path) -> None:
    flags = ("-host", server.bind_addr, "-http", server.http_addr)
    done = shardkeeper(*flags, "doctor", directory)
    assert done.code == 0, done
    assert all(line.startswith("ok ") for line in done.out.splitlines()), done.out
    assert "answers as a single server" in done.out
    assert f"as InfluxDB {server.version}" in done.out
    assert "supports them" in done.out  # locks
    assert list(directory.iterdir()) == []
    assert "not registered" not in server.log_path.read_text()


def test_the_doctor_knows_whose_backups_a_directory_holds(
    server: Influxd, influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    flags = ("-host", server.bind_addr, "-http", server.http_addr)
    assert shardkeeper(*flags, "backup", directory)
    assert "of this server" in shardkeeper(*flags, "doctor", directory).out
    other = influxd_factory()
    done = shardkeeper("-host", other.bind_addr, "-http", other.http_addr, "doctor", directory)
    assert done.code == 1
    assert "of another server" in done.out
    assert "next: use one directory for each server" in done.out


# --- tunnels ------------------------------------------------------------------------------


def test_a_tunnel_that_ends_with_the_first_reset_outlives_backup_restore_and_doctor(
    server: Influxd, directory: Path
) -> None:
    with Tunnel(server.bind_addr, ends_with_reset=True) as tunnel:
        for flags in (
            ("-host", tunnel.address, "-http", server.http_addr),
            ("-bind", tunnel.address, "-http", server.http_addr),
        ):
            assert shardkeeper(*flags, "doctor")
            assert shardkeeper(*flags, "backup", directory)
            assert tunnel.alive
        assert shardkeeper(*flags, "restore", "-db", "precious", "-newdb", "again", directory)
        assert tunnel.alive
    assert len(server.rows("SELECT * FROM m", db="again")) == len(LINES)


def test_a_restore_goes_through_a_tunnel_without_half_closes(
    server: Influxd, directory: Path
) -> None:
    assert shardkeeper("-host", server.bind_addr, "-http", server.http_addr, "backup", directory)
    with Tunnel(server.bind_addr, no_half_close=True) as tunnel:
        flags = ("-host", tunnel.address, "-http", server.http_addr)
        done = shardkeeper(*flags, "restore", "-db", "precious", "-newdb", "again", directory)
    assert done, done
    assert len(server.rows("SELECT * FROM m", db="again")) == len(LINES)


def test_a_published_port_with_nobody_behind_is_reported(server: Influxd, directory: Path) -> None:
    with Tunnel(server.bind_addr, nobody_behind=True) as tunnel:
        flags = ("-host", tunnel.address, "-http", server.http_addr)
        done = shardkeeper(*flags, "backup", directory)
        assert done.code == 1
        assert "bind-address" in done.err.partition("next:")[2]
        diagnosed, output = doctor(*flags)
    assert diagnosed.code == 1
    assert "bind-address" in output["connection"]["next_step"]
    assert output["HTTP"]["status"] == "ok"


def test_tls_before_the_port_of_a_single_server_is_spoken_and_asked_for(
    server: Influxd, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca").mkdir()
    authority = Authority.make(tmp_path / "ca")
    with Tunnel(server.bind_addr, tls=authority.server()) as tunnel:
        plain = ("-host", tunnel.address, "-http", server.http_addr)
        refused = shardkeeper(*plain, "backup", directory)
        assert refused.code == 16
        assert "-data-tls" in refused.err
        flags = (*plain, "-data-tls", "-ca", authority.ca_file)
        assert shardkeeper(*flags, "backup", directory)
        done = shardkeeper(*flags, "restore", "-db", "precious", "-newdb", "again", directory)
        assert done, done
        _, output = doctor(*flags)
    assert "for 2 days" in output[f"certificate of {tunnel.address}"]["answer"]
    assert output[f"certificate of {tunnel.address}"]["status"] == "warning"
    assert len(server.rows("SELECT * FROM m", db="again")) == len(LINES)


def test_an_address_map_leads_to_a_name_that_nobody_here_knows(
    server: Influxd, directory: Path
) -> None:
    flags = (
        *("-host", "influx.invalid", "-map", f"influx.invalid:8088={server.bind_addr}"),
        *("-map", f"influx.invalid:8086={server.http_addr}"),
    )
    done = shardkeeper(*flags, "backup", directory)
    assert done, done
    assert "warning" not in done.err
    assert f"node influx.invalid:8088 (at {server.bind_addr})" not in done.out  # its own name
    assert "node influx.invalid:8088, db precious" in done.out


# --- what is on the disk ------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["precious/autogen/9999", "ghost/autogen/9999"])
def test_an_orphan_directory_is_reported_of_and_holds_nothing_up(
    server: Influxd, directory: Path, where: str
) -> None:
    [shard] = (server.data_dir / "precious" / "autogen").iterdir()
    server.stop()
    shutil.copytree(shard, server.data_dir / where)
    server.start()
    flags = ("-host", server.bind_addr, "-http", server.http_addr)
    for _ in range(2):
        done = shardkeeper(*flags, "backup", directory)
        assert done.code == 0, done
        assert f"'{where.rpartition('/')[0]}'/9999" in done.err
        assert "not in its metastore" in done.err
    assert len(archives(directory)) == 1  # the second time nothing had changed
    diagnosed, output = doctor(*flags)
    assert diagnosed.code == 0
    assert "9999" in output["orphans"]["answer"]


def test_another_servers_shard_is_no_orphan(
    server: Influxd, influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    """It would bring that one's figures into decisions about what has changed."""
    other = influxd_factory()
    for name in ("precious", "more"):
        other.create_database(name)
        other.write(name, LINES, "s")
        other.flush(name)
    flags = ("-host", server.bind_addr, "-http", other.http_addr)
    done = shardkeeper(*flags, "backup", directory)
    assert done.code == 2
    assert "is not the HTTP address of" in done.err
    diagnosed, output = doctor(*flags)
    assert diagnosed.code == 1
    assert output["same server"]["status"] == "failed"


def test_a_database_with_a_slash_in_its_name_is_named_and_the_others_are_saved(
    influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        graphite = f"127.0.0.1:{free.getsockname()[1]}"
    server = influxd_factory(
        config={
            "[graphite]": {
                "enabled": True,
                "bind-address": graphite,
                "database": "dc1/graphite",
                "batch-size": 1,
            }
        }
    )
    server.create_database("precious")
    server.write("precious", LINES, "s")
    host, _, port = graphite.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"a.b 1 1600000000\n")
    # The server makes the database when the first point comes.
    wait_until(
        lambda: (
            ["dc1/graphite"] in server.rows("SHOW DATABASES")
            and server.rows('SELECT * FROM "a.b"', db="dc1/graphite")
        ),
        within_s=30,
        what="the point of graphite",
    )
    server.flush("precious")
    flags = ("-host", server.bind_addr, "-http", server.http_addr)
    done = shardkeeper(*flags, "backup", directory)
    assert done.code == 3, done
    assert "db precious, rp autogen" in done.out
    assert "'dc1/graphite'" in done.err
    assert len(archives(directory)) == 1
    assert shardkeeper(*flags, "backup", "-db", "precious", directory).code == 0
    alone = shardkeeper(*flags, "backup", "-db", "dc1/graphite", directory)
    assert alone.code not in (0, 3)
    assert "'dc1/graphite'" in alone.err
    assert shardkeeper("verify", directory).code in (0, 3)
    target = influxd_factory()
    there = ("-host", target.bind_addr, "-http", target.http_addr)
    restored = shardkeeper(*there, "restore", directory)
    assert restored.code == 0, restored
    assert "'dc1/graphite' is left out" in restored.err + restored.out
    assert len(target.rows("SELECT * FROM m", db="precious")) == len(LINES)
    _, output = doctor(*flags)
    assert "'dc1/graphite'.'autogen'" in output["names"]["answer"]


def test_ipv6_in_every_place_of_an_address(
    influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as one:
            tcp = f"[::1]:{one.getsockname()[1]}"
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
            http = f"[::1]:{two.getsockname()[1]}"
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = influxd_factory()
    server.create_database("precious")
    server.write("precious", LINES, "s")
    server.flush("precious")
    with forwarded(tcp, server.bind_addr), forwarded(http, server.http_addr):
        for flags in (
            ("-host", tcp, "-http", http),
            ("-host", tcp, "-http", f"http://{http}"),
            ("-bind", tcp, "-http", http),
            ("-host", "db.invalid", "-map", f"db.invalid:8088={tcp}", "-http", http),
            ("-host", "[fd00::77]:8088", "-map", f"[fd00:0::77]:8088={tcp}", "-http", http),
        ):
            done = shardkeeper(*flags, "backup", directory)
            assert done.code == 0, done
            assert "warning" not in done.err, done.err
            assert doctor(*flags)[0].code == 0


@contextmanager
def forwarded(listen: str, upstream: str) -> Iterator[None]:
    """Forward an IPv6 address of our own."""
    host, _, port = listen.rpartition(":")
    listening = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6)
    tunnel = Tunnel(upstream)
    tunnel._listener.close()
    tunnel._listener = listening
    with tunnel:
        yield
