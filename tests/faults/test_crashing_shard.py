"""A shard that brings its server down whenever it is read is left alone; the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from resources.embedded.server import EmbeddedServer
from resources.engine.backup import crash_record
from resources.engine.backup.crash_record import CrashRecord
from resources.model import ShardID
from resources.protocol.times import parse_time
from resources.repository.storage.store import DirectoryStore
from tests.wire.commands import Done, shardkeeper

T0, WEEK = 1_600_000_000 * 10**9, 604_800 * 10**9
DEADLY = ShardID(2)


@dataclass
class Deadly:
    """A server that dies of one shard, and is started again by its supervisor."""

    server: EmbeddedServer
    shards: set[ShardID] = field(default_factory=lambda: {DEADLY})
    away_s: float = 0.5
    """0: it is back before anyone asks, and only the connection of that shard breaks off."""
    deaths: int = 0
    inside: list[ShardID] = field(default_factory=list[ShardID])
    beside: list[set[ShardID]] = field(default_factory=list[set[ShardID]])
    """Which other shards were being read, each time it died."""
    threads: list[threading.Thread] = field(default_factory=list[threading.Thread])

    def before(self, shard_id: ShardID) -> None:
        self.inside.append(shard_id)
        try:
            self._read(shard_id)
        finally:
            self.inside.remove(shard_id)

    def _read(self, shard_id: ShardID) -> None:
        if shard_id not in self.shards:
            if self.deaths == 1:  # the others take their time, so that it would be read beside them
                time.sleep(0.3)
            return
        self.deaths += 1
        self.beside.append({*self.inside} - {shard_id})
        if not self.away_s:
            self.server.node.count_as_restarted()
            raise ConnectionAbortedError
        self.server.node.stop()
        again = threading.Timer(self.away_s, self.server.node.start)
        self.threads.append(again)
        again.start()
        raise ConnectionAbortedError

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


@pytest.fixture
def deadly(tmp_path: Path) -> Iterator[Deadly]:
    with EmbeddedServer(tmp_path / "server") as running:
        running.query("CREATE DATABASE m")
        for week in range(4):
            running.write("m", f"cpu v={week} {T0 + week * WEEK}")
        found = Deadly(running)
        running.node.snapshotter.faults.before_shard = found.before
        yield found
        found.join()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def run(deadly: Deadly, *words: object) -> Done:
    done = shardkeeper("-host", deadly.server.tcp_addr, "-http", deadly.server.http_addr, *words)
    deadly.join()
    return done


def test_it_is_read_twice_and_then_left_alone(deadly: Deadly, backups: Path) -> None:
    first = run(deadly, "backup", backups)
    assert (first.code, deadly.deaths) == (3, 2), first.err
    assert "shard 2 failed: shard 2 is left alone" in first.err
    assert first.out.count("Backing up node") == 3
    second = run(deadly, "backup", backups)
    assert (second.code, deadly.deaths) == (3, 2), second
    assert "reading it brought its server down 2 times" in second.err
    assert "until 20" in second.err


def test_it_is_read_alone_the_second_time_over_all_processes(deadly: Deadly, backups: Path) -> None:
    deadly.away_s = 0.0
    done = run(deadly, "backup", "-workers", 2, "-parallel", 2, backups)
    assert (done.code, deadly.deaths, deadly.beside[1]) == (3, 2, set()), done.err
    assert "shard 2 failed: shard 2 is left alone" in done.err
    assert done.out.count("Backing up node") == 3


def test_it_is_tried_again_when_its_time_has_come(
    deadly: Deadly, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(deadly, "backup", backups)
    monkeypatch.setattr(crash_record, "HOUR_NS", 0)
    again = run(deadly, "backup", backups)
    assert (again.code, deadly.deaths) == (3, 3), again
    deadly.shards.clear()
    assert run(deadly, "backup", backups)
    assert not list(backups.glob(".shardkeeper.crashes*"))


def test_whoever_names_it_has_it_read(deadly: Deadly, backups: Path) -> None:
    run(deadly, "backup", backups)
    deadly.shards.clear()
    assert run(deadly, "backup", "-db", "m", "-rp", "autogen", "-shard", DEADLY, backups)


def test_a_record_says_for_how_long(tmp_path: Path) -> None:
    record = CrashRecord(DirectoryStore(tmp_path), 7)
    assert record.read() == {}
    last = parse_time("2026-11-22T09:51:00Z", "last")
    assert last is not None
    crashes = [crash_record.Crash(n, last) for n in (1, 2, 3, 4, 9)]
    hours = [(crash.until_ns - last) / crash_record.HOUR_NS for crash in crashes]
    assert hours[1:] == [1, 4, 16, 168]
    assert crashes[0].until_ns == 0
    record.write({ShardID(9): crashes[1]})
    assert record.read() == {ShardID(9): crashes[1]}
    (tmp_path / record.name).write_bytes(b"{}")
    assert record.read() == {}
    record.write({})
    assert not (tmp_path / record.name).exists()
