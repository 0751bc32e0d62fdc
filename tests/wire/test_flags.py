"""Flags of the original that ask for something special."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.ctl.meta_config import address_in
from resources.clients import connect
from resources.embedded.cluster import EmbeddedCluster
from tests.wire.commands import shardkeeper

T0 = 1_600_000_000 * 10**9


def test_what_changed_within_the_threshold_waits_and_the_next_backup_takes_it(
    tmp_path: Path,
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=1) as cluster:
        bind = ("-bind", cluster.meta[0].http_addr)
        cluster.query("CREATE DATABASE telegraf")
        cluster.write("telegraf", f"m v=1 {T0}")
        assert shardkeeper(*bind, "backup", backups)
        cluster.write("telegraf", f"m v=2 {T0 + 1}")
        waits = shardkeeper(*bind, "backup", "-staleness-threshold", "10m", backups)
        assert waits, waits
        assert "shard " not in waits.out
        assert "changed within -staleness-threshold" in waits.err
        again = shardkeeper(*bind, "backup", backups)
        assert again.out.count("db telegraf, rp autogen, shard ") == 1


def test_buffers_of_the_original_are_taken_and_change_nothing(tmp_path: Path) -> None:
    flags = ("-gzipBlockCount", 4, "-gzipBlockSize", 1048576, "-bufsize", 4096)
    done = shardkeeper("-host", "127.0.0.1:1", "backup", *flags, tmp_path)
    assert done.code == 1
    assert "connection refused" in done.err


def test_a_password_is_asked_for_at_a_terminal_and_never_shown() -> None:
    ours, theirs = pty.openpty()
    code = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    words = [sys.executable, "-c", code, "-bind", "127.0.0.1:1", "-user", "admin", "show"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("INFLUX")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        words, stdin=theirs, stderr=theirs, stdout=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    output = b""
    while b"Password of 'admin'" not in output:
        assert select.select([ours], [], [], 30)[0], output
        output += os.read(ours, 4096)
    os.write(ours, b"s3cr3t-canary\n")
    try:
        while select.select([ours], [], [], 30)[0] and (more := os.read(ours, 4096)):
            output += more
    except OSError:
        pass  # the end of a terminal
    os.close(ours)
    assert process.wait(timeout=30) == 1
    assert b"s3cr3t-canary" not in output


def test_a_meta_nodes_configuration_reports_where_it_is_and_its_secret_lets_in(
    tmp_path: Path,
) -> None:
    config = tmp_path / "meta.conf"
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=1) as cluster:
        address = cluster.meta[0].http_addr
        config.write_text(f'[meta]\nhttp-bind-address = ":{address.rpartition(":")[2]}"\n')
        done = shardkeeper("-config", config, "show")
        assert done, done
        assert address in done.out
        other = shardkeeper("-config", config, "-bind", "127.0.0.1:1", "show")
        assert "127.0.0.1:1: connection refused" in other.err


def test_who_names_an_http_port_is_reported_which_port_was_tried_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "TCP_PORT", 1)
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=1) as cluster:
        address = cluster.data[0].http_addr
        done = shardkeeper("-bind", address, "show")
    assert done.code == 1
    assert "127.0.0.1:1: connection refused" in done.err
    assert f"{address} is the HTTP port of an InfluxDB server, so its port 1 was tried" in done.err


def test_a_configuration_reports_whether_data_nodes_speak_tls(tmp_path: Path) -> None:
    config = tmp_path / "meta.conf"
    config.write_text("[meta]\ndata-use-tls = true\n")
    assert address_in(str(config)) == {"data_tls": True}


def test_a_configuration_that_cannot_be_read_is_named_and_none_of_it_is_shown(
    tmp_path: Path,
) -> None:
    config = tmp_path / "meta.conf"
    config.write_text('[meta]\ninternal-shared-secret = "s3cr3t-canary\n')
    done = shardkeeper("-config", config, "show")
    assert done.code == 2
    assert "it is not TOML" in done.err
    assert "canary" not in done.err
