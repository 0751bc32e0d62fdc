"""A server that is busy leaves its cache out, and what must come of it: no archive without it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.embedded.server import EmbeddedServer
from resources.model import ShardID
from tests.wire.commands import Done, shardkeeper

T0 = 1_600_000_000 * 10**9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "server") as running:
        running.query("CREATE DATABASE telegraf")
        running.write("telegraf", f"cpu v=1 {T0}")
        yield running


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.engine.backup.written_out.PATIENCE_S", 0.3)


def run(server: EmbeddedServer, *words: object, http: str = "") -> Done:
    return shardkeeper("-host", server.tcp_addr, "-http", http or server.http_addr, *words)


def manifest(backups: Path) -> dict[str, Any]:
    return json.loads(max(backups.glob("*.manifest")).read_text())


def saved(server: EmbeddedServer, backups: Path) -> int:
    """How many points a restore brings back."""
    assert run(server, "restore", "-db", "telegraf", "-newdb", "copy", backups)
    [result] = server.query("SELECT count(v) FROM cpu", database="copy")["results"]
    server.query("DROP DATABASE copy")
    return result["series"][0]["values"][0][1]


@pytest.mark.parametrize("empty", [False, True])
def test_a_busy_server_is_asked_again_until_its_cache_is_in_files(
    server: EmbeddedServer, backups: Path, empty: bool
) -> None:
    server.node.store.empty_when_busy = empty
    server.node.store.busy = 3
    assert run(server, "backup", backups)
    assert manifest(backups)["files"][0]["shardkeeper"]["complete"] == "proven"
    assert saved(server, backups) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("empty", [False, True])
def test_a_server_that_stays_busy_makes_the_shard_fail(
    server: EmbeddedServer, backups: Path, empty: bool
) -> None:
    assert run(server, "backup", backups)
    server.write("telegraf", f"cpu v=2 {T0 + 1}")
    server.node.store.empty_when_busy = empty
    server.node.store.busy = 10**6
    done = run(server, "backup", backups)
    assert done.code == 3, done
    assert "shard 1" in done.err
    assert 'look for "snapshot" in its log' in done.err
    assert len(list(backups.glob("*.manifest"))) == 1  # nothing else was to be saved
    server.node.store.busy = 0
    assert run(server, "backup", backups)
    assert saved(server, backups) == 2


@pytest.mark.usefixtures("impatient")
def test_other_shards_are_saved_beside_one_that_stays_in_memory(
    server: EmbeddedServer, backups: Path
) -> None:
    week = 7 * 86_400 * 10**9
    server.write("telegraf", f"cpu v=2 {T0 + week}")
    server.node.store.flush(ShardID(2))
    server.node.store.busy = 10**6
    done = run(server, "backup", backups)
    assert done.code == 3, done
    ours = manifest(backups)
    assert [entry["shardID"] for entry in ours["files"]] == [2]
    [failed] = ours["shardkeeper"]["failed"]
    assert failed["shardID"] == 1
    assert "in memory" in failed["why"] or "snapshot" in failed["why"]


def test_a_busy_server_is_not_unchanged(server: EmbeddedServer, backups: Path) -> None:
    """The probe of a busy shard is answered empty from 1.8.0 to 1.8.4."""
    assert run(server, "backup", backups)
    server.write("telegraf", f"cpu v=2 {T0 + 1}")
    server.node.store.empty_when_busy = True
    server.node.store.busy = 2
    assert run(server, "backup", backups)
    assert manifest(backups)["files"]
    assert saved(server, backups) == 2


def test_without_http_it_is_reported_that_nobody_knows(
    server: EmbeddedServer, backups: Path
) -> None:
    done = run(server, "backup", backups, http="none")
    assert done, done
    assert "not known whether the server has written its caches out" in done.err
    assert manifest(backups)["files"][0]["shardkeeper"]["complete"] == "unknown"


def test_who_requires_completeness_gets_no_archive_of_which_nobody_knows(
    server: EmbeddedServer, backups: Path
) -> None:
    done = run(server, "backup", "-require-complete", backups, http="none")
    assert done.code == 3, done
    assert "shard 1" in done.err
    assert list(backups.iterdir()) == []
    assert run(server, "backup", "-require-complete", backups)


# --- read again, and nothing stored -----------------------------------------------------------


def test_after_a_restart_a_shard_is_read_again_and_stored_only_if_it_differs(
    server: EmbeddedServer, backups: Path
) -> None:
    assert run(server, "backup", backups)
    for _ in range(2):
        server.stop()
        server.start()
        assert run(server, "backup", backups)
        ours = manifest(backups)
        assert not ours["files"]
        assert ours["shardkeeper"]["unchanged"] == [1]
        assert len(ours["shardkeeper"]["provenAgain"]) == 1
        assert run(server, "backup", backups)  # proven: it is not read a third time
        assert "provenAgain" not in manifest(backups)["shardkeeper"]
    assert len(list(backups.glob("*.tar.gz"))) == 1
    assert run(server, "verify", backups)


def test_files_put_back_with_their_names_sizes_and_times_are_found(
    server: EmbeddedServer, backups: Path
) -> None:
    server.node.store.flush(ShardID(1))
    assert run(server, "backup", backups)
    [tsm] = (server.directory / "data").glob("**/*.tsm")
    stat, content = tsm.stat(), tsm.read_bytes()
    server.stop()
    other = server.directory.parent / "other"
    with EmbeddedServer(other) as substitute:  # a file of the same size with another value in it
        substitute.query("CREATE DATABASE telegraf")
        substitute.write("telegraf", f"cpu v=2 {T0}")
        substitute.node.store.flush(ShardID(1))
        [odd] = (other / "data").glob("**/*.tsm")
        assert len(odd.read_bytes()) == len(content) != 0
        tsm.write_bytes(odd.read_bytes())
    os.utime(tsm, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    server.start()
    assert run(server, "backup", backups)
    assert manifest(backups)["files"]


# --- shards that no one serves ----------------------------------------------------------------


def test_a_shard_that_did_not_open_has_failed(server: EmbeddedServer, backups: Path) -> None:
    assert run(server, "backup", backups)
    server.node.store.remove(ShardID(1))
    done = run(server, "backup", backups)
    assert done.code == 3, done
    assert "shard 1" in done.err
    assert "Failed to open shard" in done.err
    done = run(server, "backup", backups)
    assert done.code == 3, done
    other = backups.parent / "new"
    other.mkdir(mode=0o700)
    done = run(server, "backup", other)  # its policy's first group was never planned
    assert done.code == 3, done


def test_a_shard_that_may_have_been_planned_is_named_in_a_directory_without_it(
    server: EmbeddedServer, backups: Path
) -> None:
    server.write("telegraf", f"cpu v=2 {T0 + 7 * 86_400 * 10**9}")
    server.node.store.remove(ShardID(2))
    done = run(server, "backup", backups)
    assert done, done
    assert "shard 2 (telegraf/autogen)" in done.err
    assert "Failed to open shard" in done.err
