"""A restore in steps is that of one process, whichever step is killed, repeated or stands still."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.clients.cluster import Cluster
from resources.clients.connect import open_source
from resources.clients.server import Server
from resources.clients.source_address import Address
from resources.engine.events import Event, RestoreGoesOn, Run, ShardRestored
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import restore, restore_or_leave
from resources.engine.restore.step_run import RestoreInSteps
from resources.engine.restore_steps import RestoreGivenUp, activate_step, batch_step
from resources.engine.restore_target import restore_target
from resources.engine.workers.steps import StepSettings
from resources.errors import (
    ArchiveCorrupt,
    ExitCode,
    LockLost,
    ShardkeeperError,
    StoreFailed,
    TargetBusy,
    TargetNotEmpty,
)
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import LEASE_VARIABLE, give_up_ended
from resources.runtime import failpoints
from tests.expectation import Expectation
from tests.faults.places import SHARDS, Place, dev_cluster, dev_server
from tests.wire.points import databases, points

GAP_S = 600.0
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with dev_server(tmp_path_factory.mktemp("server")) as place:
        yield place


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with dev_cluster(tmp_path_factory.mktemp("cluster")) as place:
        yield place


class Steps:
    """The steps of one restore, each with connections and a repository of its own."""

    def __init__(self, place: Place, expectation: Expectation) -> None:
        self.place, self.expectation = place, expectation
        self.events: list[Event] = []
        self.name = f"copy-of-{expectation.database}"
        self.target = place.source if place.cluster else place.target
        self.options = RestoreOptions(Limits(database=expectation.database), self.name)

    @property
    def connection(self) -> Server | Cluster:
        if self.place.cluster:
            return open_source(Address(bind=str(self.place.source_flags[1])))
        http = f"http://{self.target.http_addr}"
        return open_source(Address(host=self.target.bind_addr, http=http))

    @property
    def repository(self) -> BackupRepository:
        return BackupRepository.open(self.expectation.backups)

    @property
    def run(self) -> Run:
        return Run(self.events.append)

    def settings(self, batch_bytes: int = 1, gap_s: float = GAP_S) -> StepSettings:
        return StepSettings(batch_bytes, gap_s, "test")

    def planned(self, settings: StepSettings) -> RestoreReport | RestoreInSteps:
        repository = self.repository
        at = restore_target(self.connection, repository, self.run)
        return restore_or_leave(at, repository.current(), self.options, settings)

    def plan(self, gap_s: float = GAP_S) -> RestoreInSteps:
        planned = self.planned(self.settings(gap_s=gap_s))
        assert isinstance(planned, RestoreInSteps)
        assert len(planned.batches) == SHARDS
        return planned

    def batch(self, step: str, *, is_last: bool = True) -> None:
        settings = self.settings()
        done = batch_step(
            self.connection, self.repository, step, settings, self.run, is_last=is_last
        )
        assert [one.away for one in done.shards] == [None]

    def batches(self, planned: RestoreInSteps) -> None:
        for batch in planned.batches:
            self.batch(batch.name)

    def activate(self, planned: RestoreInSteps) -> RestoreReport:
        settings = self.settings()
        return activate_step(self.connection, self.repository, planned.key, settings, self.run)

    def in_one(self) -> RestoreReport:
        """The whole restore by a process of its own."""
        repository = self.repository
        at = restore_target(self.connection, repository, self.run)
        return restore(at, repository.current(), self.options)

    def end_of_run(self) -> None:
        """Dagster says that the run has ended."""
        give_up_ended(self.repository.store, lambda command: command == "test")

    def whole(self, report: RestoreReport) -> None:
        """It is complete, and nothing is left beside it."""
        assert len(report.shards) == SHARDS
        assert points(self.target, self.name) == self.expectation.now()
        assert self.expectation.tidy()
        assert Path(report.receipt_path).exists()

    def nothing_left(self) -> None:
        assert self.name not in databases(self.target)
        assert self.expectation.tidy()

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@pytest.fixture(params=["server", "cluster"])
def steps(request: pytest.FixtureRequest) -> Iterator[Steps]:
    place: Place = request.getfixturevalue(request.param)
    if place.cluster is not None:
        for node in place.cluster.meta:
            node.leases.forget()  # else the last test's directory would be waited for
    expectation = place.expectation()
    expectation.back_up()
    made = Steps(place, expectation)
    yield made
    if made.name in databases(made.target):
        made.target.drop_database(made.name)


def in_child(deed: Callable[[], object], at: str) -> int:
    """Do something in a process of its own, with a failpoint; its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            failpoints._request.cache_clear()  # type: ignore[attr-defined]
            os.environ[failpoints.VARIABLE] = at
            deed()
        except ShardkeeperError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    return pid


def killed(deed: Callable[[], object], at: str) -> None:
    """Do something in a process of its own that dies at a failpoint."""
    _, status = os.waitpid(in_child(deed, at), 0)
    assert os.waitstatus_to_exitcode(status) == KILLED


def test_a_restore_in_steps_is_that_of_one_process(steps: Steps) -> None:
    planned = steps.plan()
    assert [batch.shards for batch in planned.batches] == [1] * SHARDS
    assert all(batch.bytes > 0 for batch in planned.batches)
    steps.batches(planned)
    assert steps.count(ShardRestored) == SHARDS
    steps.whole(steps.activate(planned))


def test_a_small_restore_has_one_step(steps: Steps) -> None:
    report = steps.planned(steps.settings(batch_bytes=1 << 30))
    assert isinstance(report, RestoreReport)
    steps.whole(report)


def test_between_two_steps_no_other_restore_from_there_gets_in(steps: Steps) -> None:
    planned = steps.plan()
    for batch in planned.batches:
        with pytest.raises((TargetBusy, TargetNotEmpty)):
            steps.in_one()
        steps.batch(batch.name)
    with pytest.raises((TargetBusy, TargetNotEmpty)):
        steps.in_one()
    steps.whole(steps.activate(planned))


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    "at", ["backup.batch-claimed", "restore.uploaded", "restore.read-back", "backup.batch-done"]
)
def test_a_batch_whose_process_died_is_done_by_another(steps: Steps, at: str) -> None:
    planned = steps.plan()
    killed(lambda: steps.batch(planned.batches[0].name), at)
    steps.batches(planned)
    steps.whole(steps.activate(planned))


@pytest.mark.fault(26)
def test_a_batch_that_is_done_is_not_done_again(steps: Steps) -> None:
    planned = steps.plan()
    steps.batches(planned)
    steps.batches(planned)
    assert steps.count(ShardRestored) == SHARDS
    steps.whole(steps.activate(planned))


@pytest.mark.fault(26)
@pytest.mark.parametrize("at", ["backup.batch-claimed", "last"])
def test_an_activation_whose_process_died_is_done_by_another(steps: Steps, at: str) -> None:
    planned = steps.plan()
    steps.batches(planned)
    last = "cluster.after-adoption" if steps.place.cluster else "restore.before-complete"
    killed(lambda: steps.activate(planned), last if at == "last" else at)
    steps.whole(steps.activate(planned))


@pytest.mark.fault(26, 63)
def test_the_next_restore_goes_on_when_the_run_has_ended_in_the_middle(steps: Steps) -> None:
    """What its batches have proved is not sent again."""
    planned = steps.plan()
    steps.batch(planned.batches[0].name)
    killed(lambda: steps.batch(planned.batches[1].name), "restore.uploaded")
    steps.end_of_run()
    steps.events.clear()
    report = steps.in_one()
    [went_on] = [event for event in steps.events if isinstance(event, RestoreGoesOn)]
    assert went_on.done == 1
    steps.whole(report)
    for deed in (lambda: steps.batch(planned.batches[2].name), lambda: steps.activate(planned)):
        with pytest.raises(LockLost):
            deed()
    steps.whole(report)


@pytest.mark.fault(26, 63)
def test_a_plan_whose_process_died_is_gone_on_with_at_once(steps: Steps) -> None:
    killed(steps.plan, "backup.batch-planned")
    planned = steps.plan()
    steps.batches(planned)
    report = steps.activate(planned)
    assert points(steps.target, steps.name) == steps.expectation.now()
    steps.whole(report)


def refusing(monkeypatch: pytest.MonkeyPatch, error: ShardkeeperError) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("resources.engine.restore_steps.fill_batch", refuse)


@pytest.mark.fault(26)
def test_a_batch_that_fails_for_good_takes_back_what_was_created(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = steps.plan()
    steps.batch(planned.batches[0].name)
    with monkeypatch.context() as patched:
        refusing(patched, ArchiveCorrupt("the archive is damaged"))
        with pytest.raises(ArchiveCorrupt, match="is damaged"):
            steps.batch(planned.batches[1].name, is_last=False)
    steps.nothing_left()
    for deed in (lambda: steps.batch(planned.batches[2].name), lambda: steps.activate(planned)):
        with pytest.raises(LockLost, match="is over"):
            deed()
    steps.whole(steps.in_one())


@pytest.mark.fault(26)
def test_a_batch_whose_error_may_pass_is_tried_again_before_all_is_taken_back(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = steps.plan()
    first, second, third = (batch.name for batch in planned.batches)
    steps.batch(first)
    with monkeypatch.context() as patched:
        refusing(patched, StoreFailed("the disk fails"))
        with pytest.raises(StoreFailed):
            steps.batch(second, is_last=False)
    steps.batch(second)
    with monkeypatch.context() as patched:
        refusing(patched, StoreFailed("the disk fails"))
        with pytest.raises(StoreFailed):
            steps.batch(third)
    steps.nothing_left()


@pytest.mark.fault(27)
def test_an_interrupted_batch_takes_back_what_was_created(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = steps.plan()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resources.engine.restore_steps.fill_batch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        steps.batch(planned.batches[0].name, is_last=False)
    steps.nothing_left()


@pytest.mark.fault(37)
def test_a_batch_that_stood_still_changes_nothing_once_the_restore_is_given_up(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "1")
    planned = steps.plan()
    pid = in_child(lambda: steps.batch(planned.batches[0].name), "restore.uploaded=STOP")
    try:
        os.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGSTOP)  # all its threads, the lock's keeper too
        with monkeypatch.context() as patched:
            refusing(patched, ArchiveCorrupt("the archive is damaged"))
            with pytest.raises(ArchiveCorrupt):
                steps.batch(planned.batches[1].name)
    finally:
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == ExitCode.LOCKED
    steps.nothing_left()


@pytest.mark.fault(26)
def test_batches_beside_one_that_fails_end_and_say_why(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = steps.plan()
    store = steps.repository.store
    with_records = f".shardkeeper.fill-{planned.key}"
    assert (steps.expectation.backups / with_records / "plan").exists()
    killed(
        lambda: give_up(steps, planned, monkeypatch),
        "cluster.before-rollback" if steps.place.cluster else "restore.before-rollback",
    )
    with pytest.raises(RestoreGivenUp, match="is damaged"):
        steps.batch(planned.batches[1].name)
    give_up_ended(store, lambda command: command == "test")
    steps.whole(steps.in_one())


def give_up(steps: Steps, planned: RestoreInSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, ArchiveCorrupt("the archive is damaged"))
    steps.batch(planned.batches[0].name)
