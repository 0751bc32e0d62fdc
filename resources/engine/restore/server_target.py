"""A single server as the target of a restore."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

from msgspec.structs import replace

from resources.clients.server import Server
from resources.engine.events import MetaRestoring, Run
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.identity import identity_of
from resources.engine.restore.leftovers import take_back_interrupted
from resources.engine.restore.plan import RestoreOptions, RestorePlan, plan_restore
from resources.engine.restore.read_back import files_there
from resources.engine.restore.receipt import TargetFacts
from resources.engine.restore.record import ServerJournal
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.rollback import roll_back, take_back_strangers
from resources.engine.restore.same_server import check_same_server
from resources.engine.restore.server_creation import ServerCreation
from resources.engine.restore.server_databases import LIMITS_SINCE, run_queries, version_tuple
from resources.engine.restore.server_journal import (
    LOCK,
    SUFFIX,
    JournalWriter,
    KeptJournal,
    keeping_journal,
    lost,
    raw_journal,
    take_over,
)
from resources.engine.restore.server_upload import ServerUpload
from resources.engine.restore.step_run import (
    JoinedRestore,
    RestoreInSteps,
    StepsRecord,
    close_records,
    ending,
    leave_batches,
    over,
    require_same,
)
from resources.engine.restore.target import KilledRestore, NotOurs, Placement
from resources.engine.restore.target_state import TargetState
from resources.engine.restore.unfinished import Unfinished, left_over, reported, what_is_there
from resources.engine.workers.steps import StepSettings
from resources.errors import PlanError, ShardkeeperError, UsageError, WireError
from resources.model import Metastore, ShardID
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository
from resources.runtime.failpoints import passing


class ServerTarget:
    """A single server, as the restores of one run from one repository see it."""

    def __init__(self, server: Server, repository: BackupRepository, run: Run) -> None:
        self.connection = server
        self.repository = repository
        self.run = run

    def state(self) -> TargetState:
        server = self.connection
        raw, metastore = server.metastore()
        facts = server.about()
        return TargetState(
            server.address,
            metastore,
            facts.clock_ns or time.time_ns(),
            not facts.version or version_tuple(facts.version) >= LIMITS_SINCE,
            raw,
        )

    def plan(
        self, backup: BackupSet, options: RestoreOptions, state: TargetState | None = None
    ) -> RestorePlan:
        if options.users:
            raise UsageError(
                "-users restores into clusters only: a single server takes passwords, not hashes",
                hint="leave it out; CREATE USER makes them anew",
            )
        meta = self.repository.read_meta(backup)
        return plan_restore(backup, meta, decode_metastore(meta), state or self.state(), options)

    def placement(
        self, plan: RestorePlan, options: RestoreOptions, state: TargetState, *, possible: bool
    ) -> Placement:
        """A server numbers shards in the order in which they come, from its last number on."""
        first = state.metastore.max_shard_id + 1
        return Placement(
            {
                shard.place.shard_id: (ShardID(number), ())
                for number, shard in enumerate(plan.shards, first)
            }
        )

    @contextmanager
    def killed(self, backup: BackupSet, options: RestoreOptions) -> Generator[KilledRestore | None]:
        """Its record is locked for the block."""
        with ExitStack() as stack:
            left = self._unfinished(stack, backup, options)
            if left is None:
                stack.close()
                yield None
            else:
                yield KilledRestore(left.plan, partial(self.begin, left=left))

    def _unfinished(
        self, stack: ExitStack, backup: BackupSet, options: RestoreOptions
    ) -> Unfinished | None:
        server, store = self.connection, self.repository.store
        for kept in left_over(stack, server, store):
            state = self.state().without(kept.journal.databases.keys())
            try:
                plan = self.plan(backup, options, state)
            except PlanError:
                continue  # it is in the way of something else
            if identity_of(plan, options) == kept.journal.plan:
                found = what_is_there(server, kept, plan, server.about().version)
                mine = take_over(kept, store) if found is not None else None
                if found is not None and mine is not None:
                    return replace(found, kept=mine)
        return None

    @contextmanager
    def left_to_steps(self, joined: JoinedRestore, backup: BackupSet) -> Generator[KilledRestore]:
        """The record and the lock beside it are those of the run."""
        store, server, options = self.repository.store, self.connection, joined.record.options
        name = joined.record.lock.removesuffix(LOCK) + SUFFIX
        raw = raw_journal(store, name)
        journal = None if raw is None else ServerJournal.decode(raw, name)
        if raw is None or journal is None or journal.taken_back:
            raise over()
        plan = self.plan(backup, options, self.state().without(journal.databases.keys()))
        require_same(plan, options, journal.plan)
        kept = take_over(KeptJournal(name, raw, journal, joined.lock), store)
        if kept is None:
            raise lost(name)
        ids = {database: made.ids for database, made in journal.databases.items()}
        left = Unfinished(kept, plan, ids, reported(server))
        yield KilledRestore(plan, partial(self.begin, left=left, joined=joined), joined.contents)

    def take_back_interrupted(self) -> None:
        take_back_interrupted(self.connection, self.repository, emit=self.run.emit)

    def more_than_sent(
        self, now: Metastore, sent: Mapping[ShardID, Collection[FileID]]
    ) -> NotOurs | None:
        """In files, or in memory and the WAL.

        A busy server leaves out what is in its memory, so files alone prove nothing.
        """
        server = self.connection
        for shard_id in sorted(sent):
            where = f"shard {shard_id}"
            try:
                files = files_there(server, shard_id)
                stats = server.http.server_vars().shards.get(shard_id) if server.http else None
            except WireError as error:
                return NotOurs(f"what {where} holds is not known: {error.what}", known=False)
            if not {file.id for file in files} <= set(sent[shard_id]):
                return NotOurs(f"{where} holds more than was sent")
            if stats and (stats.wal_bytes or (stats.cache and stats.cache.memory_bytes)):
                return NotOurs(f"another client has written to {where}")
        return None

    @contextmanager
    def begin(
        self,
        checked: CheckedRestore,
        left: Unfinished | None = None,
        joined: JoinedRestore | None = None,
    ) -> Generator[ServerRestore]:
        """Nothing keeps others away: each has a record of its own.

        Args:
            left: what a killed run of the same plan has left there.
            joined: the restore that this step works for.
        """
        server = self.connection
        version = server.about().version
        _, before = server.metastore()
        facts = TargetFacts("server", server.address, version, before.cluster_id)
        names = [database.name for database in checked.plan.databases]
        check_same_server(server, names, emit=self.run.emit)
        if joined is None:
            self.run.emit(MetaRestoring())
        passing("restore.checked")
        with ending(joined, nullcontext()):
            yield ServerRestore(server, checked, facts, before, left, joined)


class ServerRestore:
    """The steps of a restore into a single server.

    Whatever step fails, undoing it is one thing: the databases that were created are dropped.

    Args:
        before: the server's metastore, before anything was changed.
        left: what a killed run of the same plan has left there.
        joined: the restore that this step works for, whose batches others have done.
    """

    _journal: JournalWriter
    _creation: ServerCreation

    def __init__(
        self,
        server: Server,
        checked: CheckedRestore,
        facts: TargetFacts,
        before: Metastore,
        left: Unfinished | None,
        joined: JoinedRestore | None,
    ) -> None:
        self.facts = facts
        self.undoing = f"taking back what was restored into {server.address}"
        self._server = server
        self._checked = checked
        self._before = before
        self._left = left
        self._joined = joined
        self._reported = left.reported if left is not None else reported(server)

    @contextmanager
    def on_record(self) -> Generator[None]:
        checked, now = self._checked, self._reported
        record = ServerJournal(
            self.facts.cluster_id,
            self.facts.address,
            now.started_ns if now is not None else None,
            plan=identity_of(checked.plan, checked.options),
        )
        kept = self._left.kept if self._left is not None else None
        store, emit = checked.repository.store, checked.run.emit
        with keeping_journal(store, record, emit=emit, goes_on=kept) as journal:
            self._journal = journal
            self._creation = ServerCreation(
                self._server,
                checked,
                self.facts.version,
                journal,
                self._left.ids if self._left is not None else {},
            )
            yield

    def create(self) -> int:
        return len(self._creation.make())

    def _upload(self) -> ServerUpload:
        return ServerUpload(
            self._server, self._checked, self._creation.ids, self._journal, self._reported
        )

    def leave(self, settings: StepSettings, began_ns: int) -> RestoreInSteps | None:
        lock = self._journal.lock
        if lock is None:
            return None
        upload, checked = self._upload(), self._checked
        items, _ = upload.to_fill(checked.plan.shards, self._left)
        planned = upload.filling().planned_for_steps(items, settings.batch_bytes)
        if not planned:
            return None
        record = StepsRecord.of(checked, lock, planned, began_ns)
        return leave_batches(checked.repository.store, planned, lock, settings, record)

    def upload(self) -> list[RestoredShard]:
        if self._joined is not None:
            return self._upload().filling().collect_steps(self._joined)
        return self._upload().run(self._checked.plan.shards, self._left)

    def activate(self, shards: Sequence[RestoredShard]) -> None:
        """The shards have readers since they were created; what is left are continuous queries."""
        self._journal.check_still_ours()
        for database, ids in self._creation.created:
            run_queries(self._server, database, ids, emit=self._checked.run.emit)
        passing("restore.before-complete")

    def complete(self) -> None:
        self._journal.complete()
        self._journal.end()

    def undo(self, error: BaseException) -> None:
        """Drop the databases that were created, except those that another client has changed.

        Raises:
            LockLost: another run took the place of this one, and takes back what is there.
        """
        created, journal, emit = self._creation.created, self._journal, self._checked.run.emit
        if self._joined is None and journal.lock is not None and journal.lock.goes_on:
            close_records(self._checked.repository.store, journal.lock.record)
        journal.end()
        roll_back(self._server, created, error, journal=journal, emit=emit)
        known = {db.name for db in self._before.databases}
        known |= {db.name for db in self._checked.plan.databases}
        ours = {new for _, ids in created for new in ids.values()}
        ours -= {place.shard_id for place in self._before.places()}
        take_back_strangers(self._server, known, ours, error, journal=journal, emit=emit)
        if isinstance(error, ShardkeeperError):
            journal.explain(error)

    def finish(self) -> None:
        """Nothing is left to be done."""
