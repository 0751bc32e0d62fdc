"""The server fixture itself: what other tests rely on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.influxd import Influxd, InfluxdFailed

pytestmark = pytest.mark.wire


def test_points_survive_a_restart_and_a_power_cut(influxd_factory: Callable[..., Influxd]) -> None:
    server = influxd_factory(index_version="tsi1")
    addresses = server.http_addr, server.bind_addr
    server.create_database('a "quoted" name')
    server.write('a "quoted" name', ["cpu v=1i 1", "cpu v=2i 2"])
    server.restart()
    server.kill()
    assert not server.running
    server.start()
    assert server.rows("SELECT v FROM cpu", db='a "quoted" name') == [[1, 1], [2, 2]]
    assert (server.http_addr, server.bind_addr) == addresses


def test_a_flush_leaves_the_points_in_tsm_files(influxd: Influxd) -> None:
    influxd.create_database("flushed")
    influxd.write("flushed", "cpu v=1 1600000000", precision="s")
    [path] = influxd.flush("flushed")
    assert path.read_bytes()[:5] == bytes.fromhex("16d116d101")
    assert "_internal" not in str(influxd.query("SHOW DATABASES"))


def test_a_failed_statement_or_write_raises(influxd: Influxd) -> None:
    with pytest.raises(InfluxdFailed, match="expected SELECT"):
        influxd.query("garbage")
    with pytest.raises(InfluxdFailed, match="404"):
        influxd.write("no such database", "cpu v=1")


def test_a_server_that_refuses_its_configuration_fails_with_its_log(
    influxd_factory: Callable[..., Influxd],
) -> None:
    with pytest.raises(InfluxdFailed, match="unrecognized index bogus"):
        influxd_factory(index_version="bogus")
