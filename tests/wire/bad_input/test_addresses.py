"""No server, another program, or nothing of that name answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.proxy import Proxy, Stall
from tests.resources.clients.peer import closed_port
from tests.wire.bad_input.refusal import listing, refused
from tests.wire.commands import at, shardkeeper, verify
from tests.wire.points import Points

pytestmark = pytest.mark.wire


def test_nobody_listens(backups: Path) -> None:
    done = shardkeeper("backup", "-host", closed_port(), backups)
    refused(done, 1, "connection refused while connecting", "nothing listens there")
    assert listing(backups) == {}


def test_a_host_that_does_not_exist(backups: Path) -> None:
    refused(shardkeeper("backup", "-host", "no.such.host.invalid:8088", backups), 1, "unknown host")


@pytest.mark.fault(9)
def test_the_http_port_where_the_tcp_port_belongs(source: Influxd, backups: Path) -> None:
    done = shardkeeper("backup", "-host", source.http_addr, backups)
    refused(done, 16, "is an HTTP port", "8088")
    assert listing(backups) == {}


def test_the_tcp_port_where_the_http_port_belongs(
    source: Influxd, backups: Path, life: tuple[str, Points]
) -> None:
    """A backup needs no HTTP; it then copies everything, and says so."""
    db, _ = life
    flags = ("-host", source.bind_addr, "-http", source.bind_addr, "-db", db)
    for _ in range(2):
        done = shardkeeper("backup", *flags, backups)
        assert done, done
        assert "every shard is copied" in done.err
        assert done.out.count("Backing up node") == 2
    verify(backups)


def test_databases_policies_shards_and_nodes_that_do_not_exist(
    source: Influxd, backups: Path, life: tuple[str, Points]
) -> None:
    db, _ = life
    for flags, output in (
        (["-db", "nope"], "database 'nope' does not exist"),
        (["-db", db, "-rp", "nope"], "has no retention policy 'nope'"),
        (["-shard", "999999"], "shard 999999 does not exist"),
        (["-from", "127.0.0.1:1"], "no such node"),
    ):
        refused(shardkeeper("backup", *at(source), *flags, backups), 1, output)
        assert listing(backups) == {}


@pytest.mark.fault(7)
def test_a_server_that_never_answers(source: Influxd, backups: Path) -> None:
    with Proxy(source.bind_addr) as proxy:
        proxy.break_all(Stall(0), chosen=lambda head: True)
        done = shardkeeper("backup", *at(source, tcp=proxy.address), "-timeout", "0.3s", backups)
    refused(done, 1, "no answer while")
    assert listing(backups) == {}
