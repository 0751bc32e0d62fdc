"""Kill workers of backups and of restores at random; every run must end complete all the same.

    python -m tests.faults.killed_workers [-backups 100] [-restores 50] [-seed 1]

Each run has three workers, of which one, two or all are killed after a random time. It must end
with 0, and what it stored or restored must be, point by point, what the server has. One run in
five is killed itself instead, with its workers; then the next one must converge.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.expectation import Expectation
from tests.faults.places import Place, dev_server
from tests.processes import ForkServer, Run
from tests.wire.points import points

WORKERS = 3
N_SHARDS = 12


def workers_of(parent: int) -> list[int]:
    """The worker processes of a process."""
    found: list[int] = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"import main; main()" in line:
                found.append(pid)
    return found


class Campaign:
    """One place, with a database that grows from run to run."""

    def __init__(self, place: Place, fork_server: ForkServer, rng: random.Random) -> None:
        self._place = place
        self._fork_server = fork_server
        self._rng = rng
        self._longest_s = {"backup": 2.0, "restore": 2.0}
        self.outcomes: Counter[str] = Counter()

    def backup(self, expectation: Expectation) -> None:
        """A backup whose workers are killed; the next run converges if it was killed, too."""
        self._place.write(expectation, range(N_SHARDS))
        flags = ("-db", expectation.database, "-parallel", WORKERS, "-workers", WORKERS)
        words = ["backup", *expectation.flags, *flags, expectation.backups]
        if not self._disturbed(words):
            expectation.take_note()
            expectation.back_up()
        assert expectation.take_note() or expectation.states
        assert expectation.tidy(), list(expectation.backups.iterdir())
        newest = max(expectation.states)
        assert expectation.states[newest] == expectation.now()
        assert expectation.restored(newest) == expectation.now()

    def restore(self, expectation: Expectation) -> None:
        """A restore whose workers are killed; the next run converges if it was killed, too."""
        name = f"copy-{self._rng.randrange(1 << 40):x}"
        names = ("-db", expectation.database, "-newdb", name)
        shared = ("-parallel", WORKERS, "-workers", WORKERS)
        words = ["restore", *self._place.target_flags, *names, *shared, expectation.backups]
        while not self._disturbed(words):
            self.outcomes["restores gone on with"] += 1
        assert points(self._place.target, name) == expectation.now()
        assert expectation.tidy(), list(expectation.backups.iterdir())
        self._place.target.drop_database(name)

    def _disturbed(self, words: list[object]) -> bool:
        """Run a command and kill some of it; False: all of it was killed."""
        command, began = str(words[0]), time.monotonic()
        run = self._fork_server.start(*words)
        time.sleep(self._rng.uniform(0.0, self._longest_s[command]))
        whole = self._rng.random() < 0.2
        killed = self._kill(run, whole)
        if whole and killed:
            run.kill()
            self.outcomes[f"{command}s killed with their workers"] += 1
            return False
        done = run.wait()
        took_s = time.monotonic() - began
        self._longest_s[command] = 0.8 * self._longest_s[command] + 0.2 * took_s
        assert done.code == 0, done
        self.outcomes[f"{command}s, {killed} workers killed"] += 1
        return True

    def _kill(self, run: Run, whole: bool) -> int:
        workers = workers_of(run.pid)
        chosen = (
            workers
            if whole
            else self._rng.sample(workers, min(len(workers), 1 + self._rng.randrange(WORKERS)))
        )
        for pid in chosen:
            os.kill(pid, signal.SIGKILL)
        return len(chosen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-backups", type=int, default=100)
    parser.add_argument("-restores", type=int, default=50)
    parser.add_argument("-seed", type=int, default=1)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        dev_server(Path(directory)) as place,
        ForkServer() as fork_server,
    ):
        campaign = Campaign(place, fork_server, random.Random(chosen.seed))
        expectation = place.expectation()
        for number in range(chosen.backups):
            if number % 20 == 19:
                expectation = place.expectation()
            campaign.backup(expectation)
        for _ in range(chosen.restores):
            campaign.restore(expectation)
        for what, n in sorted(campaign.outcomes.items()):
            sys.stdout.write(f"{n:5} {what}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
