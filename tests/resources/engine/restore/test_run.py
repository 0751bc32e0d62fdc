"""The recipe of a restore: the order of its steps and guards, and what an error at each does."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.clients.server import Server
from resources.clients.snapshotter import SnapshotterClient
from resources.engine.events import Event, MetaRestored, Run, Warned
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.receipt import TargetFacts
from resources.engine.restore.restored import RestoredShard, RestoreReport
from resources.engine.restore.run import carry_out, restore, restore_or_leave
from resources.engine.restore.step_run import JoinedRestore, RestoreInSteps
from resources.engine.restore.target import KilledRestore, NotOurs, Placement, RestoreTarget
from resources.engine.restore.target_state import TargetState
from resources.engine.workers.steps import StepSettings
from resources.errors import PeerSilent, RestoreFailed, ShardHeld, ShardkeeperError
from resources.model import Metastore, ShardID
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import DirectoryStore
from resources.runtime import interrupts
from tests.builders import backup_set, metastore

STEPS = ["begin", "on record", "create", "upload", "activate", "complete", "finish"]
WITHOUT_RECEIPT = RestoreOptions(receipts=False)
PLAN = RestorePlan(backup_set(), b"", metastore(), notes=("one user is left out",))


class Notebook:
    """A kind of target of its own: it has room for no shard, and notes what it is asked for.

    Args:
        fails: the steps that raise this error, each once.
    """

    def __init__(self, directory: Path, fails: dict[str, BaseException] | None = None) -> None:
        self.events: list[Event] = []
        self.connection = Server(SnapshotterClient("127.0.0.1:1"), None)
        self.repository = BackupRepository(DirectoryStore.make(directory), str(directory))
        self.run = Run(self.events.append)
        self.facts = TargetFacts("server", "127.0.0.1:1", "", 5)
        self.undoing = "tearing the page out"
        self.done: list[str] = []
        self.undone: list[BaseException] = []
        self.left: RestorePlan | None = None
        self._fails = fails or {}

    def _step(self, name: str) -> None:
        self.done.append(name)
        if name in self._fails:
            raise self._fails.pop(name)

    def state(self) -> TargetState:
        return TargetState("notebook", metastore(), 0)

    def plan(
        self, backup: BackupSet, options: RestoreOptions, state: TargetState | None = None
    ) -> RestorePlan:
        self._step("plan")
        return PLAN

    def placement(
        self, plan: RestorePlan, options: RestoreOptions, state: TargetState, *, possible: bool
    ) -> Placement:
        return Placement()

    @contextmanager
    def killed(self, backup: BackupSet, options: RestoreOptions) -> Generator[KilledRestore | None]:
        yield None if self.left is None else KilledRestore(self.left, self.begin)

    @contextmanager
    def left_to_steps(self, joined: JoinedRestore, backup: BackupSet) -> Generator[KilledRestore]:
        yield KilledRestore(PLAN, self.begin, joined.contents)

    def take_back_interrupted(self) -> None:
        self._step("take back")

    def more_than_sent(
        self, now: Metastore, sent: Mapping[ShardID, Collection[FileID]]
    ) -> NotOurs | None:
        raise NotImplementedError  # a restore does not ask; a merge does

    @contextmanager
    def begin(self, checked: CheckedRestore) -> Generator[Notebook]:
        self._step("begin")
        yield self
        self.done.append("end")

    @contextmanager
    def on_record(self) -> Generator[None]:
        self._step("on record")
        yield

    def create(self) -> int:
        self._step("create")
        return 0

    def leave(self, settings: StepSettings, began_ns: int) -> RestoreInSteps | None:
        self._step("leave")
        return RestoreInSteps("k", ()) if settings.batch_bytes == 1 else None

    def upload(self) -> list[RestoredShard]:
        self._step("upload")
        return []

    def activate(self, shards: Sequence[RestoredShard]) -> None:
        self._step("activate")

    def complete(self) -> None:
        self._step("complete")

    def finish(self) -> None:
        self._step("finish")

    def undo(self, error: BaseException) -> None:
        assert self.run.stop.is_set()  # its threads have ended
        self.done.append("undo")
        self.undone.append(error)


def test_the_steps_come_in_their_order(tmp_path: Path) -> None:
    target: RestoreTarget = Notebook(tmp_path / "r")
    notebook = Notebook(tmp_path / "s")
    assert carry_out(target, PLAN, WITHOUT_RECEIPT).shards == ()
    report = carry_out(notebook, PLAN, RestoreOptions())
    assert notebook.done == [*STEPS, "end"]
    assert report.receipt_path.startswith(str(tmp_path / "s"))
    assert Warned("one user is left out") in notebook.events
    assert [event for event in notebook.events if isinstance(event, MetaRestored)]


def test_what_is_left_to_other_steps_is_neither_sent_nor_undone(tmp_path: Path) -> None:
    target = Notebook(tmp_path / "r")
    settings = StepSettings(1, 1.0, "test")
    left = restore_or_leave(target, backup_set(), WITHOUT_RECEIPT, settings)
    assert isinstance(left, RestoreInSteps)
    upload = STEPS.index("upload")
    assert target.done == ["take back", "plan", *STEPS[:upload], "leave", "end"]
    small = Notebook(tmp_path / "s")
    report = restore_or_leave(
        small, backup_set(), WITHOUT_RECEIPT, replace(settings, batch_bytes=2)
    )
    assert isinstance(report, RestoreReport)
    assert small.done == ["take back", "plan", *STEPS[:upload], "leave", *STEPS[upload:], "end"]


def test_what_was_left_is_taken_up_without_another_look_at_its_archives(tmp_path: Path) -> None:
    target = Notebook(tmp_path / "r")
    carry_out(target, PLAN, WITHOUT_RECEIPT, KilledRestore(PLAN, target.begin, {}))
    assert target.done == [*STEPS, "end"]
    assert Warned("one user is left out") not in target.events  # the first step has said it


@pytest.mark.parametrize("where", ["create", "upload", "activate", "complete"])
@pytest.mark.parametrize("error", [RestoreFailed("no room"), KeyboardInterrupt()])
def test_whatever_ends_a_step_is_undone_once(
    tmp_path: Path, where: str, error: BaseException
) -> None:
    target = Notebook(tmp_path / "r", {where: error})
    with pytest.raises(type(error)) as caught:
        carry_out(target, PLAN, WITHOUT_RECEIPT)
    assert caught.value is error
    assert target.undone == [error]
    assert target.done == [*STEPS[: STEPS.index(where) + 1], "undo"]


@pytest.mark.parametrize("where", ["begin", "on record"])
def test_before_anything_is_created_there_is_nothing_to_undo(tmp_path: Path, where: str) -> None:
    target = Notebook(tmp_path / "r", {where: RestoreFailed("busy")})
    with pytest.raises(RestoreFailed):
        carry_out(target, PLAN, WITHOUT_RECEIPT)
    assert target.undone == []


def test_once_all_is_there_it_stays(tmp_path: Path) -> None:
    target = Notebook(tmp_path / "r", {"finish": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt) as caught:
        carry_out(target, PLAN, WITHOUT_RECEIPT)
    assert target.undone == []
    assert caught.value.__notes__ == ["everything is restored all the same, and stays"]


def test_signals_wait_except_in_what_can_be_interrupted(tmp_path: Path) -> None:
    modes: dict[str, str] = {}

    class Asked(Notebook):
        def _step(self, name: str) -> None:
            modes[name] = interrupts._signals.mode
            super()._step(name)

        def undo(self, error: BaseException) -> None:
            modes["undo"] = interrupts._signals.mode
            super().undo(error)

    with pytest.raises(RestoreFailed):
        carry_out(Asked(tmp_path / "r", {"complete": RestoreFailed("")}), PLAN, WITHOUT_RECEIPT)
    carry_out(Asked(tmp_path / "s"), PLAN, WITHOUT_RECEIPT)
    interruptible = {name for name, mode in modes.items() if mode == "interruptible"}
    assert interruptible == {"create", "upload", "activate"}
    assert modes["begin"] == "outside"
    assert {modes[name] for name in ("on record", "complete", "finish", "undo")} == {"undisturbed"}


def test_a_killed_restore_is_gone_on_with_by_the_same_steps(tmp_path: Path) -> None:
    target = Notebook(tmp_path / "r")
    target.left = PLAN
    restore(target, backup_set(), WITHOUT_RECEIPT)
    assert target.done == [*STEPS, "end"]  # nothing is taken back or planned


def test_a_shard_that_something_else_holds_has_all_begin_anew(tmp_path: Path) -> None:
    target = Notebook(tmp_path / "r", {"upload": ShardHeld("shard 7 is held")})
    target.left = PLAN
    restore(target, backup_set(), WITHOUT_RECEIPT)
    first = [*STEPS[: STEPS.index("upload") + 1], "undo"]
    assert target.done == [*first, "take back", "plan", *STEPS, "end"]
    assert not target.run.stop.is_set()


def test_a_server_that_says_nothing_more_leaves_the_error_of_the_shard_that_it_keeps(
    tmp_path: Path,
) -> None:
    held = ShardHeld("shard 7 is held")
    target = Notebook(tmp_path / "r", {"upload": held, "take back": PeerSilent("no answer")})
    target.left = PLAN
    with pytest.raises(ShardHeld) as caught:
        restore(target, backup_set(), WITHOUT_RECEIPT)
    assert caught.value is held


def test_an_error_of_the_undoing_is_raised_in_its_place(tmp_path: Path) -> None:
    class Lost(Notebook):
        def undo(self, error: BaseException) -> None:
            raise ShardkeeperError("another run took its place") from error

    with pytest.raises(ShardkeeperError, match="took its place"):
        carry_out(Lost(tmp_path / "r", {"create": RestoreFailed("")}), PLAN, WITHOUT_RECEIPT)
