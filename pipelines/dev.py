"""`make dev`: Dagster's UI with a cluster that receives points, and another one to restore into.

With a `shardkeeper.yaml` (or the file that SHARDKEEPER_CONFIG names) it has the clusters of that
file. Without one, it starts two embedded clusters below `.devcluster` and keeps writing readings
into the first. Clusters and backups stay there for the next time, Dagster's records in
`.dagster_home`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from pipelines.services import HOST, ROOT, Services
from resources.config.embedded import BACKUPS_DIRECTORY, DIRECTORY, SOURCE
from resources.config.reading import FILE, Reading, configuration_path, read_sound
from resources.config.values import EMBEDDED, Configuration
from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.listener import AddressTaken
from resources.embedded.ports import Ports
from resources.embedded.sample_data import fill, write_batch
from resources.embedded.server import EmbeddedServer
from resources.errors import ShardkeeperError, counted
from resources.repository.storage.places import is_bucket

HOME = Path(".dagster_home")
OFTEN_S, SELDOM_S = 20.0, 300.0
"""Seconds between batches: often while a user is likely to watch, seldom when it runs overnight."""
OFTEN_FOR = 30
FIRST_BACKUP_WITHIN_S = 120.0
POLL_S = 0.2


def main() -> int:
    """Run until a signal comes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.dev")
    parser.add_argument("--port", type=int, default=3000, help="port of the UI (3000)")
    asked = parser.parse_args()
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    here = Path.cwd()
    try:
        path = configuration_path(os.environ, here)
        reading = read_sound(path)
        configuration = reading.configuration
        _say(f"clusters      {_named(path, here, configuration)}")
        _warn(reading)
        with ExitStack() as stack:
            _require_free(asked.port)
            clusters = _start_embedded(configuration, stack)
            if path.is_dir():
                (here / BACKUPS_DIRECTORY).mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(_Writing(clusters[SOURCE], here / BACKUPS_DIRECTORY))
            _serve(here, asked.port, stack, stopping, embedded=path.is_dir())
    except ShardkeeperError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n" if error.hint else f"{error}\n")
        return error.exit_code
    return 0


def _serve(
    here: Path, port: int, stack: ExitStack, stopping: threading.Event, *, embedded: bool
) -> None:
    home = here / HOME
    home.mkdir(exist_ok=True)
    instance = home / "dagster.yaml"
    instance.unlink(missing_ok=True)
    instance.symlink_to(ROOT / "dagster.yaml")
    _say("Dagster       starting")
    services = stack.enter_context(Services(home, here, port=port))
    _say(f"Dagster       {services.url} (its log: {HOME}/services)")
    if embedded:
        _say(f"              open Lineage: every {OFTEN_S:.0f} s readings come in, and a shard of")
        _say(f"              {SOURCE} turns stale and is backed up")
    _say("              Ctrl-C stops everything; clusters and backups stay")
    while not stopping.wait(POLL_S):
        services.check()
    _say("stopping")


def _start_embedded(configuration: Configuration, stack: ExitStack) -> dict[str, EmbeddedCluster]:
    """Start every configured embedded cluster or server in this process."""
    started: dict[str, EmbeddedCluster] = {}
    for name, cluster in configuration.clusters.items():
        if cluster.embedded is None:
            continue
        ports = Ports.read(cluster.embedded)
        if ports is not None and not ports.meta:
            server = stack.enter_context(EmbeddedServer(cluster.embedded))
            _say(f"{name:<13} runs in this process, one server, {server.http_addr}")
            continue
        data_nodes = len(ports.data) if ports else 2 if name == EMBEDDED else 3
        made = EmbeddedCluster(cluster.embedded, len(ports.meta) if ports else 1, data_nodes)
        started[name] = stack.enter_context(made)
        what = "empty at first, restores go here" if name == EMBEDDED else "backed up"
        _say(f"{name:<13} runs in this process, {counted(data_nodes, 'data node')}; {what}")
        _say(f"{'':<13} -bind {made.meta[0].http_addr}, queries: http://{made.data[0].http_addr}")
    return started


class _Writing:
    """Keeps writing readings into the source, from a thread.

    It starts as soon as there is a backup that the first readings make stale.
    """

    def __init__(self, cluster: EmbeddedCluster, backups: Path) -> None:
        self._cluster = cluster
        self._backups = backups
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._write, name="readings", daemon=True)

    def __enter__(self) -> _Writing:
        fill(self._cluster, time.time_ns())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _write(self) -> None:
        deadline = time.monotonic() + FIRST_BACKUP_WITHIN_S
        while not any(self._backups.glob("*.manifest")) and time.monotonic() < deadline:
            if self._enough.wait(POLL_S):
                return
        number = 0
        while not self._enough.is_set():
            write_batch(self._cluster, number, time.time_ns())
            number += 1
            self._enough.wait(OFTEN_S if number < OFTEN_FOR else SELDOM_S)


def _named(path: Path, here: Path, configuration: Configuration) -> str:
    if path.is_dir():
        return f"embedded ones in {DIRECTORY}; a {FILE} here would name yours"
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{', '.join(configuration.backed_up)}, from {shown}"


def _warn(reading: Reading) -> None:
    """Warn of problems that would otherwise show only in the UI, or when a backup fails."""
    for problem in reading.problems:
        what = "left out" if problem.cluster else "wrong"
        _say(f"  {what:<12}{problem.error.what}")
    for name, cluster in reading.configuration.backed_up.items():
        directory = reading.configuration.repositories[cluster.repository].path
        if cluster.embedded is None and not (is_bucket(directory) or Path(directory).is_dir()):
            _say(f"  {name:<12}{directory} is not there: mkdir -m 700 {directory}, or mount it")
        for secret in (cluster.password, cluster.secret):
            try:
                _ = secret.read() if secret else None
            except ShardkeeperError as error:
                _say(f"  {name:<12}{error}")


def _require_free(port: int) -> None:
    """Require a free port now, instead of an error in a log after half a minute.

    Raises:
        AddressTaken: the port is in use.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            raise AddressTaken(
                f"port {port} is not available: {error.strerror}",
                hint="is make dev running already? Another port: make dev PORT=3001",
            ) from None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
