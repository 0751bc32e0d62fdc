"""A backup in steps is that of one process, whichever step is killed, repeated or stands still."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.clients.connect import open_source
from resources.clients.source import BackupSource
from resources.clients.source_address import Address
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.backup.run import BackupReport, back_up
from resources.engine.backup.steps import (
    BackupInSteps,
    batch_step,
    commit_step,
    plan_step,
)
from resources.engine.events import Event, Run, ShardFailed
from resources.engine.options import BackupOptions, Retry
from resources.engine.verify.verify import verify
from resources.engine.workers.steps import StepSettings
from resources.errors import (
    BackupIncomplete,
    ExitCode,
    LockLost,
    PlanError,
    RepositoryLocked,
    ShardkeeperError,
    StoreFailed,
)
from resources.model import ShardID
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import LEASE_VARIABLE, StoreLock
from resources.repository.storage.lock_record import LOCK_NAME
from resources.runtime import failpoints

GAP_S = 600.0
OPTIONS = BackupOptions(retry=Retry(2, 0.01, 0.01))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """Four shards in one copy each, on two nodes."""
    with EmbeddedCluster(tmp_path_factory.mktemp("steps"), data_nodes=2) as cluster:
        cluster.query("CREATE DATABASE telegraf WITH REPLICATION 1")
        for week in range(4):
            at = 1_600_000_000 * 10**9 + week * 7 * 86_400 * 10**9
            cluster.write("telegraf", "\n".join(f"cpu v={i} {at + i}" for i in range(5)))
        yield cluster


class Steps:
    """The steps of one backup, each with a source and a repository of its own."""

    def __init__(self, cluster: EmbeddedCluster, directory: Path) -> None:
        self.directory = directory
        self.events: list[Event] = []
        self._bind = cluster.meta[0].http_addr

    @property
    def source(self) -> BackupSource:
        return open_source(Address(bind=self._bind))

    @property
    def repository(self) -> BackupRepository:
        return BackupRepository.open(self.directory)

    @property
    def run(self) -> Run:
        return Run(self.events.append)

    def plan(self, gap_s: float = GAP_S, options: BackupOptions = OPTIONS) -> BackupInSteps:
        settings = StepSettings(1, gap_s, "test")
        planned = plan_step(self.source, self.repository, options, self.run, settings)
        assert isinstance(planned, BackupInSteps)
        return planned

    def batch(self, step: str, gap_s: float = GAP_S) -> list[str]:
        done = batch_step(
            self.source, self.repository, step, StepSettings(1, gap_s, "test"), self.run
        )
        return [one.kind for one in done.outcomes]

    def batches(self, planned: BackupInSteps) -> None:
        for batch in planned.batches:
            assert set(self.batch(batch.name)) == {"saved"}

    def commit(self, planned: BackupInSteps) -> BackupReport | None:
        backup, key = planned.backup, planned.key
        return commit_step(
            self.source, self.repository, backup, key, StepSettings(1, GAP_S, "test"), self.run
        )

    def in_one(self, **changes: float) -> BackupReport:
        """A whole backup by a process of its own."""
        options = BackupOptions(lock_wait_s=changes.get("wait_s", 0.0), full=True)
        return back_up(self.source, self.repository, options, self.run)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob(".shardkeeper.*"))


@pytest.fixture
def steps(cluster: EmbeddedCluster, tmp_path: Path) -> Steps:
    (tmp_path / "backups").mkdir()
    return Steps(cluster, tmp_path / "backups")


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
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def whole(report: BackupReport | None, steps: Steps) -> None:
    """It is complete and sound, and nothing is left beside it."""
    assert report is not None
    report.check_complete()
    assert len(report.saved) == 4
    assert verify(steps.repository).problems == ()
    assert [name for name in steps.left() if "run" in name or "gone" in name] == []
    assert not (steps.directory / LOCK_NAME).exists()


def test_a_backup_in_steps_is_that_of_one_process(steps: Steps, tmp_path: Path) -> None:
    planned = steps.plan()
    assert [batch.shards for batch in planned.batches] == [1] * 4
    assert {batch.node for batch in planned.batches} == {0, 1}
    steps.batches(planned)
    report = steps.commit(planned)
    whole(report, steps)
    (tmp_path / "other").mkdir()
    steps.directory = tmp_path / "other"
    alone = steps.in_one()
    assert report is not None
    assert report.metastore == alone.metastore
    named = {e.shard_id: e.details.content for e in report.manifest.files if e.details}
    assert named == {e.shard_id: e.details.content for e in alone.manifest.files if e.details}


def test_unchanged_shards_are_so_after_a_backup_in_steps(steps: Steps) -> None:
    planned = steps.plan()
    steps.batches(planned)
    steps.commit(planned)
    settings = StepSettings(1, GAP_S, "test")
    again = plan_step(steps.source, steps.repository, OPTIONS, steps.run, settings)
    assert isinstance(again, BackupReport)
    assert (len(again.saved), len(again.unchanged)) == (0, 4)


def test_a_small_backup_has_one_step(steps: Steps) -> None:
    settings = StepSettings(1 << 30, GAP_S, "test")
    report = plan_step(steps.source, steps.repository, OPTIONS, steps.run, settings)
    assert isinstance(report, BackupReport)
    whole(report, steps)


def test_more_than_a_manifest_can_name_is_refused_before_anything_is_copied(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.engine.backup.run.MAX_COPIED", 2)
    with pytest.raises(PlanError, match="one backup has at most 2") as refused:
        steps.in_one()
    assert "-db" in refused.value.hint
    assert steps.left() == []
    assert list(steps.directory.glob("*.manifest")) == []


def test_between_two_steps_no_other_run_gets_in(steps: Steps) -> None:
    planned = steps.plan()
    for batch in planned.batches:
        with pytest.raises(RepositoryLocked, match="test"):
            steps.in_one()
        steps.batch(batch.name)
    with pytest.raises(RepositoryLocked):
        steps.in_one()
    whole(steps.commit(planned), steps)


@pytest.mark.fault(26)
@pytest.mark.parametrize("at", ["batch-claimed", "shard-stored", "batch-stored", "batch-done"])
def test_a_batch_whose_process_died_is_done_by_another(steps: Steps, at: str) -> None:
    planned = steps.plan()
    first = planned.batches[0].name
    killed(lambda: steps.batch(first), f"backup.{at}")
    steps.batches(planned)
    whole(steps.commit(planned), steps)


@pytest.mark.fault(26)
def test_a_batch_that_is_done_is_not_done_again(steps: Steps) -> None:
    planned = steps.plan()
    steps.batches(planned)
    saved = {path: path.stat().st_ino for path in steps.directory.glob("*.tar.gz")}
    steps.batches(planned)
    assert {path: path.stat().st_ino for path in steps.directory.glob("*.tar.gz")} == saved
    whole(steps.commit(planned), steps)


@pytest.mark.fault(26)
def test_a_commit_waits_for_no_batch_and_may_be_tried_again(steps: Steps) -> None:
    planned = steps.plan()
    for batch in planned.batches[1:]:
        steps.batch(batch.name)
    with pytest.raises(BackupIncomplete, match="was not done"):
        steps.commit(planned)
    assert not list(steps.directory.glob("*.manifest"))
    steps.batch(planned.batches[0].name)
    whole(steps.commit(planned), steps)


@pytest.mark.fault(26)
@pytest.mark.parametrize("at", ["before-commit", "batch-claimed"])
def test_a_commit_whose_process_died_is_done_by_another(steps: Steps, at: str) -> None:
    planned = steps.plan()
    steps.batches(planned)
    killed(lambda: steps.commit(planned), f"backup.{at}")
    whole(steps.commit(planned), steps)


@pytest.mark.fault(26)
def test_a_commit_that_is_done_twice_is_done_once(steps: Steps) -> None:
    planned = steps.plan()
    steps.batches(planned)
    killed(lambda: steps.commit(planned), "backup.after-commit")
    assert steps.commit(planned) is None
    assert steps.commit(planned) is None
    assert not (steps.directory / LOCK_NAME).exists()
    assert verify(steps.repository).problems == ()
    assert len(list(steps.directory.glob("*.manifest"))) == 1


@pytest.mark.fault(26, 37)
def test_a_run_whose_steps_all_died_loses_its_place_by_its_lease(steps: Steps) -> None:
    planned = steps.plan(gap_s=0.2)
    report = steps.in_one(wait_s=10.0)
    whole(report, steps)
    for deed in (lambda: steps.batch(planned.batches[0].name), lambda: steps.commit(planned)):
        with pytest.raises(LockLost):
            deed()
    whole(report, steps)


@pytest.mark.fault(26)
def test_a_plan_whose_process_died_gives_way_at_once(steps: Steps) -> None:
    killed(steps.plan, "backup.batch-planned")
    assert steps.left()
    whole(steps.in_one(), steps)


@pytest.mark.fault(37)
def test_a_batch_that_stood_still_changes_nothing_for_the_next_run(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "0.2")
    planned = steps.plan(gap_s=0.2)
    first = planned.batches[0].name
    pid = in_child(lambda: steps.batch(first, gap_s=0.2), "backup.batch-stored=STOP")
    try:
        os.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGSTOP)  # all its threads, the lock's keeper too
        report = steps.in_one(wait_s=10.0)
    finally:
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == ExitCode.LOCKED
    whole(report, steps)


def test_a_run_of_which_nothing_could_be_copied_is_over(
    steps: Steps, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = steps.plan()

    def refuse(_: ShardID) -> None:
        raise StoreFailed("the disk fails")

    for node in cluster.data:
        monkeypatch.setattr(node.snapshotter.faults, "before_shard", refuse)
    for batch in planned.batches:
        assert steps.batch(batch.name) == ["failed"]
    with pytest.raises(ShardkeeperError):
        steps.commit(planned)
    assert [event for event in steps.events if isinstance(event, ShardFailed)]
    assert not list(steps.directory.iterdir())
    monkeypatch.undo()
    whole(steps.in_one(), steps)


def test_a_failed_step_shortens_the_wait_for_the_next_run(steps: Steps) -> None:
    planned = steps.plan()
    with pytest.raises(BackupIncomplete):
        steps.commit(planned)
    lock = StoreLock.join(steps.repository.store, planned.key, GAP_S)
    assert lock.record.lease_s == GAP_S
    lock.leave()
