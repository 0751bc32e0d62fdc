"""A restore in three kinds of steps, each of which may be a process of its own on another host.

    plan      checks the archives, creates databases and empty shards; a small restore ends here
    batch     fills the shards of one batch and reads them back; several steps at once, each again
              if its process died
    activate  reads what the batches did, fills what they left, gives the shards their readers,
              and reports

It is the recipe of `resources.engine.restore.run`, which the first and the last of them share: the
last one takes it up after what the first one has created. A batch that fails for good gives the
restore up: it has the others end, and takes back what was created.

docs/decisions/0018-a-restore-in-steps.md says why; held by
tests/resources/engine/test_restore_steps.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import Run, Warned
from resources.engine.restore.as_of import backup_as_of
from resources.engine.restore.batch import BatchFilled, RestoreBatch
from resources.engine.restore.batch_upload import fill_batch
from resources.engine.restore.filling import node_slots
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import carry_out
from resources.engine.restore.step_run import JoinedRestore, joining
from resources.engine.restore_target import lease_again_of, receivers_of, restore_target
from resources.engine.workers.steps import StepSettings, parse_step
from resources.errors import BatchTaken, LockLost, RestoreFailed, ShardkeeperError, StoreFailed
from resources.repository.batches import COMMIT
from resources.repository.repository import BackupRepository
from resources.runtime.interrupts import undisturbed

POLL_S = 1.0


class RestoreGivenUp(RestoreFailed):
    """Another step has given the restore up."""


def batch_step(
    connection: Server | Cluster,
    repository: BackupRepository,
    step: str,
    settings: StepSettings,
    run: Run,
    *,
    is_last: bool = True,
) -> BatchFilled:
    """Do one batch, unless it is done; wait for another process that does it.

    Args:
        connection: to the target.
        step: its name, as `RestoreInSteps` has it.
        is_last: whether no other attempt follows: then the restore is given up with the batch.

    Raises:
        UsageError: there is no such step.
        LockLost, RestoreGivenUp: the restore is over.
        ShardkeeperError: the batch is not done. If another attempt may help and follows, nothing
            else has changed; otherwise what the restore created is taken back, and notes say so.
    """
    _, key = parse_step(step)
    try:
        return _batch(connection, repository, step, settings, run)
    except (LockLost, RestoreGivenUp):
        raise
    except BaseException as error:
        if is_last or not may_pass(error):
            _give_up(connection, repository, key, settings, Run(run.emit), error)
        raise


def activate_step(
    connection: Server | Cluster,
    repository: BackupRepository,
    key: str,
    settings: StepSettings,
    run: Run,
) -> RestoreReport:
    """Activate a restore whose batches are done.

    Args:
        key: of the run, as `RestoreInSteps` has it.

    Raises:
        LockLost: the restore is over, or another run took its place.
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    with joining(repository.store, key, settings) as joined:
        return _finish(connection, repository, joined, run, None)


def _batch(
    connection: Server | Cluster,
    repository: BackupRepository,
    step: str,
    settings: StepSettings,
    run: Run,
) -> BatchFilled:
    name, key = parse_step(step)
    store = repository.store
    with joining(store, key, settings) as joined:
        batches = joined.batches
        batch = RestoreBatch.decode(batches.todo(name), name)
        while (raw := batches.done(name)) is None:
            run.check("the batch was done")
            try:
                with (
                    _going_on(joined, connection, run),
                    lease_again_of(connection, joined.record.number, run),
                    batches.claim(name, ()) as claimed,
                    node_slots(batch.options.per_node) as slots,
                ):
                    if claimed is not None:
                        receivers = receivers_of(connection, store)
                        checked = batch.checked(repository, run)
                        done = fill_batch(receivers, checked, claimed, batch, slots)
                        claimed.finish(done.encode())
                        return done
            except BatchTaken as error:
                run.emit(Warned(str(error)))
                run = Run(run.emit)
                connection.resume()
            run.stop.wait(POLL_S)
        return BatchFilled.decode(raw, name, batch.shards)


@contextmanager
def _going_on(joined: JoinedRestore, connection: Server | Cluster, run: Run) -> Generator[None]:
    """Break off what the block does as soon as the restore is given up, or another's.

    Raises:
        RestoreGivenUp: it is given up.
    """
    done = threading.Event()

    def poll() -> None:
        while not done.wait(POLL_S):
            if _is_over(joined):
                run.stop.set()
                connection.abort()
                return

    _require_going_on(joined)
    thread = threading.Thread(target=poll, name="restore", daemon=True)
    thread.start()
    try:
        yield
    except ShardkeeperError:
        _require_going_on(joined)
        raise
    finally:
        done.set()
        thread.join()


def _is_over(joined: JoinedRestore) -> bool:
    try:
        return joined.batches.given_up() is not None or not joined.stage.is_there()
    except LockLost:
        return True
    except StoreFailed:
        return False  # the next look may succeed


def _require_going_on(joined: JoinedRestore) -> None:
    why = joined.batches.given_up()
    if why is not None:
        raise RestoreGivenUp(
            f"another batch of this restore failed: {why}",
            hint="the step of that batch says what to do; then launch the restore again",
        )


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may not meet the error."""
    return isinstance(error, ShardkeeperError) and (
        error.retryable or isinstance(error, StoreFailed)
    )


def _give_up(
    connection: Server | Cluster,
    repository: BackupRepository,
    key: str,
    settings: StepSettings,
    run: Run,
    error: BaseException,
) -> None:
    """Have all steps of a restore end, and take back what it created; what stays is noted."""
    with undisturbed("taking back what was restored"):
        connection.resume()
        try:
            with joining(repository.store, key, settings) as joined:
                if joined.batches.give_up(str(error) or type(error).__name__):
                    joined.batches.await_others(joined.record.batches)
                    _finish(connection, repository, joined, run, error)
        except LockLost:
            pass  # another run deals with what is there
        except ShardkeeperError as failure:
            if failure is not error:
                error.add_note(f"what it created may be left: {failure}")
                error.add_note("the next restore from here takes it back, or continues it")


def _finish(
    connection: Server | Cluster,
    repository: BackupRepository,
    joined: JoinedRestore,
    run: Run,
    failed: BaseException | None,
) -> RestoreReport:
    """Take the recipe up after what the step that planned has created; one process at a time does.

    Args:
        failed: why it is given up; None: it is completed.
    """
    record, batches = joined.record, joined.batches
    while True:
        run.check("the restore was complete")
        with batches.claim(COMMIT, ()) as claimed:
            if claimed is not None:
                names = record.batches
                planned = {name: RestoreBatch.decode(batches.todo(name), name) for name in names}
                whole = replace(joined, planned=planned, failed=failed)
                target = restore_target(connection, repository, run)
                backup = backup_as_of(repository, record.point)
                with target.left_to_steps(whole, backup) as killed:
                    report = carry_out(target, killed.plan, record.options, killed)
                seconds = max(report.seconds, (time.time_ns() - record.began_ns) / 1e9)
                return replace(report, seconds=seconds)
        run.stop.wait(POLL_S)
