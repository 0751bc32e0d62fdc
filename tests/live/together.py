"""Two runs of Dagster on two hosts, and commands, at one repository at once: one works, all end.

    python -m tests.live.together [ROUNDS]

One host is this machine. The other has another name, another boot and other clocks (see
`tests.faults.second_host`), and a Dagster of its own with the multiprocess executor; both back
up in steps. Meanwhile `shardkeeper backup` is run over and over. Whenever a data node is asked
for a shard, at most one run has a stage in the repository, and it is the one whose token the lock
has; no run comes back once another had the lock. Each run of Dagster ends, complete, and so does
each command, complete or with the status of a busy repository. Needs root and unshare(1).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from resources.embedded.cluster import EmbeddedCluster
from resources.engine.verify.verify import verify
from resources.model import ShardID
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock_record import LOCK_NAME
from tests.faults.second_host import SecondHost, is_possible
from tests.pipelines.harness import configure, write_to

ROOT = Path(__file__).parents[2]
SHARDKEEPER = Path(sys.executable).parent / "shardkeeper"
SHARDS = 9
BUSY = 11
WITHIN_S = 600.0
DAGSTER = """
import dagster as dg
from tests.pipelines.harness import launched
with dg.DagsterInstance.get() as instance:
    with dg.execute_job(launched("back_up_influxdb"), instance) as result:
        raise SystemExit(not result.success)
"""
EXECUTORS = {
    "here": {"kind": "in_process", "nodes": 3, "batch_bytes": 1},
    "there": {"kind": "multiprocess", "nodes": 3, "batch_bytes": 1},
}


class Turns:
    """What is in the repository whenever a node is asked for a shard."""

    def __init__(self, cluster: EmbeddedCluster, backups: Path) -> None:
        self._backups = backups
        self._mutex = threading.Lock()
        self.tokens: list[str] = []
        self.wrong: list[str] = []
        for node in cluster.data:
            node.snapshotter.faults.before_shard = self._check

    def _check(self, _shard_id: ShardID) -> None:
        time.sleep(0.2)  # so long a node needs for it
        before = self._token()
        stages = sorted(path.name for path in self._backups.glob(".shardkeeper.run-*.*"))
        token = self._token()
        with self._mutex:
            if token:
                self.tokens.append(token)
            if len(stages) > 1:
                self.wrong.append(f"two are at work: {stages}")
            if token == before and stages and token not in stages[0]:
                self.wrong.append(f"the lock has {token}, the stage is {stages[0]}")

    def _token(self) -> str:
        """The lock's; empty where no run holds it, as while a run scans what there is to do."""
        try:
            return str(json.loads((self._backups / LOCK_NAME).read_text())["token"])
        except FileNotFoundError:
            return ""


class Round:
    """All at once, over shards that change all the time."""

    def __init__(self, directory: Path, cluster: EmbeddedCluster, backups: Path) -> None:
        self._directory = directory
        self._cluster = cluster
        self._backups = backups
        self._value = 0.0
        self.outcomes: Counter[str] = Counter()

    def run(self, host: SecondHost) -> None:
        self._change()
        before = self._manifests()
        runs = {where: self._dagster(where, host) for where in EXECUTORS}
        made, deadline = 0, time.monotonic() + WITHIN_S
        while any(run.poll() is None for run in runs.values()):
            assert time.monotonic() < deadline, "a run waits for ever"
            made += self._command()
            self._change()
        for where, run in runs.items():
            assert run.wait() == 0, (where, (self._directory / f"{where}.log").read_text()[-3000:])
            self.outcomes[f"runs of Dagster {where}, complete"] += 1
        found = self._manifests() - before
        assert found == made + len(runs), (found, made)
        assert verify(BackupRepository.open(self._backups)).problems == ()
        assert not list(self._backups.glob(".shardkeeper.*run*"))
        assert not (self._backups / LOCK_NAME).exists()

    def _change(self) -> None:
        self._value += 1.0
        for week in range(SHARDS):
            write_to(self._cluster, week, self._value)

    def _manifests(self) -> int:
        return len(list(self._backups.glob("*.manifest")))

    def _command(self) -> int:
        address = self._cluster.meta[0].http_addr
        done = subprocess.run(
            [SHARDKEEPER, "-bind", address, "backup", self._backups],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode in (0, BUSY), done
        self.outcomes["commands complete" if done.returncode == 0 else "commands refused"] += 1
        return done.returncode == 0

    def _dagster(self, where: str, host: SecondHost) -> subprocess.Popen[bytes]:
        own = self._directory / where
        program: list[str] = [sys.executable, "-c", DAGSTER]
        if where == "there":
            program = host.elsewhere(program)
        with (self._directory / f"{where}.log").open("wb") as log:
            return subprocess.Popen(
                program, cwd=ROOT, env=_environment(own), stdout=log, stderr=log
            )


def _environment(own: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        "DAGSTER_HOME": str(own),
        "SHARDKEEPER_CONFIG": str(own / "shardkeeper.yaml"),
        "SHARDKEEPER_LEASE_S": "10",
    }


def main() -> int:
    if not is_possible():
        sys.stdout.write("skipped: needs root and unshare\n")
        return 0
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        backups = directory / "backups"
        cluster = stack.enter_context(EmbeddedCluster(directory / "c", data_nodes=3))
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 1")
        for where, executor in EXECUTORS.items():
            (directory / where).mkdir()
            (directory / where / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
            bind = {"bind": cluster.meta[0].http_addr}
            configure(directory / where, backups, bind, executor=executor)
        backups.mkdir(mode=0o700)
        os.environ["SHARDKEEPER_LEASE_S"] = "10"
        turns = Turns(cluster, backups)
        host = stack.enter_context(SecondHost(random.Random(1)))
        round_ = Round(directory, cluster, backups)
        for number in range(rounds):
            began = time.monotonic()
            round_.run(host)
            took_s = time.monotonic() - began
            sys.stdout.write(f"round {number + 1} of {rounds}: {took_s:.0f} s\n")
            sys.stdout.flush()
        assert not turns.wrong, turns.wrong
        changes = sum(a != b for a, b in zip(turns.tokens, turns.tokens[1:], strict=False)) + 1
        assert changes == len(set(turns.tokens)), "two runs read in turn"
        for what, n in sorted(round_.outcomes.items()):
            sys.stdout.write(f"{n:5} {what}\n")
        sys.stdout.write(
            f"{len(turns.tokens):5} shards read, by {changes} runs one after another\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
