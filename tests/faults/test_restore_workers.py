"""A restore that several processes carry out is that of one, also if they are killed or stopped.

A worker is met while it reads a shard back: the target holds that request until the test lets it
go on.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from resources.clients.connect import open_source
from resources.clients.source_address import Address
from resources.engine.events import Event, Run, ShardRestored, Warned
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import restore
from resources.engine.restore_target import restore_target
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import LEASE_VARIABLE
from tests.expectation import Expectation
from tests.faults.places import SHARDS, Place
from tests.faults.test_workers import WITHIN_S, Reads, is_running, wait_until
from tests.processes import ForkServer
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.wire.commands import shardkeeper
from tests.wire.points import databases, points

pytestmark = pytest.mark.fault(26)


@dataclass
class Restoring:
    """A backup, and the target that it is restored into under another name."""

    expectation: Expectation
    target: DevInfluxd
    flags: Sequence[str]
    address: Address
    reads: Reads

    @property
    def copy(self) -> str:
        return f"copy-of-{self.expectation.database}"

    @property
    def words(self) -> list[object]:
        names = ("-db", self.expectation.database, "-newdb", self.copy)
        shared = ("-parallel", 2, "-workers", 2)
        return ["restore", *self.flags, *names, *shared, self.expectation.backups]

    def check(self) -> None:
        """Insist that all is there, and nothing else is left."""
        assert points(self.target, self.copy) == self.expectation.now()
        assert self.expectation.tidy()

    def claims(self) -> list[int]:
        """The processes that work on a batch."""
        found = set[int]()
        for path in self.expectation.backups.glob(".shardkeeper.fill-*/*.claim"):
            with suppress(FileNotFoundError, ValueError):  # it is being replaced
                found.add(json.loads(path.read_text())["pid"])
        return sorted(found)

    def two_at_work(self) -> list[int]:
        """Two workers that read back what they sent, once they do."""
        wait_until(lambda: self.reads.n_held == 2)
        return self.claims()


ON_BOTH = pytest.mark.parametrize("restoring", ["server", "cluster"], indirect=True)


@pytest.fixture
def restoring(server: Place, cluster: Place, request: pytest.FixtureRequest) -> Iterator[Restoring]:
    """Into a server, unless the test says `ON_BOTH`."""
    expectation = server.expectation()
    expectation.back_up()
    into_server = getattr(request, "param", "server") == "server"
    target = server.target if into_server else cluster.source
    assert isinstance(target, DevInfluxd)
    if into_server:
        flags: Sequence[str] = server.target_flags
        address = Address(host=target.bind_addr, http=f"http://{target.http_addr}")
    else:
        flags = cluster.source_flags
        address = Address(bind=str(flags[1]))
    reads = Reads(target)
    found = Restoring(expectation, target, flags, address, reads)
    yield found
    reads.close()
    if found.copy in databases(target):
        target.drop_database(found.copy)


class InTheBackground:
    """A restore by two workers in a thread of this process."""

    def __init__(self, restoring: Restoring, per_node: int | None = None) -> None:
        self.events: list[Event] = []
        self._ended: list[RestoreReport | BaseException] = []
        repository = BackupRepository.open(str(restoring.expectation.backups))
        options = RestoreOptions(
            Limits(database=restoring.expectation.database),
            restoring.copy,
            parallel=2,
            per_node=per_node,
            workers=2,
        )

        def work() -> None:
            try:
                target = open_source(restoring.address)
                run = Run(self.events.append)
                at = restore_target(target, repository, run)
                self._ended.append(restore(at, repository.current(), options))
            except BaseException as error:  # noqa: BLE001 - `report` raises it
                self._ended.append(error)

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def report(self) -> RestoreReport:
        self._thread.join(WITHIN_S)
        [ended] = self._ended
        if isinstance(ended, BaseException):
            raise ended
        return ended


def count(events: Sequence[Event], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in events)


@ON_BOTH
def test_two_workers_restore_as_one_does(
    restoring: Restoring, capfd: pytest.CaptureFixture[str]
) -> None:
    restoring.reads.hold(2)
    running = InTheBackground(restoring)
    workers = restoring.two_at_work()
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert not any(b"127." in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers)
    restoring.reads.let_go()
    report = running.report()
    assert len(report.shards) == count(running.events, ShardRestored) == SHARDS
    assert not any(map(is_running, workers))
    assert capfd.readouterr().err == ""
    restoring.check()


def test_they_keep_to_the_limit_of_a_node_together(restoring: Restoring) -> None:
    restoring.reads.hold()
    running = InTheBackground(restoring, per_node=1)
    wait_until(lambda: restoring.reads.n_held == 1 and len(restoring.claims()) == 2)
    restoring.reads.let_go()
    assert len(running.report().shards) == SHARDS
    assert restoring.reads.most == 1
    restoring.check()


@pytest.mark.parametrize("n_killed", [1, 2])
def test_the_batch_of_a_worker_that_is_killed_is_done_by_another_process(
    restoring: Restoring, n_killed: int
) -> None:
    restoring.reads.hold(2)
    running = InTheBackground(restoring)
    for pid in restoring.two_at_work()[:n_killed]:
        os.kill(pid, signal.SIGKILL)
    restoring.reads.let_go()
    assert len(running.report().shards) == SHARDS
    warned = [str(event) for event in running.events if isinstance(event, Warned)]
    assert any("this process does the rest" in text for text in warned) == (n_killed == 2)
    restoring.check()


@pytest.mark.fault(37)
def test_a_worker_that_stands_still_past_its_lease_is_ended_before_its_batch_is_done_again(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "2")
    restoring.reads.hold(2)
    running = InTheBackground(restoring)
    sleeper = restoring.two_at_work()[0]
    os.kill(sleeper, signal.SIGSTOP)
    restoring.reads.let_go()
    assert len(running.report().shards) == SHARDS
    assert not is_running(sleeper)
    restoring.check()


@pytest.mark.fault(27)
def test_a_signal_ends_the_workers_and_takes_back_what_they_sent(
    restoring: Restoring, fork_server: ForkServer
) -> None:
    restoring.reads.hold(2)
    run = fork_server.start(*restoring.words)
    workers = restoring.two_at_work()
    run.send(signal.SIGINT)
    wait_until(lambda: not any(map(is_running, workers)))
    restoring.reads.let_go()
    done = run.wait()
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert restoring.copy not in databases(restoring.target)
    assert restoring.expectation.tidy()


def kill_stopped_worker(_run: object, workers: Sequence[int]) -> None:
    os.kill(workers[0], signal.SIGSTOP)


@ON_BOTH
@pytest.mark.parametrize("meanwhile", [None, kill_stopped_worker], ids=["", "one is stopped"])
def test_the_same_restore_goes_on_when_the_run_that_started_the_workers_is_killed(
    restoring: Restoring,
    fork_server: ForkServer,
    meanwhile: Callable[[object, Sequence[int]], None] | None,
) -> None:
    restoring.reads.hold(2)
    run = fork_server.start(*restoring.words)
    workers = restoring.two_at_work()
    if meanwhile is not None:
        meanwhile(run, workers)
    run.kill()
    wait_until(lambda: not any(map(is_running, workers)))
    restoring.reads.let_go()
    again = shardkeeper(*restoring.words)
    assert again, again
    assert f"of {SHARDS} shards" in again.err + again.out
    restoring.check()
