"""A backup that several processes copy is that of one, also if they are killed or stand still.

A worker is met while it reads a shard: the embedded server holds that request until the test lets
it go on.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.clients.connect import open_source
from resources.clients.source_address import Address
from resources.engine.backup.run import BackupReport, back_up
from resources.engine.events import Event, Run, ShardSaved, Warned
from resources.engine.options import BackupOptions
from resources.model import ShardID
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import LEASE_VARIABLE
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.processes import ForkServer
from tests.resources.embedded.dev_influxd import DevInfluxd

pytestmark = pytest.mark.fault(26)

SHARDS = 3
MARK = b"resources.engine.backup.worker"
WITHIN_S = 60.0


def workers_of(parent: int) -> list[int]:
    """The worker processes of a process."""
    found: list[int] = []
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            if MARK in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Reads:
    """The reads of shards at a server: how many at once, and which is held."""

    def __init__(self, server: DevInfluxd) -> None:
        self._faults = server.node.snapshotter.faults
        self._mutex = threading.Lock()
        self.held = threading.Event()
        self._go_on = threading.Event()
        self._hold_left = 0
        self.at_once = self.most = self.n_held = 0
        self._faults.before_shard = self._before

    def hold(self, number: int = 1) -> None:
        """Hold the next reads until `let_go`."""
        self._hold_left = number

    def let_go(self) -> None:
        self._go_on.set()

    def close(self) -> None:
        self._faults.before_shard = None
        self.let_go()

    def _before(self, _shard_id: ShardID) -> None:
        with self._mutex:
            holding = self._hold_left > 0
            self._hold_left -= 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        try:
            if holding:
                self.n_held += 1
                self.held.set()
                self._go_on.wait(WITHIN_S)
        finally:
            with self._mutex:
                self.at_once -= 1


@pytest.fixture
def expectation(server: Place) -> Expectation:
    return server.expectation()


@pytest.fixture
def reads(server: Place) -> Iterator[Reads]:
    assert isinstance(server.source, DevInfluxd)
    reads = Reads(server.source)
    yield reads
    reads.close()


class InTheBackground:
    """A backup by two workers in a thread of this process."""

    def __init__(self, expectation: Expectation, per_node: int | None = None) -> None:
        self.events: list[Event] = []
        self._ended: list[BackupReport | BaseException] = []
        source = expectation.source
        at = Address(host=source.bind_addr, http=f"http://{source.http_addr}")
        repository = BackupRepository.open(str(expectation.backups))
        limits = Limits(database=expectation.database)
        chosen = BackupOptions(limits=limits, parallel=2, per_node=per_node, workers=2)

        def work() -> None:
            try:
                run = Run(self.events.append)
                self._ended.append(back_up(open_source(at), repository, chosen, run))
            except BaseException as error:  # noqa: BLE001 - `report` raises it
                self._ended.append(error)

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def report(self) -> BackupReport:
        self._thread.join(WITHIN_S)
        [ended] = self._ended
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def claims(expectation: Expectation) -> dict[str, int]:
    """The batches that are claimed, and the processes that claim them."""
    found: dict[str, int] = {}
    for path in expectation.backups.glob(".shardkeeper.run-*/*.claim"):
        try:
            found[path.name] = json.loads(path.read_text())["pid"]
        except (FileNotFoundError, ValueError):  # it is being replaced
            continue
    return found


def two_at_work(expectation: Expectation) -> list[int]:
    """Two workers that hold a batch each, once they do."""
    wait_until(lambda: len(set(claims(expectation).values())) == 2)
    return sorted(set(claims(expectation).values()))


@pytest.mark.parametrize(("per_node", "at_once"), [(None, 2), (1, 1)])
def test_two_workers_make_the_backup_of_one_within_the_limit_of_its_node(
    expectation: Expectation,
    reads: Reads,
    capfd: pytest.CaptureFixture[str],
    per_node: int | None,
    at_once: int,
) -> None:
    reads.hold()
    running = InTheBackground(expectation, per_node)
    workers = two_at_work(expectation)
    assert workers == sorted(workers_of(os.getpid()))
    assert not any(b"http" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers)
    if per_node is None:
        wait_until(lambda: reads.most == 2)
    reads.let_go()
    report = running.report()
    assert (len(report.saved), report.failed) == (SHARDS, ())
    assert len(running.of(ShardSaved)) == SHARDS
    assert reads.most == at_once
    assert workers_of(os.getpid()) == []
    assert capfd.readouterr().err == ""
    assert expectation.take_note()
    assert expectation.tidy()
    expectation.check_all()


@pytest.mark.parametrize("n_killed", [1, 2])
def test_the_batch_of_a_worker_that_is_killed_is_done_by_another_process(
    expectation: Expectation, reads: Reads, n_killed: int
) -> None:
    reads.hold(2)
    running = InTheBackground(expectation)
    for pid in two_at_work(expectation)[:n_killed]:
        os.kill(pid, signal.SIGKILL)
    reads.let_go()
    report = running.report()
    assert (len(report.saved), report.failed) == (SHARDS, ())
    warnings = [str(event) for event in running.of(Warned)]
    assert any("this process does the rest" in text for text in warnings) == (n_killed == 2)
    assert expectation.take_note()
    assert expectation.tidy()
    expectation.check_all()


@pytest.mark.fault(37)
def test_a_worker_that_stands_still_past_its_lease_changes_nothing_when_it_wakes_up(
    expectation: Expectation, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "2")
    reads.hold(2)
    running = InTheBackground(expectation)
    sleeper = two_at_work(expectation)[0]
    os.kill(sleeper, signal.SIGSTOP)
    reads.let_go()
    wait_until(lambda: sleeper not in claims(expectation).values())
    os.kill(sleeper, signal.SIGCONT)
    report = running.report()
    assert (len(report.saved), report.failed) == (SHARDS, ())
    assert expectation.take_note()
    assert expectation.tidy()
    expectation.check_all()


@pytest.mark.fault(27)
@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGINT, signal.SIGTERM]])
def test_a_signal_ends_the_workers_and_takes_back_what_they_stored(
    expectation: Expectation, reads: Reads, fork_server: ForkServer, signals: list[signal.Signals]
) -> None:
    reads.hold(2)
    run = fork_server.start(*by_two(expectation))
    workers = two_at_work(expectation)
    for number in signals:
        run.send(number)
    done = run.wait()
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert not any(map(is_running, workers))
    assert not expectation.take_note()
    assert expectation.tidy()


def test_workers_end_when_the_run_that_started_them_is_killed(
    expectation: Expectation, reads: Reads, fork_server: ForkServer
) -> None:
    reads.hold(2)
    run = fork_server.start(*by_two(expectation))
    workers = two_at_work(expectation)
    run.kill()
    wait_until(lambda: not any(map(is_running, workers)))
    reads.let_go()
    assert not expectation.take_note()
    expectation.back_up()
    assert expectation.tidy()
    expectation.check_all()


def by_two(expectation: Expectation) -> list[object]:
    flags = ("-db", expectation.database, "-parallel", 2, "-workers", 2)
    return ["backup", *expectation.flags, *flags, expectation.backups]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
