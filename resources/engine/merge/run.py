"""Merge a backup into a live database: restore beside it, copy, look for every point, drop.

A merge that was killed goes on where it was when it is started again: the journal says how far
it got, and everything it does may be done twice.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.restore import prepare_cluster_restore
from resources.engine.cluster.rollback import undo_interrupted
from resources.engine.events import MergeBegun, Tell, Warned
from resources.engine.merge.doors import Doors
from resources.engine.merge.groups import GroupCopier, GroupsCopied
from resources.engine.merge.journal import MergeJournal, MergeJournalFile, request_of
from resources.engine.merge.plan import TEMPORARY, MergeOptions, MergePlan, plan_merge
from resources.engine.merge.temporary import TemporaryDatabase
from resources.engine.restore.run import RestoreReport, prepare_restore
from resources.errors import (
    MergePartial,
    NothingMatches,
    RestoreFailed,
    StoreFailed,
    TargetBusy,
    WireError,
    shown,
)
from resources.repository.backup_set import BackupSet
from resources.repository.lock import StoreLock
from resources.repository.repository import BackupRepository

GO_ON = "the same command goes on from there; merge -abandon drops it"


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did.

    Attributes:
        temporary: the database that was copied from; it is gone again.
        into: the live database.
        backup: the newest manifest that was merged.
        points: restored points, each found in the live database with its value.
        added, replaced: of these, by this run: those that were not there before, and those
            that had another value.
        expired: restored points that the live policy does not keep any more.
        groups: shard groups that this run copied.
        resumed: whether an earlier run had begun it.
        restored: how the temporary database was made; None if an earlier run did.
    """

    temporary: str
    into: str
    backup: str
    points: int
    added: int
    replaced: int
    expired: int
    groups: int
    resumed: bool
    restored: RestoreReport | None
    seconds: float


def prepare_merge(
    target: Server | Cluster, repository: BackupRepository, options: MergeOptions
) -> MergePlan:
    """Plan a merge against the target as it is now; nothing is changed.

    Raises: what `plan_merge` and `plan_restore` raise, and errors of reading the backup or the
        target.
    """
    options.check()
    backup = _backup(repository, options)
    beside = options.restore_options(TEMPORARY + secrets.token_hex(6))
    if isinstance(target, Cluster):
        restoring = prepare_cluster_restore(target, repository, backup, beside)
    else:
        restoring = prepare_restore(target, repository, backup, beside)
    return plan_merge(
        restoring,
        target.metastore()[1],
        options,
        now_ns=_clock_ns(target),
        target_name=target.address,
    )


def merge(
    target: Server | Cluster,
    repository: BackupRepository,
    options: MergeOptions,
    *,
    tell: Tell,
    stop: threading.Event | None = None,
) -> MergeReport:
    """Merge a backed-up database into a live one.

    Where both have a value for the same series, field and time, the backup's stays. If a merge
    of the same was interrupted, this one goes on with it, and with the backup that it read.

    Raises:
        MergePartial: some points could not be merged; they are in the temporary database.
        TargetBusy: an unfinished merge of something else is there, or one is at work.
        ShardkeeperError: the merge failed; its notes say how to go on.
    """
    began = time.monotonic()
    options.check()
    stop = stop or threading.Event()
    doors = Doors(target, tell=tell, stop=stop)
    doors.check_live(target, options.database)
    with _alone(repository, tell):
        run = _Merge(target, repository, options, doors, tell, stop)
        try:
            return run.run(began)
        except BaseException as error:
            run.add_note(error)
            raise


def abandon_merge(
    target: Server | Cluster,
    repository: BackupRepository,
    *,
    tell: Tell,
    stop: threading.Event | None = None,
) -> str:
    """Drop the temporary database of an unfinished merge; what it copied stays.

    Returns its name.

    Raises:
        NothingMatches: there is no unfinished merge.
        ShardkeeperError: it could not be dropped.
    """
    stop = stop or threading.Event()
    doors = Doors(target, tell=tell, stop=stop)
    with _alone(repository, tell):
        file = MergeJournalFile(repository.store, target.metastore()[1].cluster_id)
        journal = file.read()
        if journal is None:
            raise NothingMatches(
                f"no merge into {target.address} was left unfinished by {repository.location}"
            )
        TemporaryDatabase(
            journal.temporary, target, repository, doors, tell=tell, stop=stop
        ).clear_away()
        file.remove()
    return journal.temporary


class _Merge:
    """One run, step by step."""

    def __init__(
        self,
        target: Server | Cluster,
        repository: BackupRepository,
        options: MergeOptions,
        doors: Doors,
        tell: Tell,
        stop: threading.Event,
    ) -> None:
        self._target = target
        self._repository = repository
        self._options = options
        self._doors = doors
        self._tell = tell
        self._stop = stop
        self._file = MergeJournalFile(repository.store, target.metastore()[1].cluster_id)
        self._journal: MergeJournal | None = None
        self._restored: RestoreReport | None = None
        self._in_memory = False

    def run(self, began: float) -> MergeReport:
        journal = self._earlier()
        resumed = journal is not None
        if journal is None:
            journal = self._restore()
        shards = journal.shards or ()
        copied = GroupsCopied()
        if not journal.complete:
            self._doors.await_owners(self._target, journal.temporary)
            self._doors.check_shards(self._target, journal.temporary, shards)
            self._tell(MergeBegun(journal.temporary, journal.into, resumed))
            copied = self._copy(journal)
            journal = copied.journal or journal
            if journal.failed:
                # Something will be mended, and perhaps dropped; so the next run looks at all.
                self._note(replace(journal, copied=None, failed=(), points=0))
                raise _partial(journal, copied.lost)
            self._note(replace(journal, complete=True))
        self._temporary(journal.temporary).drop(shards)
        self._forget()
        return MergeReport(
            temporary=journal.temporary,
            into=journal.into,
            backup=journal.backup,
            points=journal.points,
            added=copied.added,
            replaced=copied.replaced,
            expired=copied.expired,
            groups=copied.groups,
            resumed=resumed,
            restored=self._restored,
            seconds=time.monotonic() - began,
        )

    def add_note(self, error: BaseException) -> None:
        """What is left, and what to do about it, for whoever reads the error."""
        journal = self._journal
        if journal is None or isinstance(error, MergePartial):
            return
        if self._in_memory:
            error.add_note(
                f"temporary database {journal.temporary} may be left; look at it, then drop it"
            )
        else:
            error.add_note(f"temporary database {journal.temporary} is kept: {GO_ON}")

    # --- where an earlier run stopped -------------------------------------------------------

    def _earlier(self) -> MergeJournal | None:
        """The merge to go on with, or None to begin one."""
        journal = self._file.read()
        if journal is None:
            return None
        if journal.request != request_of(self._options):
            raise TargetBusy(
                f"an earlier merge into {shown(journal.into)} from {self._repository.location} is "
                f"not finished, and it was asked for {_said(journal)}",
                hint="finish it with the same flags, or drop what it made: shardkeeper merge "
                "-abandon",
            )
        temporary = self._temporary(journal.temporary)
        restored = journal.shards is not None and temporary.shards() == set(journal.shards)
        if journal.complete or restored:
            self._journal = journal
            return journal
        # Killed while it was restored, or somebody dropped it: begin anew.
        temporary.clear_away()
        self._file.remove()
        return None

    # --- beside -----------------------------------------------------------------------------

    def _restore(self) -> MergeJournal:
        target = self._target
        if isinstance(target, Cluster):
            undo_interrupted(target, self._repository, tell=self._tell, stop=self._stop)
        plan = prepare_merge(target, self._repository, self._options)
        for note in plan.notes:
            self._tell(Warned(note))
        journal = MergeJournal(
            cluster_id=target.metastore()[1].cluster_id,
            request=request_of(self._options),
            temporary=plan.temporary,
            backup=plan.restore.backup.newest.file_name,
            into=plan.into,
            policies=plan.policies,
        )
        self._note(journal)
        temporary = self._temporary(plan.temporary)
        try:
            self._restored = temporary.restore(plan, self._options)
            there = temporary.shards()
        except BaseException:
            self._forget_if_gone(temporary)
            raise
        if there is None:
            raise RestoreFailed(
                f"{plan.temporary} was restored and is gone again",
                hint="who else drops databases there?",
            )
        journal = replace(journal, shards=tuple(sorted(there)))
        self._note(journal)
        return journal

    def _forget_if_gone(self, temporary: TemporaryDatabase) -> None:
        """A restore that failed has taken away what it made, if it could."""
        try:
            gone = temporary.shards() is None
        except WireError:
            return
        if gone:
            self._forget()

    def _temporary(self, name: str) -> TemporaryDatabase:
        return TemporaryDatabase(
            name, self._target, self._repository, self._doors, tell=self._tell, stop=self._stop
        )

    # --- copying ----------------------------------------------------------------------------

    def _copy(self, journal: MergeJournal) -> GroupsCopied:
        _, now = self._target.metastore()
        live = now.database(journal.into)
        if live is None:
            raise NothingMatches(
                f"{self._target.address} has no database {shown(journal.into)} any more",
                hint=f"create it, then go on; or keep what was restored in {journal.temporary}",
            )
        copier = GroupCopier(
            self._target, self._repository, self._doors, self._options, self._note, self._tell
        )
        return copier.copy(journal, now, clock_ns=_clock_ns(self._target))

    # --- the journal ------------------------------------------------------------------------

    def _note(self, journal: MergeJournal) -> None:
        self._journal = journal
        if self._in_memory:
            return
        try:
            self._file.write(journal)
        except StoreFailed as error:
            self._in_memory = True
            self._tell(
                Warned(
                    f"{error.what}; if this merge is killed, it cannot go on, and "
                    f"{journal.temporary} must be dropped by hand"
                )
            )

    def _forget(self) -> None:
        self._journal = None
        if not self._in_memory:
            self._file.remove()


def _backup(repository: BackupRepository, options: MergeOptions) -> BackupSet:
    if options.manifest:
        return repository.single(options.manifest)
    return repository.current(as_of=options.as_of)


@contextmanager
def _alone(repository: BackupRepository, tell: Tell) -> Generator[None]:
    """One merge at a time out of one directory; backups go on."""
    try:
        lock = StoreLock.acquire(repository.store, command="merge", name=".shardkeeper.merge.lock")
    except StoreFailed as error:
        tell(Warned(f"{error.what}; nothing keeps a second merge from starting"))
        yield
        return
    with lock:
        yield


def _clock_ns(target: Server | Cluster) -> int:
    return target.about().clock_ns or time.time_ns()


def _said(journal: MergeJournal) -> str:
    names = {
        "database": "-db",
        "policy": "-rp",
        "shard": "-shard",
        "into": "-newdb",
        "into_policy": "-newrp",
        "start_ns": "-start",
        "end_ns": "-end",
    }
    given = [(names.get(k, k), v) for k, v in journal.request.items() if v not in (None, "")]
    return " ".join(f"{flag} {shown(str(value))}" for flag, value in given)


def _partial(journal: MergeJournal, lost: int) -> MergePartial:
    failed = list(journal.failed)
    first = failed[0]
    policy, _, measurement = first.unit
    name = ".".join(shown(part) for part in (journal.into, journal.policies.get(policy, policy)))
    what = f"{name}.{shown(measurement)}" if measurement else name
    more = f"; {len(failed) - 1} more" if len(failed) > 1 else ""
    return MergePartial(
        f"{lost} points were not merged: {what}: {first.why}{more}",
        hint=f"all of them are in the database {journal.temporary}: copy those by hand, or mend "
        "what is in their way and run the same command again; merge -abandon drops it",
    )
