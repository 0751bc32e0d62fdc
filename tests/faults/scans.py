"""`make looks N=100 M=50`: what looks and backups cost a source, and what they leave there.

    PATH=<directory of an influxd>:$PATH python -m tests.faults.scans 100 50

A server of twelve shards is looked at, as sensors do, and backed up, while one shard in turn gets a
point now and then. Every request is counted on its way, and before and after the files, the open
file handles and the mapped files of the server. Nothing of these may be left, no request count may
grow, and no meta node may be asked for what can freeze it.

With `BIND=` a real cluster is looked at, all of whose nodes' files are below `FILES=`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from resources.clients.address import AddressMap
from resources.clients.connect import open_source
from resources.clients.meta_nodes import meta_addresses
from resources.clients.source_address import Address
from resources.engine.backup.poll import ChangePoller, fingerprint
from resources.engine.options import BackupOptions
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests.influxd import Influxd
from tests.wire.any_cluster import AnyCluster, first_cluster
from tests.wire.commands import Done, shardkeeper

T0, WEEK, SHARDS = 1_600_041_600, 604_800, 12
CHANGE_EVERY = 10
FORBIDDEN = ("GET /status", "GET /peers")
FILES = "SHARDKEEPER_WIRE_FILES"
WINDOW = 10
"""How many runs at each end are compared."""


@dataclass
class Counting:
    """Ways to servers on which requests are counted."""

    requests: Counter[str] = field(default_factory=Counter[str])
    ways: list[str] = field(default_factory=list[str])
    listeners: list[socket.socket] = field(default_factory=list[socket.socket])

    def way(self, address: str, name: str) -> str:
        """Where to connect to instead of an address."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners.append(listener)
        host, _, port = address.rpartition(":")
        upstream = host, int(port)
        threading.Thread(target=self._accept, args=(listener, upstream, name), daemon=True).start()
        here = f"127.0.0.1:{listener.getsockname()[1]}"
        self.ways.append(f"{address}={here}")
        return here

    def close(self) -> None:
        for listener in self.listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket, upstream: tuple[str, int], name: str) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(upstream)
            for pair in ((client, server, name), (server, client, "")):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, come: socket.socket, go: socket.socket, name: str) -> None:
        head = b""
        with suppress(OSError):
            while data := come.recv(65_536):
                if name:
                    if not head or head[:1] not in b"\x02\x03":
                        self.requests[f"{name} {_kind(data)}"] += 1
                    head = head or data
                go.sendall(data)
        with suppress(OSError):
            go.shutdown(socket.SHUT_WR)


def _kind(data: bytes) -> str:
    """What a request is: a path, or the type of a message on port 8088."""
    if data[:1] in b"\x02\x03":
        return f"message {data[0]}.{data[1] if len(data) > 1 else '?'}"
    return data.split(b"?")[0].split(b" HTTP")[0][:40].decode("latin-1")


@dataclass
class Source:
    """What is looked at."""

    flags: list[str]
    address: Address
    write: Callable[[int], None]
    counting: Counting
    files: Path
    pids: list[int]

    def left(self) -> Counter[str]:
        """What is there by kind: temporary files, handles of files, mapped files that are gone."""
        found = Counter[str]()
        for _, directories, names in os.walk(self.files):
            found["*.tmp"] += sum(name.endswith(".tmp") for name in (*directories, *names))
        for pid in self.pids:
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    found["handles of deleted files"] += str(handle.readlink()).endswith(
                        "(deleted)"
                    )
            maps = Path(f"/proc/{pid}/maps").read_text()
            found["mapped deleted files"] += maps.count("(deleted)")
        return found


@contextmanager
def a_server(directory: Path) -> Generator[Source]:
    """The influxd that comes first in PATH, behind a way that counts."""
    counting = Counting()
    with Influxd(directory) as server, ExitStack() as stack:
        stack.callback(counting.close)
        server.create_database("m")

        def write(n: int) -> None:
            server.write("m", f"cpu v={n} {(T0 + n % SHARDS * WEEK + n) * 10**9}")

        for n in range(SHARDS):
            write(n)
        server.flush("m")
        tcp = counting.way(server.bind_addr, "8088")
        http = counting.way(server.http_addr, "8086")
        flags = ["-host", tcp, "-http", f"http://{http}"]
        address = Address(host=tcp, http=f"http://{http}")
        yield Source(flags, address, write, counting, directory, [_pid(server.bind_addr)])


@contextmanager
def a_cluster(directory: Path) -> Generator[Source]:
    """The real cluster that is named, all of its nodes behind ways that count."""
    counting = Counting()
    with first_cluster(directory) as cluster, ExitStack() as stack:
        stack.callback(counting.close)
        name = cluster.fresh()
        cluster.query(
            f'CREATE DATABASE "{name}" WITH DURATION INF REPLICATION 2 SHARD DURATION 1w NAME rp'
        )

        def write(n: int) -> None:
            cluster.write(name, f"cpu v={n} {T0 + n % SHARDS * WEEK + n}")

        for n in range(SHARDS):
            write(n)
        time.sleep(3)
        _count_all(cluster, counting)
        files = Path(os.environ[FILES])
        flags = ["-bind", cluster.bind, *(word for way in counting.ways for word in ("-map", way))]
        address = Address(bind=cluster.bind, route=AddressMap.parse(counting.ways))
        pids = [int(path.read_text()) for path in files.glob("*/pid")]
        yield Source(flags, address, write, counting, files, pids)


def _count_all(cluster: AnyCluster, counting: Counting) -> None:
    now = cluster.metastore()
    for meta in meta_addresses(now.meta_nodes):
        counting.way(str(meta), "8091")
    for node in now.data_nodes:
        counting.way(node.tcp_addr, "8088")
        counting.way(node.addr, "8086")


def _pid(address: str) -> int:
    """Of the process that listens there."""
    port = address.rpartition(":")[2]
    output = subprocess.run(
        ["/usr/bin/env", "ss", "-Hltnp", f"sport = :{port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return int(output.partition("pid=")[2].partition(",")[0])


def campaign(
    source: Source, polls: int, backups: int, out: Path, say: Callable[[str], None]
) -> int:
    """Run both; returns how many things are wrong."""
    out.mkdir(mode=0o700)
    before, wrong = source.left(), 0
    say(f"before: {dict(before)}")
    counts: list[Counter[str]] = []
    for n in range(backups):
        if n % CHANGE_EVERY == CHANGE_EVERY - 1:
            source.write(SHARDS + n)
            time.sleep(2)
        done, count = _counted(source, lambda: shardkeeper(*source.flags, "backup", out))
        assert isinstance(done, Done)
        wrong += done.code not in (0,)
        if done.code:
            say(f"WRONG: backup {n}: exit {done.code}: {done.err[-500:]}")
        counts.append(count)
    wrong += _checked("backup", counts, say)
    counts.clear()
    repository = BackupRepository.open(out)
    poller = ChangePoller(ManifestCache(repository))
    options = BackupOptions(peek=True, internal=False)

    def scan() -> None:
        opened = open_source(source.address)
        seen = fingerprint(opened, internal=False)
        poller.poll(opened, seen, options, emit=lambda _: None)

    for _ in range(polls):
        counts.append(_counted(source, scan)[1])
    wrong += _checked("look", counts, say)
    time.sleep(1)
    after = source.left()
    say(f"after: {dict(after)}")
    for what in after:
        if after[what] > before[what]:
            wrong += 1
            say(f"WRONG: {after[what] - before[what]} {what} are left")
    asked = [name for name in source.counting.requests if any(bad in name for bad in FORBIDDEN)]
    if asked:
        wrong += 1
        say(f"WRONG: asked {asked}")
    return wrong


def _counted(source: Source, do: Callable[[], object]) -> tuple[object, Counter[str]]:
    before = Counter(source.counting.requests)
    done = do()
    time.sleep(0.02)
    return done, source.counting.requests - before


def _checked(what: str, counts: list[Counter[str]], say: Callable[[str], None]) -> int:
    """Say what one costs; 1 if it has grown."""
    first, last = (_average(part) for part in (counts[1 : 1 + WINDOW], counts[-WINDOW:]))
    names = ", ".join(f"{name} {n:.1f}" for name, n in sorted(last.items()))
    grown = sum(last.values()) > 1.2 * sum(first.values()) + 1
    say(
        f"{len(counts)} {what}s: {sum(first.values()):.1f} requests each at the beginning, "
        f"{sum(last.values()):.1f} at the end ({names})"
    )
    if grown:
        say(f"WRONG: a {what} costs more and more")
    return int(grown)


def _average(counts: list[Counter[str]]) -> Mapping[str, float]:
    total = sum(counts, Counter[str]())
    return {name: n / len(counts) for name, n in total.items()}


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    polls, backups = (int(text) for text in [*sys.argv[1:3], "100", "50"][:2])
    with tempfile.TemporaryDirectory() as directory:
        a_source = a_cluster if "SHARDKEEPER_WIRE_BIND" in os.environ else a_server
        with a_source(Path(directory) / "source") as source:
            wrong = campaign(source, polls, backups, Path(directory) / "backups", _say)
    _say(f"{backups} backups and {polls} looks: {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
