"""A restore whose batches are steps: what is on record of it, and how a step joins it.

The records of its batches are in a stage of the repository, as for workers, and beside them what
the step has to know that activates. The stage is named after the run's lock, which the step that
plans hands over: on a single server the one beside the restore's record, on a cluster one of its
own. A step that finds no such stage, or another lock, belongs to a restore that is over.

docs/decisions/0018-a-restore-in-steps.md says why.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import TypeVar

from msgspec import Struct, field

from resources.engine.restore.batch import BatchFilled, RestoreBatch, ToFill
from resources.engine.restore.check import ArchiveContents, CheckedRestore
from resources.engine.restore.identity import identity_of
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.receipt import Receipt
from resources.engine.workers.records import decode_record, encode_record
from resources.engine.workers.steps import BatchStep, StepSettings, batch_steps
from resources.errors import (
    LockLost,
    RepositoryError,
    RestoreFailed,
    ShardkeeperError,
    StoreFailed,
)
from resources.model import ShardID
from resources.repository.batches import RunBatches
from resources.repository.storage.lock import KEY_LENGTH, StoreLock, usual_lease_s
from resources.repository.storage.lock_record import LockRecord
from resources.repository.storage.store import Stage, Store
from resources.runtime.interrupts import interruptible, undisturbed

Context = TypeVar("Context")


class RestoreInSteps(Struct, frozen=True):
    """A restore that has created everything, and leaves the rest to other steps.

    Attributes:
        key: by which the step that activates finds the run.
        batches: the largest first.
    """

    key: str
    batches: tuple[BatchStep, ...]


class StepsRecord(Struct, frozen=True):
    """What the step has to know that activates; shards are in the batches.

    Attributes:
        lock: the name of the lock's record.
        point: the restore point.
        batches: their names.
        began_ns: when the restore began, since the epoch.
        number: under which the run holds the cluster's lease; 0: it needs none.
    """

    lock: str
    point: str
    options: RestoreOptions
    batches: tuple[str, ...]
    began_ns: int
    number: int = 0

    @classmethod
    def of(
        cls,
        checked: CheckedRestore,
        lock: StoreLock,
        batches: Iterable[str],
        began_ns: int,
        number: int = 0,
    ) -> StepsRecord:
        """The record of a restore whose batches are planned."""
        name, _ = lock.held_as
        point = checked.plan.backup.newest.file_name.removesuffix(".manifest")
        return cls(name, point, checked.options, tuple(batches), began_ns, number)

    def encode(self) -> bytes:
        return encode_record(self)

    @classmethod
    def decode(cls, raw: bytes) -> StepsRecord:
        """Read the record.

        Raises:
            ManifestUnreadable: it is none.
        """
        return decode_record(raw, cls, "the plan on record")


class JoinedRestore(Struct, frozen=True):
    """A restore that a step works for.

    Attributes:
        lock: of the run; it is renewed while the step is at work.
        stage: of its records, and of the parts of those who work on it.
        planned: the batches, by name; only the step that activates reads them.
        failed: why the restore is given up; None: it is completed.
    """

    store: Store
    record: StepsRecord
    lock: StoreLock
    stage: Stage
    batches: RunBatches
    planned: Mapping[str, RestoreBatch] = field(default_factory=dict[str, RestoreBatch])
    failed: BaseException | None = None

    @property
    def contents(self) -> dict[ShardID, ArchiveContents]:
        """Of all archives, by shard of the backup."""
        return {i: found for batch in self.planned.values() for i, found in batch.contents.items()}

    def end(self) -> None:
        """The restore is over: no step of it does anything from now on."""
        self.lock.goes_on = False
        self.stage.close()
        self.lock.release()


@contextmanager
def joining(store: Store, key: str, settings: StepSettings) -> Generator[JoinedRestore]:
    """Work for a restore that was left to steps, for the block.

    If the block fails, it is not likely that the run goes on, so the next one has to wait for a
    usual lease only.

    Args:
        key: of the run, as `RestoreInSteps` has it.

    Raises:
        LockLost: the run is over, or another one took its place.
    """
    with undisturbed("leaving the restore to its other steps"):
        try:
            stage = store.stage_left(key)
            batches = RunBatches(store, stage, "", set())
        except LockLost:
            raise over() from None
        with closing(batches):
            record = StepsRecord.decode(batches.plan())
            try:
                lock = StoreLock.join(
                    store, key, settings.gap_s, name=record.lock, command=settings.command
                )
            except LockLost:
                raise over() from None
            try:
                with interruptible():
                    yield JoinedRestore(store, record, lock, stage, batches)
            except BaseException:
                lock.leave(usual_lease_s())
                raise
            lock.leave()


@contextmanager
def ending(
    joined: JoinedRestore | None, begun: AbstractContextManager[Context]
) -> Generator[Context]:
    """Enter a block; when it has ended, however it did, the restore of a step is over.

    Args:
        joined: None: no step works for it.
    """
    entered = False
    try:
        with begun as found:
            entered = True
            yield found
    finally:
        if joined is not None and entered:
            joined.end()


def leave_batches(
    store: Store,
    planned: Mapping[str, RestoreBatch],
    lock: StoreLock,
    settings: StepSettings,
    record: StepsRecord,
) -> RestoreInSteps | None:
    """Put on record what other steps do, and hand the lock over; None: there is no room for it.

    Raises:
        LockLost: another run took the place of this one.
        StoreFailed: the records could not be written.
    """
    try:
        stage = store.stage_of_restore(lock.key)
    except StoreFailed:
        return None
    try:
        with closing(RunBatches(store, stage, "", set())) as batches:
            for name, batch in planned.items():
                batches.add(name, batch.encode())
            batches.add_plan(record.encode())
        key = lock.hand_over(settings.gap_s, settings.command)
    except BaseException:
        stage.close()
        raise
    steps = {name: batch.shards for name, batch in planned.items()}
    return RestoreInSteps(key, batch_steps(steps, key, _size))


def _size(item: ToFill) -> int:
    return item.size_bytes


def require_same(plan: RestorePlan, options: RestoreOptions, identity: str) -> None:
    """Require that a plan that was made anew is that of the restore.

    Raises:
        RestoreFailed: it is not.
    """
    if identity_of(plan, options) != identity:
        raise RestoreFailed(
            "the backups that this restore was planned from have changed since",
            hint="launch it again from its start; what this one created is taken back then",
        )


def over() -> LockLost:
    """The error of a step whose run is over."""
    return LockLost(
        "the restore that this step belongs to is over, or another run took its place",
        hint="launch it again from its start",
    )


def proofs_left(store: Store, stale: LockRecord | None) -> Mapping[ShardID, tuple[Receipt, ...]]:
    """What the steps of a dead run have proved, by the number of the shard on the target.

    A run that takes the place of one in steps asks before it closes that one's records. What they
    say decides nothing: the target's own figures must agree, as with all that a killed run proved.

    Args:
        stale: the lock of the run, as `StoreLock.stale` has it.
    """
    found: dict[ShardID, tuple[Receipt, ...]] = {}
    if stale is None:
        return found
    with suppress(RepositoryError):
        stage = store.stage_left(stale.token[:KEY_LENGTH])
        with closing(RunBatches(store, stage, "", set())) as batches:
            for name in StepsRecord.decode(batches.plan()).batches:
                with suppress(ShardkeeperError):
                    found |= _proofs(batches, name)
    return found


def _proofs(batches: RunBatches, name: str) -> dict[ShardID, tuple[Receipt, ...]]:
    raw = batches.done(name)
    if raw is None:
        return {}
    batch = RestoreBatch.decode(batches.todo(name), name)
    numbers = {item.shard_id: item.new_id for item in batch.shards}
    filled = BatchFilled.decode(raw, name, batch.shards).shards
    return {numbers[one.shard_id]: tuple(one.receipts.values()) for one in filled}


def close_records(store: Store, stale: LockRecord | None) -> None:
    """Take away the records of a dead run in steps; from then on none of its steps does anything.

    Args:
        stale: as `proofs_left`.
    """
    if stale is not None:
        with suppress(StoreFailed):
            store.stage_left(stale.token[:KEY_LENGTH]).close()
