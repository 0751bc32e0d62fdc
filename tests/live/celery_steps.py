"""Backups in steps on Celery: three workers, a real Redis, and what ends in the middle.

    python -m tests.live.celery_steps

needs redis-server, dagster-celery and redis; without them it says so and does nothing. Each trial
ends in a complete backup or in none, and the run after it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from pipelines.executors import DEFAULTS
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.verify.verify import verify
from resources.model import ShardID
from resources.repository.repository import BackupRepository
from tests.pipelines.harness import configure, launched, write_to

ROOT = Path(__file__).parents[2]
WORKERS, NODES, SHARDS = 3, 3, 9
REDELIVERED_AFTER_S = 20
WITHIN_S = 240.0


def missing() -> str:
    """What is not installed."""
    if shutil.which("redis-server") is None:
        return "redis-server"
    return next((one for one in ("dagster_celery", "redis") if find_spec(one) is None), "")


class Redis:
    """A server on a port of its own; what it has is on disk, as that of a broker should be."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--appendonly", "yes", "--dir", str(self._directory)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("redis-server does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class Worker:
    """A Celery worker, with a process group of its own."""

    def __init__(self, number: int, directory: Path, environment: dict[str, str]) -> None:
        celery = [str(Path(sys.executable).parent / "dagster-celery"), "worker", "start"]
        celery += ["-A", "dagster_celery.app", "-y", str(directory / "celery.yaml")]
        self._log = (directory / f"worker-{number}.log").open("ab")
        self._process = subprocess.Popen(
            [*celery, "-n", f"w{number}-{time.time_ns()}", "--", "--concurrency=1"],
            cwd=ROOT,
            env=environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def has(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self._process.pid
        except ProcessLookupError:
            return False

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


class Trial:
    """A cluster, a repository, Redis and three workers."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.backups = directory / "backups"
        self.backups.mkdir()
        self.cluster = stack.enter_context(EmbeddedCluster(directory / "c", data_nodes=NODES))
        self.cluster.query("CREATE DATABASE telegraf WITH REPLICATION 1")
        self.weeks = 0
        self.redis = Redis(directory)
        self.redis.start()
        stack.callback(self.redis.stop)
        self._configure()
        home = directory / "home"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self.environment = {
            **os.environ,
            "DAGSTER_HOME": str(home),
            "SHARDKEEPER_CONFIG": str(directory / "shardkeeper.yaml"),
            "SHARDKEEPER_LEASE_S": "5",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        os.environ.update(self.environment)
        self.instance = stack.enter_context(dg.DagsterInstance.get())
        self.workers = [Worker(n, directory, self.environment) for n in range(WORKERS)]
        stack.callback(lambda: [worker.kill() for worker in self.workers])

    def _configure(self) -> None:
        url = f"redis://127.0.0.1:{self.redis.port}"
        source = {
            **DEFAULTS["celery"]["config_source"],
            "broker_transport_options": {
                "visibility_timeout": REDELIVERED_AFTER_S,
                "unacked_restore_throttle": 1,
            },
        }
        celery = {"broker": f"{url}/0", "backend": f"{url}/1", "config_source": source}
        (self.directory / "celery.yaml").write_text(
            yaml.safe_dump({"execution": {"config": celery}})
        )
        configure(
            self.directory,
            self.backups,
            {"bind": self.cluster.meta[0].http_addr},
            executor={"kind": "celery", "nodes": NODES, "batch_bytes": 1, "config": celery},
        )

    def write(self) -> None:
        """Make every shard a changed one."""
        self.weeks += 1
        for week in range(SHARDS):
            write_to(self.cluster, week, float(self.weeks))

    def back_up(self) -> tuple[bool, list[Any]]:
        with dg.execute_job(launched("back_up_influxdb"), self.instance) as result:
            return result.success, list(result.all_events)

    def replace(self, worker: Worker) -> None:
        at = self.workers.index(worker)
        self.workers[at] = Worker(at, self.directory, self.environment)

    @contextmanager
    def at_a_read(self, deed: Callable[[int], None]) -> Generator[threading.Event]:
        """Do something once, while a batch reads a shard; it gets the batch's process."""
        done, mutex = threading.Event(), threading.Lock()

        def before(_shard_id: ShardID) -> None:
            with mutex:
                claims = list(self.backups.glob(".shardkeeper.run-*/b*.claim"))
                if not done.is_set() and claims:
                    done.set()
                    deed(json.loads(claims[0].read_text())["pid"])

        for node in self.cluster.data:
            node.snapshotter.faults.before_shard = before
        try:
            yield done
        finally:
            for node in self.cluster.data:
                node.snapshotter.faults.before_shard = None

    def check(self, before: int, *, success: bool) -> None:
        """A backup exists if the run succeeded, and all that exist are whole."""
        found = len(list(self.backups.glob("*.manifest")))
        assert found == before + 1 if success else found in (before, before + 1), found
        if found:
            assert verify(BackupRepository.open(self.backups)).problems == ()


def kill_worker(trial: Trial, pid: int) -> None:
    for worker in list(trial.workers):
        if worker.has(pid):
            worker.kill()
            trial.replace(worker)


def kill_batch(_trial: Trial, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def restart_redis(trial: Trial, _pid: int) -> None:
    trial.redis.stop()
    time.sleep(2)
    trial.redis.start()


TRIALS: dict[str, Callable[[Trial, int], None]] = {
    "nothing happens": lambda _trial, _pid: None,
    "a worker is killed amid a batch": kill_worker,
    "the process of a batch is killed": kill_batch,
    "Redis is restarted amid a batch": restart_redis,
}


def trials(trial: Trial, chosen: str) -> Iterator[str]:
    for name, deed in TRIALS.items():
        if chosen not in name:
            continue
        for what, then in ((name, deed), ("and the next run", None)):
            if then is not None:
                trial.write()
            before = len(list(trial.backups.glob("*.manifest")))
            began = time.monotonic()
            if then is None:
                success, events = trial.back_up()
                assert success
            else:
                with trial.at_a_read(lambda pid, then=then: then(trial, pid)) as done:
                    success, events = trial.back_up()
                assert done.is_set()
            trial.check(before, success=success)
            batches = {e.step_key for e in events if "_copy_node_" in str(e.step_key)}
            yield (
                f"{what}: {'complete' if success else 'failed'}, {len(batches)} batches, "
                f"{time.monotonic() - began:.0f} s"
            )


def main() -> int:
    absent = missing()
    if absent:
        print(f"skipped: {absent} is not installed")  # noqa: T201
        return 0
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        for line in trials(Trial(Path(directory), stack), " ".join(sys.argv[1:])):
            print(line, flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
