"""`make store N=50 URL=s3://bucket/prefix`: a bucket that fails at random, and runs that die.

    python -m tests.faults.bucket_trouble 50 [seed]

Each round is a backup, a restore, a verification, or two backups at once, of a database of three
shards, through a proxy that answers some requests with 500 or 503, cuts or stalls them, loses
their answers or sends half of them. Some runs are killed or stopped past their lease on the way. A
run that ends with 0 has done everything; every other one has committed its backup or has not. Then
the proxy is quiet: the next backup has to converge, and nothing may be left; every few rounds each
backup that was committed has to come back point for point.

SHARDKEEPER_STORE_URL and the environment lead to a real server that speaks S3; without, a server
in this process is asked. A real influxd is backed up where there is one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from resources.repository.storage.bucket import TIMEOUT_VARIABLE
from resources.repository.storage.lock import LEASE_VARIABLE
from tests.faults.buckets import BucketExpectation, some_bucket
from tests.faults.campaign import run_campaign
from tests.faults.places import Place, dev_server, real_server
from tests.http_proxy import HttpProxy
from tests.processes import ForkServer, Run
from tests.s3_server import Fault
from tests.wire.commands import shardkeeper
from tests.wire.points import databases, points

FAULTS: tuple[Fault, ...] = ("500", "503", "cut", "lost", "half")
RATES = (0.0, 0.03, 0.1, 0.3)
ROUNDS_EACH = 6
"""On one prefix; then all its backups are restored."""
COPY = "x"
LEASE_S = 3.0
DEEDS = ("backup", "backup", "pair", "verify", "restore")


class Trouble:
    """A prefix of a bucket, and the proxy before it."""

    def __init__(self, place: Place, url: str, proxy: HttpProxy, processes: ForkServer) -> None:
        self.expectation = BucketExpectation.at(place, url)
        self._place = place
        self._proxy = proxy
        self._processes = processes
        self.expectation.back_up()

    def round(self, rng: random.Random) -> str:
        """One run or two in trouble, and the next one without; returns what happened."""
        rate, deed = (
            rng.choice(RATES),
            rng.choice(("backup", "backup", "pair", "verify", "restore")),
        )
        stalls = rate < 0.1 and rng.random() < 0.3
        end = rng.choice(("", "", "kill", "stop"))
        faults = random.Random(rng.random())

        def fault(method: str, path: str) -> Fault:
            if stalls and faults.random() < 0.02:
                return "stall"
            return faults.choice(FAULTS) if faults.random() < rate else ""

        if deed in ("backup", "pair"):
            self._place.write(self.expectation, sorted(rng.sample(range(3), 2)))
        self._proxy.fault = fault
        runs = [self._start(deed) for _ in range(2 if deed == "pair" else 1)]
        if end:
            time.sleep(rng.uniform(0.05, 0.9))
            self._disturb(runs[0], end)
        codes = [run.wait().code for run in runs]
        self._proxy.fault = lambda _method, _path: ""
        self._settle(deed, codes)
        return f"{deed} {rate} {'stalls ' if stalls else ''}{end} -> {codes}"

    def _start(self, deed: str) -> Run:
        of = self.expectation
        words: dict[str, tuple[object, ...]] = {
            "verify": ("verify", of.url),
            "restore": self._restore_words(),
        }
        env = {n: v for n, v in os.environ.items() if n.startswith(("AWS", "AZURE"))}
        env |= {"AWS_ENDPOINT_URL": self._proxy.endpoint, TIMEOUT_VARIABLE: "3"}
        env[LEASE_VARIABLE] = str(LEASE_S)
        return self._processes.start(*words.get(deed, self._backup_words()), env=env)

    def _disturb(self, run: Run, end: str) -> None:
        if not run.running:
            return
        if end == "kill":
            run.send(signal.SIGKILL)
            return
        run.send(signal.SIGSTOP)
        time.sleep(LEASE_S + 0.5)
        heir = shardkeeper(*self._backup_words())
        assert heir or heir.code == 11, heir
        run.send(signal.SIGCONT)

    def _backup_words(self) -> tuple[object, ...]:
        of = self.expectation
        return ("backup", *of.flags, "-db", of.database, of.url)

    def _restore_words(self) -> tuple[object, ...]:
        of, target = self.expectation, self._place.target_flags
        return ("restore", *target, "-db", of.database, "-newdb", COPY, of.url)

    def _settle(self, deed: str, codes: list[int]) -> None:
        """Nothing committed is missing, the next run converges, and the last state is there."""
        of = self.expectation
        new = of.committed - set(of.states)
        if deed in ("backup", "pair"):
            assert len(new) >= codes.count(0), (deed, codes, new)
        for name in new:
            of.states[name] = of.now()
        deadline = time.monotonic() + 60
        while not (done := shardkeeper(*self._backup_words())) and done.code == 11:
            assert time.monotonic() < deadline, done
        assert done, done
        for name in of.committed - set(of.states):
            of.states[name] = of.now()
        assert of.committed == set(of.states)
        if deed == "restore":
            self._take_back()
        assert of.tidy(), sorted(of.store.names())

    def _take_back(self) -> None:
        """A restore that was killed goes on, or is taken back, and what it gave is right."""
        of = self.expectation
        target = self._place.target
        was_there = COPY in databases(target)
        done = shardkeeper(*self._restore_words())
        assert done or was_there, done  # it goes on, or is told that the database is there
        assert points(target, COPY) == of.now()
        target.drop_database(COPY)


def lines(directory: Path, n: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    with ExitStack() as stack:
        place = real_server if shutil.which("influxd") else dev_server
        servers = stack.enter_context(place(directory))
        url, _ = stack.enter_context(some_bucket())
        upstream = os.environ.get("AWS_ENDPOINT_URL", "")
        proxy = stack.enter_context(HttpProxy(upstream))
        processes = stack.enter_context(ForkServer())
        done: Counter[str] = Counter()
        trouble: Trouble | None = None
        for number in range(n):
            if trouble is None:
                trouble = Trouble(servers, url, proxy, processes)
            what = trouble.round(rng)
            done[what.split()[0]] += 1
            yield f"{number + 1}/{n} {what}"
            if (number + 1) % ROUNDS_EACH == 0 or number + 1 == n:
                trouble.expectation.check_all()
                yield f"{len(trouble.expectation.states)} backups came back, point for point"
                trouble = None
        yield f"{dict(done)}; faults: {dict(proxy.done)}"


def main() -> int:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    return run_campaign("bucket", seed, lambda directory: lines(directory, n, seed))


if __name__ == "__main__":
    sys.exit(main())
