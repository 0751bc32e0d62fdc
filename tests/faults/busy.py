"""Backups of a server under load: each has all that was acknowledged before it, or fails by name.

    PATH=<directory of an influxd>:$PATH python -m tests.faults.busy 50 [seed]

The influxd that comes first in PATH takes points, deletes, other people's backup requests, stops
(SIGSTOP) and restarts, all at once, while it is backed up again and again. A backup that ends with
0 is restored into an idle server, and every point that was acknowledged before it began, and never
deleted, must be there with its value. One that ends otherwise must say so: with 3 it names shards,
and nothing else may end a backup but a server that is away.

A seed repeats what is planned; what meets what depends on the machine.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import requests

from tests.influxd import Influxd, InfluxdFailed
from tests.wire.commands import at, shardkeeper, verify

T0 = 1_600_000_000
WEEK = 7 * 86_400
SHARDS = 2
BATCH = 400
BACKUPS_PER_LIFE = 10
SLOW_DISKS = (20 << 10, 100 << 10, 48 << 20)
"""Bytes a second at which caches are written: a snapshot that takes seconds is one to run into."""
DISTURBANCES = ("others", "stops", "restarts", "deletes", "nothing", "others and stops")


class Load:
    """What is written to one database, and what was acknowledged of it.

    A point is (shard, number); its time and value follow from the number.
    """

    def __init__(self, server: Influxd, database: str, dice: random.Random) -> None:
        self.server, self.database = server, database
        self.away = threading.Event()
        """Set while the server is restarted."""
        self._dice = dice
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._written = [0] * SHARDS
        self._acked: set[tuple[int, int]] = set()
        self._deleted: set[tuple[int, int]] = set()
        self._threads: list[threading.Thread] = []

    def acknowledged(self) -> set[tuple[int, int]]:
        with self._lock:
            return self._acked - self._deleted

    def deleted_since(self, points: set[tuple[int, int]]) -> set[tuple[int, int]]:
        with self._lock:
            return points & self._deleted

    def start(self, how: str) -> None:
        works: list[Callable[[], None]] = [self._write]
        works += [self._others] * (2 if "others" in how else 0)
        works += [self._stops] * ("stops" in how)
        works += [self._restarts] * (how == "restarts")
        works += [self._deletes] * (how in ("deletes", "others and stops"))
        for work in works:
            thread = threading.Thread(target=self._until_over, args=(work,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _until_over(self, work: Callable[[], None]) -> None:
        while not self._over.is_set():
            work()

    def _write(self) -> None:
        shard = self._dice.randrange(SHARDS)
        first = self._written[shard]
        if first + BATCH > WEEK:  # the next point would be the other shard's
            self._over.wait(0.2)
            return
        numbers = range(first, first + BATCH)
        self._written[shard] += BATCH
        body = "\n".join(
            f'm,h=h{n % 7} v={n},s="{n * 7919:0200x}" {T0 + shard * WEEK + n}' for n in numbers
        )
        url = f"http://{self.server.http_addr}/write?db={self.database}&precision=s"
        with suppress(requests.RequestException):
            if requests.post(url, body, timeout=30).status_code == 204:
                with self._lock:
                    self._acked.update((shard, n) for n in numbers)
        self._over.wait(self._dice.choice((0, 0, 0.02, 0.2)))

    def _others(self) -> None:
        """Another client's backup of a shard; each writes the cache out."""
        shard_id = self._dice.randint(1, SHARDS)
        request = {
            "Type": 0,
            "Database": "",
            "RetentionPolicy": "",
            "ShardID": shard_id,
            "Since": "2262-01-01T00:00:00Z",
        }
        host, _, port = self.server.bind_addr.rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=20) as to:
            to.sendall(b"\x03\x00" + json.dumps(request).encode() + b"\n")
            while to.recv(65536):
                pass
        self._over.wait(self._dice.choice((0, 0.01, 0.1)))

    def _stops(self) -> None:
        if self._over.wait(self._dice.uniform(0.1, 1.5)) or (pid := self.server.pid) is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._dice.uniform(0.05, 1.5))
            os.kill(pid, signal.SIGCONT)

    def _restarts(self) -> None:
        if self._over.wait(self._dice.uniform(1, 6)):
            return
        self.away.set()
        self._dice.choice((self.server.stop, self.server.kill))()
        self.server.start()
        self.away.clear()

    def _deletes(self) -> None:
        if self._over.wait(self._dice.uniform(0.1, 1)):
            return
        shard = self._dice.randrange(SHARDS)
        first = self._dice.randrange(max(1, self._written[shard]))
        last = first + self._dice.choice((1, 50, 500))
        with self._lock:
            self._deleted.update((shard, n) for n in range(first, last))
        begin = T0 + shard * WEEK
        where = f"time >= {begin + first}s AND time < {begin + last}s"
        with suppress(requests.RequestException, InfluxdFailed):
            self.server.query(f"DELETE FROM m WHERE {where}", db=self.database)


def restored(target: Influxd, backups: Path, database: str) -> set[tuple[int, int]]:
    """The points that a restore brings back, each with its value."""
    done = shardkeeper("restore", *at(target), "-db", database, "-newdb", "back", backups)
    assert done, done
    url = f"http://{target.http_addr}/query"
    found: set[tuple[int, int]] = set()
    params = {"db": "back", "epoch": "s", "chunked": "true", "q": "SELECT v FROM m"}
    with requests.get(url, params, stream=True, timeout=120) as reply:
        for line in reply.iter_lines():
            for series in json.loads(line)["results"][0].get("series", ()):
                for at_s, value in series["values"]:
                    shard, n = divmod(at_s - T0, WEEK)
                    assert value == n, (at_s, value)
                    found.add((shard, n))
    target.drop_database("back")
    return found


def one_backup(load: Load, target: Influxd, backups: Path) -> str:
    """Back up once, and check the backup; returns its outcome."""
    before, was_away = load.acknowledged(), load.away.is_set()
    done = shardkeeper("backup", *at(load.server), "-db", load.database, backups)
    if done.code == 0:
        found = restored(target, backups, load.database)
        lost = before - found
        lost -= load.deleted_since(lost)
        assert not lost, f"{len(lost)} of {len(before)} points are lost: {sorted(lost)[:5]}"
        return "complete"
    assert "Traceback" not in done.err, done.err
    if done.code == 3:
        assert re.search(r"shard \d+", done.err), done.err
        return "fails by name"
    assert done.err.strip(), done
    return f"status {done.code}, {'server away' if was_away or load.away.is_set() else done.err}"


def live(dice: random.Random, n: int, scratch: Path) -> Counter[str]:
    """`n` backups of one server under one kind of load."""
    how = dice.choice(DISTURBANCES)
    seen: Counter[str] = Counter()
    with ExitStack() as stack:
        throughput = dice.choice(SLOW_DISKS)
        server = Influxd(
            scratch / "source",
            index_version=dice.choice(("inmem", "tsi1")),
            cache_cold=dice.choice(("1s", "10m")),
            cache_snapshot_bytes=dice.choice((256 << 10, 4 << 20, 25 << 20)),
            config={
                "data": {
                    "compact-throughput": throughput,
                    "compact-throughput-burst": throughput,
                }
            },
        )
        stack.enter_context(server)
        target = stack.enter_context(Influxd(scratch / "target"))
        server.create_database("busy")
        backups = scratch / "backups"
        backups.mkdir(mode=0o700)
        load = Load(server, "busy", dice)
        load.start(how)
        stack.callback(load.end)
        for _ in range(n):
            time.sleep(dice.uniform(0, 1))
            seen[one_backup(load, target, backups)] += 1
        if any(backups.glob("*.manifest")):
            verify(backups)
    say(f"{how}, {throughput} bytes/s: {dict(seen)}")
    return seen


def main(n: int, seed: int) -> None:
    say(f"{n} backups of {shutil.which('influxd')}, seed {seed}")
    dice, seen = random.Random(seed), Counter[str]()
    while sum(seen.values()) < n:
        with tempfile.TemporaryDirectory(prefix="busy-") as scratch:
            left = n - sum(seen.values())
            seen += live(random.Random(dice.random()), min(left, BACKUPS_PER_LIFE), Path(scratch))
    say(f"{sum(seen.values())} backups: {dict(seen)}; nothing was lost without a word")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32))
