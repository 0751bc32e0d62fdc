"""`make replicas N=70`: backups of a cluster of which one replica is behind, under load.

    python -m tests.faults.replicas 70 [seed]

A cluster is written to all the while, its points are deleted, its caches are written out by
others, its data nodes are stopped, started and made to stand still (`kill -STOP`), and again and
again it is backed up. Each backup must end with status 3 and name shards, or hold every point
that was acknowledged before it began by nodes that were up then and now. What it holds is read
from the archives, not asked of the cluster.

The cluster is an embedded one, or the real one that `BIND=` names, with commands that stop and
start a data node (`STOP_NODE=`, `START_NODE=`; see `tests.wire.any_cluster`) and that make it stand
still and go on (`PAUSE_NODE=`, `RESUME_NODE=`). Where hinted handoff is off, replicas stay behind.

A seed repeats what is chosen; when threads meet depends on the machine.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import requests

from resources.clients.coordinator import CoordinatorClient
from resources.clients.snapshotter import SnapshotterClient
from resources.errors import ShardkeeperError
from resources.model import NodeInfo
from resources.repository.archives.archive import ArchiveReader
from resources.repository.archives.unpacked import UnpackedShard
from resources.repository.repository import BackupRepository
from resources.tsm.layout import split_key
from tests.wire.any_cluster import AnyCluster, first_cluster
from tests.wire.commands import Done

PAUSE, RESUME = "SHARDKEEPER_WIRE_PAUSE_NODE", "SHARDKEEPER_WIRE_RESUME_NODE"
START_S, HOUR_S, GROUPS, HOSTS = 1_600_041_600, 3600, 4, 8
BACKUPS_PER_DATABASE = 8
PATIENCE_S = 300
DELETES = 0.1
FAR_FUTURE_NS = 9_214_646_400_000_000_000

Point = tuple[str, int]
"""Host and time in seconds."""


@dataclass
class Known:
    """What is known of the points of a database; a value of None says that it may be gone."""

    values: dict[Point, set[float]] = field(default_factory=dict[Point, set[float]])
    """What a point may be now; one value if it is certain."""
    holders: dict[Point, frozenset[str]] = field(default_factory=dict[Point, frozenset[str]])
    """Nodes that were up when it was acknowledged; empty if it was not."""

    def acknowledged(self, points: dict[Point, float], up: frozenset[str]) -> None:
        for point, value in points.items():
            self.values[point] = {value}
            self.holders[point] = up

    def unknown(self, points: dict[Point, float]) -> None:
        for point, value in points.items():
            self.values.setdefault(point, set()).add(value)
            self.holders.setdefault(point, frozenset())

    def perhaps_deleted(self, point: Point) -> None:
        self.holders[point] = frozenset()

    def copy(self) -> Known:
        return Known({p: set(v) for p, v in self.values.items()}, dict(self.holders))


class Load:
    """One database, and all its clients."""

    def __init__(self, cluster: AnyCluster, rng: random.Random, out: Path) -> None:
        self.cluster = cluster
        self.rng = rng
        self.directory = out
        self.known = Known()
        self.lock = threading.Lock()
        self.nodes = {node.tcp_addr: node for node in cluster.nodes}
        self.down: set[str] = set()
        self.still: set[str] = set()
        self.name = cluster.fresh()
        self.next_value = 0
        self.wanted: Known | None = None
        """What a backup that is under way has to hold; what is written meanwhile, it may."""
        self.code = 0
        """What the last backup ended with."""
        self.session = requests.Session()
        self.session.trust_env = False
        copies = rng.choice([2, 2, 3])
        cluster.query(
            f'CREATE DATABASE "{self.name}" WITH DURATION INF REPLICATION {copies} '
            "SHARD DURATION 1h NAME rp"
        )

    @property
    def up(self) -> frozenset[str]:
        return frozenset(self.nodes) - self.down - self.still

    def a_node(self) -> NodeInfo:
        return self.nodes[self.rng.choice(sorted(self.up))]

    # --- what users do ----------------------------------------------------------------------

    def write(self, n: int) -> None:
        """Write points, new ones and new values of old ones."""
        with self.lock:
            points: dict[Point, float] = {}
            for _ in range(n):
                self.next_value += 1
                at = START_S + self.rng.randrange(GROUPS) * HOUR_S + self.rng.randrange(HOUR_S)
                points[f"h{self.rng.randrange(HOSTS)}", at] = float(self.next_value)
            before, node = self.up, self.a_node()
            consistency = "all" if len(before) == len(self.nodes) else "one"
        lines = "\n".join(f"m,host={h} v={v} {at}" for (h, at), v in points.items())
        output = None
        with suppress(requests.RequestException):
            output = self.session.post(
                f"http://{node.addr}/write",
                params={"db": self.name, "precision": "s", "consistency": consistency},
                data=lines.encode(),
                timeout=30,
            )
        with self.lock:
            if self.wanted is not None:
                self.wanted.unknown(points)
            if output is not None and output.status_code == 204:
                self.known.acknowledged(points, before & self.up)
            else:
                self.known.unknown(points)

    def delete(self) -> None:
        """Delete a few seconds of one host; with a node away it is done in part."""
        with self.lock:
            if not self.known.values:
                return
            host, at = self.rng.choice(sorted(self.known.values))
            gone = [p for p in self.known.values if p[0] == host and at <= p[1] <= at + 30]
            for point in gone:
                self.known.perhaps_deleted(point)
            node = self.a_node()
        with suppress(AssertionError, requests.RequestException):
            self.cluster.query(
                f"DELETE FROM m WHERE host = '{host}' AND time >= {at}s AND time <= {at + 30}s",
                database=self.name,
                node=node,
            )

    def flush(self) -> None:
        """As another backup does: have a node write out a cache."""
        node = self.a_node()
        shards = [p.shard_id for p in self.cluster.metastore().places() if p.database == self.name]
        if shards:
            client = SnapshotterClient(node.tcp_addr, timeout_s=10)
            buffer = bytearray(4096)
            with (
                suppress(ShardkeeperError),
                client.open_shard(self.rng.choice(shards), since_ns=FAR_FUTURE_NS) as stream,
            ):
                while stream.recv_into(buffer):
                    pass

    def do_something(self) -> None:
        write = partial(self.write, 60)
        self.rng.choice([write, write, write, self.flush, self.flush, self.trouble, self.trouble])()
        if self.rng.random() < DELETES:
            self.delete()
        if self.rng.random() < 0.3:
            _settle()

    # --- what happens to nodes ----------------------------------------------------------------

    def trouble(self) -> None:
        """Stop a node, or start those that are down; at most one is away."""
        if self.down or self.still:
            self.heal()
            return
        node = self.rng.choice(sorted(self.nodes))
        pause = _command(PAUSE)
        if pause is not None and self.rng.random() < 0.4:
            with self.lock:
                self.still.add(node)
            pause(node)
        elif self.cluster.stop is not None:
            with self.lock:
                self.down.add(node)
            self.cluster.stop(node)

    def heal(self) -> None:
        """Bring all nodes back."""
        resume = _command(RESUME)
        for node in sorted(self.still):
            if resume is not None:
                resume(node)
        for node in sorted(self.down):
            if self.cluster.start is not None:
                self.cluster.start(node)
        with self.lock:
            self.still.clear()
            self.down.clear()
        self.mend()

    def mend(self) -> None:
        """Start nodes that hang anew.

        On influxdb-cluster 1.8.11 a DELETE from a shard of several files may hang for ever, and
        with it the client that asks for the shard (tsm1/engine.go, deleteSeriesRange: it returns
        with seriesKeysLock held).
        """
        for node in sorted(self.up):
            if not _answers(node) and self.cluster.stop and self.cluster.start:
                self.cluster.stop(node)
                self.cluster.start(node)

    # --- backups ------------------------------------------------------------------------------

    def back_up(self, *, busy: bool) -> str:
        """Back up, perhaps while others use it; returns what is wrong, empty if nothing."""
        self.mend()
        over = threading.Event()

        def use() -> None:
            while not over.is_set():
                self.rng.choice([lambda: self.write(20), self.flush, self.flush])()

        with self.lock:
            self.wanted, up = self.known.copy(), self.up
        threads = [threading.Thread(target=use) for _ in range(2 if busy else 0)]
        for thread in threads:
            thread.start()
        try:
            done = _shardkeeper(self.cluster, self.directory, self.name)
            self.code = done.code
        finally:
            over.set()
            for thread in threads:
                thread.join()
        wanted, self.wanted = self.wanted, None
        return checked(self, done, wanted, up)

    def failed_hours(self, done: Done) -> set[int]:
        """Hours of which a shard was named as failed."""
        named = {int(i) for i in re.findall(r"^shard (\d+) failed", done.err + done.out, re.M)}
        return {
            place.group.start_time_ns // 10**9
            for place in self.cluster.metastore().places()
            if place.shard_id in named
        }


def checked(load: Load, done: Done, wanted: Known, up: frozenset[str]) -> str:
    """What is wrong with a backup; empty if nothing."""
    failed = load.failed_hours(done)
    if done.code not in (0, 3) and not failed:
        return f"exit {done.code}: {done.err[-2000:]}"
    if done.code == 3 and not failed:
        return f"exit 3, and no shard is named: {done.err[-2000:]}"
    there = stored(load.directory)
    lost: list[Point] = []
    for point, values in wanted.values.items():
        holders = wanted.holders.get(point, frozenset())
        hour = point[1] - (point[1] - START_S) % HOUR_S
        if holders and holders <= up and hour not in failed and there.get(point) not in values:
            lost.append(point)
    if lost:
        point = lost[0]
        return (
            f"exit {done.code}: {len(lost)} of {len(wanted.values)} acknowledged points are not in "
            f"it; {point} is {there.get(point)}, and was {sorted(wanted.values[point])} on "
            f"{sorted(wanted.holders[point])}; up are {sorted(up)}\n{done.out}\n{done.err}"
        )
    return ""


def stored(directory: Path) -> dict[Point, float]:
    """All points of the newest state of a repository."""
    repository = BackupRepository.open(directory)
    found: dict[Point, float] = {}
    for archive in repository.current().archives.values():
        with UnpackedShard(None) as unpacked, repository.open_archive(archive) as source:
            for chunk in ArchiveReader(source, max_bytes=archive.entry.size_bytes).chunks():
                unpacked.feed(chunk)
            unpacked.finish()
            for series in unpacked.points():
                host = split_key(series.key)[0].decode().rpartition("host=")[2]
                for at, value in zip(series.times.tolist(), list(series.values), strict=True):
                    found[host, at // 10**9] = float(value)
    return found


def campaign(n: int, seed: int, directory: Path, say: Callable[[str], None]) -> int:
    """Make `n` backups; returns how many went wrong."""
    rng, wrong, took = random.Random(seed), 0, 0.0
    codes: dict[int, int] = {}
    with first_cluster(directory / "cluster") as cluster:
        load = None
        for at in range(n):
            if at % BACKUPS_PER_DATABASE == 0:
                if load is not None:
                    load.heal()
                    _settle()
                    cluster.drop(load.name)
                out = directory / f"backups{at}"
                out.mkdir(mode=0o700)
                load = Load(cluster, rng, out)
                load.write(300)
            assert load is not None
            for _ in range(rng.randrange(1, 5)):
                load.do_something()
            began = time.monotonic()
            problem = load.back_up(busy=rng.random() < 0.6)
            took += time.monotonic() - began
            state = "".join(f" {node} is away" for node in sorted(load.down | load.still))
            codes[load.code] = codes.get(load.code, 0) + 1
            say(f"{at + 1}/{n}{state}: exit {load.code}: {problem or 'right'}")
            wrong += bool(problem)
        if load is not None:
            load.heal()
            _settle()
    say(
        f"{n} backups, {wrong} wrong, {took / max(n, 1):.1f} s each; exit statuses {codes}; "
        f"seed {seed}"
    )
    return wrong


def _answers(node: str) -> bool:
    try:
        CoordinatorClient(node, timeout_s=10).list_shards()
    except ShardkeeperError:
        return False
    return True


def _settle() -> None:
    """Nodes hear of each other within two seconds."""
    time.sleep(2)


def _shardkeeper(cluster: AnyCluster, directory: Path, database: str) -> Done:
    """In a process of its own, as two of them share nothing."""
    main = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    argv = [sys.executable, "-c", main, "-bind", cluster.bind, "-timeout", "5s"]
    ran = subprocess.run(
        [*argv, "backup", "-db", database, str(directory)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(ran.returncode, ran.stdout, ran.stderr)


def _command(variable: str) -> Callable[[str], None] | None:
    template = os.environ.get(variable)
    if not template:
        return None

    def run(node: str) -> None:
        words = [word.replace("{}", node) for word in shlex.split(template)]
        subprocess.run(words, check=True, timeout=60)

    return run


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32)
    with tempfile.TemporaryDirectory() as directory:
        wrong = campaign(n, seed, Path(directory), _say)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
