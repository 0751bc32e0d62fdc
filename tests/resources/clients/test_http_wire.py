"""The HTTP client against a real influxd."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.http import InfluxHTTP
from resources.clients.snapshotter import SnapshotterClient
from resources.errors import BadReply, CredentialsRefused, PeerRefused, PeerUnreachable, WireError
from resources.protocol.query_results import Series
from tests.influxd import Influxd

pytestmark = pytest.mark.wire

PASSWORD = "it's a s3cr3t: é/\\"


def test_a_server_reports_its_version(influxd: Influxd) -> None:
    ping = InfluxHTTP(influxd.http_addr).ping()
    assert ping.version == influxd.version
    assert ping.build in ("OSS", "ENT")


def test_a_server_reports_its_clock_and_its_shards(influxd: Influxd) -> None:
    client, db = InfluxHTTP(influxd.url), f"db{uuid.uuid4().hex}"
    influxd.create_database(db)
    influxd.write(db, "m v=1 1\nm v=2 2")
    influxd.flush(db)
    [path] = SnapshotterClient(influxd.bind_addr).shard_paths(db)
    reply = client.server_vars()
    assert abs(reply.current_time_ns - time.time_ns()) < 10_000_000_000
    assert reply.started_ns is not None
    assert reply.started_ns < reply.current_time_ns
    stats = reply.shards[path.shard_id]
    [file] = influxd.tsm_files(db)
    assert (stats.num_files, stats.disk_bytes) == (1, file.stat().st_size)
    assert stats.write_points_ok == 2
    influxd.drop_database(db)


def test_queries_answer_in_nanoseconds(influxd: Influxd) -> None:
    client, db = InfluxHTTP(influxd.http_addr), f"db{uuid.uuid4().hex}"
    influxd.create_database(db)
    influxd.write(db, "m,host=a v=9007199254740993i 1600000000000000001")
    assert db in client.databases()
    assert client.query("SELECT v FROM m GROUP BY host", db) == [
        Series("m", {"host": "a"}, ("time", "v"), ((1_600_000_000_000_000_001, 2**53 + 1),))
    ]
    assert client.query(f"DROP DATABASE {db}") == []
    assert db not in client.databases()


@pytest.mark.parametrize(
    ("q", "reason"),
    [
        ("bogus", "error parsing query"),
        ("SELECT * FROM nope..m", "database not found: nope"),
        ('CREATE DATABASE "a/b"', "invalid name"),
    ],
)
def test_a_refused_statement_is_reported(influxd: Influxd, q: str, reason: str) -> None:
    with pytest.raises(PeerRefused, match=reason):
        InfluxHTTP(influxd.http_addr).query(q)


def test_a_result_that_was_cut_off_is_no_result(influxd_factory: Callable[..., Influxd]) -> None:
    server = influxd_factory(config={"http": {"max-row-limit": 5}})
    server.create_database("db")
    server.write("db", [f"m v=1 {n}" for n in range(1, 10)])
    client = InfluxHTTP(server.http_addr)
    assert len(client.query("SELECT v FROM m LIMIT 5", "db")[0].values) == 5
    with pytest.raises(BadReply, match="cut off"):
        client.query("SELECT v FROM m", "db")


@pytest.mark.fault(79)
def test_credentials_matter(influxd_factory: Callable[..., Influxd]) -> None:
    server = influxd_factory(config={"http": {"auth-enabled": True}})
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    server.query(f"CREATE USER root WITH PASSWORD '{quoted}' WITH ALL PRIVILEGES")
    root = InfluxHTTP(server.http_addr, user="root", password=PASSWORD)
    root.query("CREATE USER reader WITH PASSWORD 'reader'")
    root.query("CREATE DATABASE db")
    assert "db" in root.databases()
    assert root.server_vars().started_ns is not None
    for client in (
        InfluxHTTP(server.http_addr),
        InfluxHTTP(server.http_addr, user="root", password="s3cr3t-but-wrong"),
        InfluxHTTP(server.http_addr, user="reader", password="reader"),
    ):
        with pytest.raises(CredentialsRefused) as caught:
            client.query("CREATE DATABASE other")
        assert "s3cr3t" not in str(caught.value)
        assert caught.value.hint
    # The snapshotter asks for none.
    assert b"root" in SnapshotterClient(server.bind_addr).metastore()


def test_the_snapshotters_port_does_not_speak_http(influxd: Influxd) -> None:
    with pytest.raises(PeerUnreachable, match="no HTTP connection, or it broke"):
        InfluxHTTP(influxd.bind_addr).ping()


@pytest.mark.fault(80)
def test_a_certificate_must_be_good_unless_reported_otherwise(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, and nothing else here makes a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", certificate]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    server = influxd_factory(
        config={
            "http": {
                "https-enabled": True,
                "https-certificate": str(certificate),
                "https-private-key": str(key),
            }
        }
    )
    with pytest.raises(PeerUnreachable, match="TLS failed") as caught:
        InfluxHTTP(server.url).ping()
    assert "certificate" in caught.value.hint
    assert InfluxHTTP(server.url, verify=str(certificate)).ping().version == server.version
    assert InfluxHTTP(server.url, verify=False).ping().version == server.version
    with pytest.raises(WireError):
        InfluxHTTP(server.http_addr).ping()
    with pytest.raises(WireError, match=server.http_addr):
        SnapshotterClient(server.http_addr, timeout_s=5).metastore()
