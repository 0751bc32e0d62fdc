"""Merge a backup into a live database: restore beside it, copy, verify every point, drop.

If a merge was killed, the same command continues it: the live database shows how far it got, and
every step may be done twice. The journal names what an earlier run created; it never proves that
a step is done. Nothing is dropped before this run has found every point, by type and value, in
live shards that still exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import MergeBegun, Run, Warned
from resources.engine.merge.exclusive import alone
from resources.engine.merge.groups import GroupMerger, GroupsMerged
from resources.engine.merge.http_endpoints import HttpEndpoints
from resources.engine.merge.merge_journal import MergeJournal, MergeJournalFile, request_of
from resources.engine.merge.merge_plan import MergeOptions, MergePlan
from resources.engine.merge.own_database import made_by
from resources.engine.merge.prepare import clock_ns, prepare_merge
from resources.engine.merge.temporary import TemporaryDatabase, left_there
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore_target import restore_target
from resources.errors import (
    LockLost,
    MergePartial,
    RepositoryLocked,
    RestoreFailed,
    ShardkeeperError,
    StoreFailed,
    TargetBusy,
    WireError,
    counted,
    shown,
)
from resources.repository.formats.names import BackupName
from resources.repository.repository import BackupRepository
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed

ROUNDS = 3
GO_ON = "the same command continues from there; merge -abandon drops it"


class MergeReport(Struct, frozen=True):
    """The result of a merge.

    Attributes:
        temporary: the database that was copied from; it is dropped.
        into: the live database.
        backup: the newest manifest that was merged.
        points: restored points, each found in the live database with its value.
        added, replaced: of these, by this run: points that were missing before, and points
            that had another value.
        expired: restored points that the live policy no longer keeps.
        groups: shard groups that this run copied.
        resumed: whether an earlier run had begun the merge.
        restored: the restore of the temporary database; None if an earlier run did it.
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


def merge(
    target: Server | Cluster,
    repository: BackupRepository,
    options: MergeOptions,
    run: Run,
) -> MergeReport:
    """Merge a backed-up database into a live one.

    Where both have a value for the same series, field and time, the backup's replaces the other.
    If the same merge was interrupted, this run continues it, with the backup that it read.

    Raises:
        MergePartial: some points could not be merged; they are in the temporary database.
        TargetBusy: another merge is unfinished or running.
        ShardkeeperError: the merge failed; its notes say how to continue.
    """
    began = time.monotonic()
    options.check()
    endpoints = HttpEndpoints(target, run)
    endpoints.check_live(target, options.database)
    with alone(repository, run.emit) as check_alone:
        steps = _Merge(target, repository, options, endpoints, run, check_alone)
        with undisturbed("reporting what is left of the merge"):
            try:
                with interruptible():
                    return steps.run(began)
            except BaseException as error:
                if isinstance(error, ShardkeeperError) and not isinstance(error, RepositoryLocked):
                    check_alone()  # another merge may have caused the failure
                steps.add_note(error)
                raise


class _Merge:
    """One run, step by step."""

    def __init__(
        self,
        target: Server | Cluster,
        repository: BackupRepository,
        options: MergeOptions,
        endpoints: HttpEndpoints,
        run: Run,
        check_alone: Callable[[], None],
    ) -> None:
        self._check_alone = check_alone
        self._target = target
        self._repository = repository
        self._options = options
        self._endpoints = endpoints
        self._run = run
        self._emit = run.emit
        self._file = MergeJournalFile(repository.store, target.metastore()[1].cluster_id)
        self._journal: MergeJournal | None = None
        self._restored: RestoreReport | None = None
        self._in_memory = False

    def run(self, began: float) -> MergeReport:
        journal, plan, merged = self._earlier()
        resumed = journal is not None
        if journal is None or plan is None:
            journal, plan = self._restore()
        if merged is None:
            shards = journal.shards or ()
            self._endpoints.await_owners(self._target, journal.temporary)
            self._endpoints.check_shards(self._target, journal.temporary, shards)
            self._emit(MergeBegun(journal.temporary, journal.into, resumed))
            merged = self._merge(plan, journal)
            passing("merge.found")
            self._note(replace(journal, complete=True))
            passing("merge.before-drop")
            self._check_alone()
            left = self._temporary(replace(journal, complete=True)).drop()
            if left is not None:
                raise left_there(
                    journal, left, "every point is merged: run this again, which ends it"
                )
        passing("merge.dropped")
        self._forget()
        return MergeReport(
            temporary=journal.temporary,
            into=journal.into,
            backup=journal.backup,
            points=merged.points,
            added=merged.added,
            replaced=merged.replaced,
            expired=merged.expired,
            groups=merged.groups,
            resumed=resumed,
            restored=self._restored,
            seconds=time.monotonic() - began,
        )

    def add_note(self, error: BaseException) -> None:
        """Add a note with what is left and the next step."""
        journal = self._journal
        if journal is None or isinstance(error, MergePartial | LockLost):
            return
        if self._in_memory:
            error.add_note(
                f"temporary database {journal.temporary} may be left; inspect it, then drop it"
            )
        else:
            error.add_note(f"temporary database {journal.temporary} is kept: {GO_ON}")

    # --- continue an earlier run ------------------------------------------------------------

    def _earlier(self) -> tuple[MergeJournal | None, MergePlan | None, GroupsMerged | None]:
        """The merge to continue, if there is one, and its plan.

        The last value is the earlier run's finding, if only the journal is left to be removed.
        """
        journal = self._file.read()
        if journal is None:
            return None, None, None
        if journal.request != request_of(self._options):
            raise TargetBusy(
                f"an earlier merge into {shown(journal.into)} from {self._repository.location} is "
                f"not finished; its flags are {journal.asked_for}",
                hint="finish it with the same flags, or drop what it made: shardkeeper merge "
                "-abandon",
            )
        temporary = self._temporary(journal)
        whole = journal.shards is not None and temporary.shards() == set(journal.shards)
        if whole or journal.complete:
            self._journal = journal
            plan = self._plan_again(journal)
            if whole:
                return journal, plan, None
            # Killed while it dropped the database. Are all points that it found still there?
            merged = self._merger().merge(plan, None)
            if not merged.lost and self._is_still_there(journal.into, merged):
                self._check_alone()
                temporary.clear_away_or_leave()
                return journal, plan, merged
        # Killed during the restore, or another client dropped the database: start again.
        self._check_alone()
        temporary.clear_away_or_leave()
        self._journal = None
        self._file.remove()
        return None, None, None

    def _plan_again(self, journal: MergeJournal) -> MergePlan:
        """The plan of a merge that continues: for the backup that it read, not a newer one.

        Raises:
            BackupNotFound, BackupIncomplete: archives that it needs are gone.
        """
        name = BackupName.parse(journal.backup.removesuffix(".manifest"))
        options = self._options
        if name is not None:
            options = replace(options, manifest="", as_of=name.started_at)
        return prepare_merge(self._target, self._repository, options)

    # --- restore beside the live database ---------------------------------------------------

    def _restore(self) -> tuple[MergeJournal, MergePlan]:
        target = self._target
        restore_target(target, self._repository, self._run).take_back_interrupted()
        plan = prepare_merge(target, self._repository, self._options)
        for note in plan.notes:
            self._emit(Warned(note))
        journal = MergeJournal(
            cluster_id=target.metastore()[1].cluster_id,
            request=request_of(self._options),
            temporary=plan.temporary,
            backup=plan.restore.backup.newest.file_name,
            into=plan.into,
            policies=plan.policies,
            made=made_by(plan.restore),
        )
        self._note(journal)
        passing("merge.noted")
        temporary = self._temporary(journal)
        try:
            self._restored = temporary.restore(plan, self._options)
            there = temporary.shards()
        except BaseException:
            self._forget_if_gone(temporary)
            raise
        if there is None:
            raise RestoreFailed(
                f"{plan.temporary} was restored and is gone again",
                hint="does another client drop databases there?",
            )
        journal = replace(journal, shards=tuple(sorted(there)))
        try:
            self._note(journal)
        except LockLost as lost:
            self._drop_again(journal, lost)
            raise
        passing("merge.restored")
        return journal, plan

    def _drop_again(self, journal: MergeJournal, lost: LockLost) -> None:
        """Drop a database that no journal names: another run removed the journal too early."""
        with undisturbed(f"dropping {journal.temporary}"):
            try:
                left = self._temporary(journal, check_alone=lambda: None).drop()
                why = "" if left is None else left.why
            except ShardkeeperError as failure:
                why = failure.what
            if why:
                lost.add_note(f"temporary database {journal.temporary} is left there: {why}")

    def _forget_if_gone(self, temporary: TemporaryDatabase) -> None:
        """Remove the journal if the failed restore has dropped its database."""
        try:
            gone = temporary.shards() is None
        except WireError:
            return
        if gone:
            self._forget()

    def _temporary(
        self, journal: MergeJournal, *, check_alone: Callable[[], None] | None = None
    ) -> TemporaryDatabase:
        return TemporaryDatabase(
            journal,
            self._target,
            self._repository,
            self._endpoints,
            run=self._run,
            check_alone=check_alone or self._check_alone,
        )

    # --- copying ----------------------------------------------------------------------------

    def _merge(self, plan: MergePlan, journal: MergeJournal) -> GroupsMerged:
        """Merge all groups, until every point is in shards that still exist.

        Raises:
            MergePartial: some points are not.
            TargetBusy: shards of the live database are dropped and created meanwhile.
        """
        first: GroupsMerged | None = None
        for _ in range(ROUNDS):
            merged = self._merger().merge(plan, journal.temporary)
            if merged.lost:
                raise _partial(journal, merged)
            first = first or merged
            if self._is_still_there(journal.into, merged):
                # Later rounds restore points that the first one had added.
                return replace(merged, added=first.added, replaced=first.replaced)
            self._emit(
                Warned(
                    f"shards of {shown(journal.into)} were dropped while points were merged into "
                    "them; merging again"
                )
            )
        raise TargetBusy(
            f"shards of {shown(journal.into)} are dropped while points are merged into them",
            hint="does another client drop shards, or the database?",
        )

    def _merger(self) -> GroupMerger:
        return GroupMerger(
            self._target,
            self._repository,
            self._endpoints,
            self._options,
            clock_ns=clock_ns(self._target),
            emit=self._emit,
        )

    def _is_still_there(self, into: str, merged: GroupsMerged) -> bool:
        """Whether the shards in which points were found still belong to the live database.

        A database that was dropped and created again has other shards.
        """
        _, now = self._target.metastore()
        there = {place.shard_id for place in now.places() if place.database == into}
        return merged.live <= there

    # --- the journal ------------------------------------------------------------------------

    def _note(self, journal: MergeJournal) -> None:
        self._check_alone()
        self._journal = journal
        if self._in_memory:
            return
        try:
            self._file.write(journal)
        except LockLost:
            raise
        except StoreFailed as error:
            self._in_memory = True
            self._emit(
                Warned(
                    f"{error.what}; if this merge is killed, it cannot go on, and "
                    f"{journal.temporary} must be dropped by hand"
                )
            )

    def _forget(self) -> None:
        self._check_alone()
        self._journal = None
        if not self._in_memory:
            self._file.remove()


def _partial(journal: MergeJournal, merged: GroupsMerged) -> MergePartial:
    first, *others = merged.lost
    what = ".".join(shown(part) for part in (journal.into, first.into_policy, first.measurement))
    more = f"; {len(others)} more" if others else ""
    return MergePartial(
        f"{counted(merged.n_lost, 'value was', 'values were')} not merged: {what}: "
        f"{first.why}{more}",
        hint=f"all of them are in the database {journal.temporary}: copy them by hand, or remove "
        "the cause and run the same command again; merge -abandon drops the database",
    )
