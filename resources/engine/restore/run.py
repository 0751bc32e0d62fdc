"""Carry a restore out: check → create → upload → read back → activate → report.

The recipe is the same for every target; `target.RestoreSteps` says what each step means there and
what undoes it. What protects data is the order of the guards:

1. The target is this run's alone (`begin`), as far as its kind can tell: a cluster's lease.
2. An interrupt that comes when all is there says so (`noting_completion`).
3. Signals wait (`undisturbed`), except while there is something to interrupt (`interruptible`).
   So they end no undoing, and whatever they end is undone.
4. What is created is on record before it is there (`on_record`), so that the next run finds it
   if this one is killed. `complete` is the last thing that can still be undone.

A restore that was killed is gone on with by the same recipe: its steps find what is there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from resources.engine.events import MetaRestored, Warned
from resources.engine.restore.check import CheckedRestore, check_archives, left_out
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.receipt import Receipts
from resources.engine.restore.restored import RestoredShard, RestoreReport, noting_completion
from resources.engine.restore.step_run import RestoreInSteps
from resources.engine.restore.target import KilledRestore, RestoreTarget
from resources.engine.workers.steps import StepSettings
from resources.errors import PeerAway, PeerSilent, ShardHeld
from resources.repository.backup_set import BackupSet
from resources.runtime.interrupts import interruptible, undisturbed


def restore(target: RestoreTarget, backup: BackupSet, options: RestoreOptions) -> RestoreReport:
    """Plan a restore and carry it out; the same one that was killed is gone on with.

    Removes first what a killed restore from this directory has left.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    report = restore_or_leave(target, backup, options, None)
    assert isinstance(report, RestoreReport)  # noqa: S101 - no batch is a step
    return report


def restore_or_leave(
    target: RestoreTarget,
    backup: BackupSet,
    options: RestoreOptions,
    settings: StepSettings | None,
) -> RestoreReport | RestoreInSteps:
    """As `restore`; or leave a large one to other steps when all is created.

    Args:
        settings: when it is left; None: never.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    try:
        with target.killed(backup, options) as killed:
            if killed is not None:
                return _carry_out(target, killed.plan, options, killed, settings)
    except ShardHeld as held:
        text = f"{held.what}; what the killed restore left is taken away, and all begins anew"
        target.run.emit(Warned(text))
        target.run.stop.clear()  # it was set to end that attempt
        try:
            return _restore_anew(target, backup, options, settings)
        except (PeerAway, PeerSilent):
            raise held from None  # it keeps more to itself than that shard
    return _restore_anew(target, backup, options, settings)


def _restore_anew(
    target: RestoreTarget,
    backup: BackupSet,
    options: RestoreOptions,
    settings: StepSettings | None,
) -> RestoreReport | RestoreInSteps:
    target.take_back_interrupted()
    return _carry_out(target, target.plan(backup, options), options, None, settings)


def carry_out(
    target: RestoreTarget,
    plan: RestorePlan,
    options: RestoreOptions,
    killed: KilledRestore | None = None,
) -> RestoreReport:
    """Carry out a plan, or undo what was done of it.

    Every archive is checked before the target is touched. Each replica of each shard is read back
    and compared with what was sent before anyone reads it. If anything fails, what this restore
    created is taken away, and nothing else is.

    Args:
        killed: a killed run of the same plan, which had checked the archives.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    report = _carry_out(target, plan, options, killed, None)
    assert isinstance(report, RestoreReport)  # noqa: S101 - no batch is a step
    return report


def _carry_out(
    target: RestoreTarget,
    plan: RestorePlan,
    options: RestoreOptions,
    killed: KilledRestore | None,
    settings: StepSettings | None,
) -> RestoreReport | RestoreInSteps:
    began, began_ns, run = time.monotonic(), time.time_ns(), target.run
    receipts = Receipts(target.repository, plan, options, emit=run.emit)
    checked = _checked(target, plan, options, killed)
    left: RestoreInSteps | None = None
    shards: Sequence[RestoredShard] = ()
    begin = target.begin if killed is None else killed.begin
    with (
        begin(checked) as steps,
        noting_completion() as is_complete,
        undisturbed(steps.undoing),
        steps.on_record(),
    ):
        creating = time.monotonic()
        try:
            with interruptible():
                n_shards = steps.create()
                if killed is None or killed.contents is None:
                    run.emit(MetaRestored(n_shards, time.monotonic() - creating))
                left = None if settings is None else steps.leave(settings, began_ns)
                if left is None:
                    shards = steps.upload()
                    steps.activate(shards)
            if left is not None:
                return left
            steps.complete()
        except BaseException as error:
            run.stop.set()
            target.connection.resume()
            steps.undo(error)
            raise
        is_complete.set()
        steps.finish()
        path = receipts.keep([(shard.restore, shard.receipts) for shard in shards], steps.facts)
    seconds = time.monotonic() - began
    return RestoreReport(
        plan, tuple(shards), seconds, path, left_out(plan.shards, checked.contents)
    )


def _checked(
    target: RestoreTarget,
    plan: RestorePlan,
    options: RestoreOptions,
    killed: KilledRestore | None,
) -> CheckedRestore:
    """The plan with its archives checked; one that was left to steps has that behind it."""
    repository, run = target.repository, target.run
    if killed is not None and killed.contents is not None:
        return CheckedRestore(
            repository=repository, plan=plan, options=options, contents=killed.contents, run=run
        )
    for note in plan.notes:
        run.emit(Warned(note))
    return check_archives(repository, plan, options, run, checked_before=killed is not None)
