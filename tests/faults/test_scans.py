"""Looking is cheap and harmless: nothing is left at a source, no request is asked twice.

On real servers: tests/faults/scans.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.clients.connect import open_source
from resources.clients.source_address import Address
from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.server import EmbeddedServer
from resources.embedded.web import Reply, Request
from resources.engine.backup.poll import ChangePoller, fingerprint
from resources.engine.options import BackupOptions
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests.wire.commands import Done, shardkeeper

T0, WEEK = 1_600_000_000 * 10**9, 604_800 * 10**9
SHARDS = 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "server", version="1.8.3") as running:
        running.node.snapshotter.faults.leaves_directories = True
        running.query("CREATE DATABASE m")
        for week in range(SHARDS):
            running.write("m", f"cpu v={week} {T0 + week * WEEK}\nmem v={week} {T0 + week * WEEK}")
        yield running


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def run(server: EmbeddedServer, *words: object) -> Done:
    return shardkeeper("-host", server.tcp_addr, "-http", server.http_addr, *words)


def left(server: EmbeddedServer) -> list[str]:
    return sorted(path.name for path in server.directory.rglob("*.tmp"))


def scan(server: EmbeddedServer, backups: Path) -> bool:
    """As the sensor looks; whether something has changed."""
    opened = open_source(Address(host=server.tcp_addr, http=server.http_addr))
    repository = BackupRepository.open(backups)
    seen = fingerprint(opened, internal=False)
    options = BackupOptions(peek=True, internal=False)
    found = ChangePoller(ManifestCache(repository)).poll(opened, seen, options, emit=lambda _: None)
    return found.something


def test_a_release_that_leaves_directories_is_exported(
    server: EmbeddedServer, backups: Path
) -> None:
    assert run(server, "backup", backups)
    for _ in range(3):
        done = run(server, "backup", backups)
        assert done, done
        assert "Backing up node" not in done.out
    assert not scan(server, backups)
    server.write("m", f"cpu v=9 {T0 + 1}")
    assert scan(server, backups)
    changed = run(server, "backup", backups)
    assert changed.out.count("Backing up node") == 1
    assert run(server, "verify", backups)
    assert left(server) == []


def test_another_release_is_backed_up_as_ever(tmp_path: Path, backups: Path) -> None:
    with EmbeddedServer(tmp_path / "server", version="1.8.10") as server:
        server.node.snapshotter.faults.leaves_directories = True
        server.query("CREATE DATABASE m")
        server.write("m", f"cpu v=1 {T0}")
        assert run(server, "backup", backups)
        assert left(server)


def test_a_shard_with_pending_deletes_is_backed_up_and_named(
    server: EmbeddedServer, backups: Path
) -> None:
    assert run(server, "backup", backups)
    server.query("DELETE FROM mem", database="m")
    done = run(server, "backup", backups)
    assert done, done
    assert done.out.count("Backing up node") == SHARDS
    assert "1.8.3 leaves directories named *.tmp" in done.err
    n_left = len(left(server))
    assert n_left == 2 * SHARDS
    assert not scan(server, backups)
    assert len(left(server)) == n_left


def test_a_read_back_leaves_nothing_at_the_target(server: EmbeddedServer, backups: Path) -> None:
    assert run(server, "backup", backups)
    assert run(server, "restore", "-db", "m", "-newdb", "again", backups)
    assert left(server) == []


def test_no_run_asks_a_meta_node_for_what_can_freeze_it(
    tmp_path: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as cluster:
        for node in cluster.meta:
            answer = node.answer

            def note(request: Request, answer=answer) -> Reply:  # type: ignore[no-untyped-def]
                asked.append(request.path)
                return answer(request)

            monkeypatch.setattr(node, "answer", note)
        cluster.query("CREATE DATABASE m")
        cluster.write("m", f"cpu v=1 {T0}")
        bind = ("-bind", cluster.meta[2].http_addr)
        assert shardkeeper(*bind, "backup", backups)
        assert shardkeeper(*bind, "backup", backups)
        assert shardkeeper(*bind, "restore", "-db", "m", "-newdb", "again", backups)
        assert shardkeeper(*bind, "show")
        assert shardkeeper(*bind, "show-shards", "-v")
        assert shardkeeper(*bind, "doctor")
    assert "/lease" in asked
    assert not {"/status", "/peers"} & set(asked)
