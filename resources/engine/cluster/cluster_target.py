"""A cluster as the target of a restore.

First there are shards without owners, then every replica is filled and proved, then they get
their owners.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.engine.cluster.cluster_upload import ClusterUpload
from resources.engine.cluster.internal import empty_internal, note_internal
from resources.engine.cluster.metastore_change import MetastoreChange
from resources.engine.cluster.metastore_reading import confirmed_reading, databases_of
from resources.engine.cluster.own_shards import more_in_cluster
from resources.engine.cluster.preconditions import shards_on_disk, warn_of_lost_updates
from resources.engine.cluster.restore_journal import Journal, JournalFile
from resources.engine.cluster.rollback import give_owners, take_away, undo_interrupted
from resources.engine.cluster.target_plan import (
    ClusterChange,
    NewShard,
    draft_databases,
    plan_cluster_change,
)
from resources.engine.cluster.users import create_users, note_users
from resources.engine.events import MetaRestoring, Run, Warned
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.identity import identity_of
from resources.engine.restore.lease import (
    STEPS_LOCK,
    HeldLease,
    end_dead_steps,
    holding_lease,
    holding_lease_again,
)
from resources.engine.restore.plan import RestoreOptions, RestorePlan, plan_restore
from resources.engine.restore.receipt import Receipt, TargetFacts
from resources.engine.restore.restored import RestoredShard
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
from resources.engine.workers.steps import StepSettings
from resources.errors import PlanError, RestoreFailed, ShardkeeperError, StoreFailed, WireError
from resources.model import Metastore, ShardID
from resources.protocol.commands import CreateContinuousQuery
from resources.protocol.influxql import check_continuous_query
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import Store
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible


@contextmanager
def holding_cluster(
    cluster: Cluster, store: Store, run: Run, number: int = 0
) -> Generator[HeldLease]:
    """Have the cluster's lease for the block; the run stops once another restore takes it over.

    Args:
        number: under which an earlier step of this restore had it; 0: it begins now.

    Raises:
        TargetBusy, WireError: as `holding_lease`.
    """

    def lost() -> None:
        run.emit(Warned("another restore took over; this one stops"))
        cluster.abort()

    begun = (
        holding_lease_again(cluster.meta, store, number, run, lost=lost)
        if number
        else holding_lease(cluster.meta, store, run, lost=lost)
    )
    with begun as held:
        yield held
    cluster.resume()  # the lease may have been lost when all was done


class ClusterTarget:
    """A cluster, as the restores of one run from one repository see it."""

    def __init__(self, cluster: Cluster, repository: BackupRepository, run: Run) -> None:
        self.connection = cluster
        self.repository = repository
        self.run = run

    def state(self) -> TargetState:
        raw, metastore = self.connection.metastore()
        return TargetState(
            self.connection.address, metastore, time.time_ns(), write_limits_known=False, raw=raw
        )

    def plan(
        self, backup: BackupSet, options: RestoreOptions, state: TargetState | None = None
    ) -> RestorePlan:
        meta = self.repository.read_meta(backup)
        source = decode_metastore(meta)
        state = state or self.state()
        plan = plan_restore(backup, meta, source, state, options)
        notes: list[str] = []
        there, here = _addresses(source), _addresses(state.metastore)
        if there and there != here and plan.into is None:
            notes.append(
                "the backup's data nodes are not this cluster's; its own get the shards, by "
                "replication factor"
            )
        if options.users:
            notes += note_users(source.users, state.metastore.users)
        if not options.limits:
            notes += note_internal(state.metastore)
        return replace(plan, notes=(*plan.notes, *notes))

    def placement(
        self, plan: RestorePlan, options: RestoreOptions, state: TargetState, *, possible: bool
    ) -> Placement:
        """As the change of the metastore would deal them out; a conflict leaves that open."""
        if not possible:
            return Placement()
        try:
            draft = draft_databases(plan, options.new_replica_n)
            change = plan_cluster_change(plan, draft, state.raw, shards_on_disk(self.connection))
        except (PlanError, WireError) as error:
            return Placement(conflicts=(error,))
        return Placement(
            {
                shard.restore.place.shard_id: (shard.id, shard.owners)
                for shard in change.shards
                if shard.restore is not None
            }
        )

    @contextmanager
    def killed(self, backup: BackupSet, options: RestoreOptions) -> Generator[KilledRestore | None]:
        """The lease keeps others away from its record, once it has begun."""
        found = self._left(backup, options)
        if found is None:
            yield None
        else:
            plan, left = found
            yield KilledRestore(plan, partial(self.begin, left=left))

    def _left(
        self, backup: BackupSet, options: RestoreOptions
    ) -> tuple[RestorePlan, Journal] | None:
        """The plan that a killed run of this very restore had, and its record."""
        proofs = end_dead_steps(self.connection.meta, self.repository.store)
        state = self.state()
        file = JournalFile(self.repository.store, state.metastore.cluster_id)
        left = file.read()
        if left is None or not left.plan or left.proved is not False:
            return None
        if any(state.metastore.database(name) is None for name in left.databases):
            return None  # it was dropped; what its nodes have is to be taken away
        try:
            plan = self.plan(backup, options, state.without(left.databases.keys()))
        except PlanError:
            return None  # it is in the way of something else
        if identity_of(plan, options) != left.plan:
            return None
        return plan, _with_proofs(file, left, proofs)

    @contextmanager
    def left_to_steps(self, joined: JoinedRestore, backup: BackupSet) -> Generator[KilledRestore]:
        """The record is that of the run, whose lock and lease keep others away."""
        options, state = joined.record.options, self.state()
        left = JournalFile(self.repository.store, state.metastore.cluster_id).read()
        if left is None:
            raise over()
        plan = self.plan(backup, options, state.without(left.databases.keys()))
        require_same(plan, options, left.plan)
        yield KilledRestore(plan, partial(self.begin, left=left, joined=joined), joined.contents)

    def take_back_interrupted(self) -> None:
        undo_interrupted(self.connection, self.repository, self.run)

    def more_than_sent(
        self, now: Metastore, sent: Mapping[ShardID, Collection[FileID]]
    ) -> NotOurs | None:
        return more_in_cluster(self.connection, now, sent)

    @contextmanager
    def begin(
        self,
        checked: CheckedRestore,
        left: Journal | None = None,
        joined: JoinedRestore | None = None,
    ) -> Generator[ClusterRestore]:
        """The block holds the cluster's lease.

        Args:
            left: the record of a killed run of the same plan.
            joined: the restore that this step works for.
        """
        cluster = self.connection
        cluster_id = cluster.metastore()[1].cluster_id
        facts = TargetFacts("cluster", cluster.address, cluster.about().version, cluster_id)
        if joined is None:
            self.run.emit(MetaRestoring())
        number = 0 if joined is None else joined.record.number
        holding = holding_cluster(cluster, self.repository.store, self.run, number)
        with ending(joined, holding) as held:
            yield ClusterRestore(cluster, checked, facts, held, left, joined)


def _with_proofs(
    file: JournalFile, left: Journal, proofs: Mapping[ShardID, Sequence[Receipt]]
) -> Journal:
    """A record with what other steps of its run have proved, which they do not write there."""
    filled = {
        shard_id: tuple(receipt.node for receipt in receipts)
        for shard_id, receipts in proofs.items()
        if receipts and all(receipt.how == "identical" for receipt in receipts)
    }
    if not filled:
        return left
    left = replace(left, filled={**filled, **left.filled})
    file.write(left)
    return left


def _addresses(metastore: Metastore) -> list[str]:
    return sorted(node.tcp_addr for node in metastore.data_nodes)


class ClusterRestore:
    """The steps of a restore into a cluster.

    Whatever step fails, undoing it is one thing: what the record names is taken away.

    Args:
        held: the cluster's lease.
        left: the record of a killed run of the same plan.
        joined: the restore that this step works for, whose batches others have done.
    """

    _change: ClusterChange
    _uploading: ClusterUpload

    def __init__(
        self,
        cluster: Cluster,
        checked: CheckedRestore,
        facts: TargetFacts,
        held: HeldLease,
        left: Journal | None,
        joined: JoinedRestore | None,
    ) -> None:
        self._held = held
        self.facts = facts
        self.undoing = f"taking back what was restored into {cluster.address}"
        self._cluster = cluster
        self._checked = checked
        self._run = checked.run
        self._left = left
        self._joined = joined
        self._replicas_are_there = False
        self._lock: StoreLock | None = None
        """Of the restore, once it is left to steps."""
        self._on_disk = shards_on_disk(cluster)
        self._metastore_change = MetastoreChange(cluster, checked)

    @contextmanager
    def on_record(self) -> Generator[None]:
        """Each change of the metastore writes the record before; it goes when all is there."""
        yield

    def create(self) -> int:
        """Create shards without owners, which no client can read or write."""
        change = None
        if self._joined is not None and self._left is not None:
            change = self._metastore_change.take_up(self._left)
        elif self._left is not None:
            change = self._metastore_change.go_on(self._left)
            if change is None:
                self._take_away(self._left)
        self._change = change or self._metastore_change.make(self._on_disk)
        self._uploading = ClusterUpload(
            self._cluster,
            self._checked,
            self._change,
            self._metastore_change.filled,
            lambda: self._held.taken,
        )
        return len(self._change.ids)

    def _take_away(self, left: Journal) -> None:
        """What the killed run left is not what it was: begin anew."""
        take_away(self._cluster, left, self._run.emit)
        JournalFile(self._checked.repository.store, left.cluster_id).remove()
        self._on_disk = shards_on_disk(self._cluster)
        self._left = None

    def leave(self, settings: StepSettings, began_ns: int) -> RestoreInSteps | None:
        """Its steps keep a lock in the repository, since the lease ends between two of them."""
        self._create_replicas()
        items = self._uploading.to_fill(self._left)
        planned = self._uploading.filling().planned_for_steps(items, settings.batch_bytes)
        if not planned:
            return None
        checked = self._checked
        store = checked.repository.store
        try:
            lock = StoreLock.acquire(store, command=settings.command, name=STEPS_LOCK)
        except StoreFailed:
            return None
        with lock:
            record = StepsRecord.of(checked, lock, planned, began_ns, int(self._held.number))
            left = leave_batches(store, planned, lock, settings, record)
        if left is not None:
            self._lock = lock
            self._held.goes_on = True
            self._warn_of_lost_updates()
        return left

    def upload(self) -> list[RestoredShard]:
        if self._joined is not None:
            return self._uploading.filling().collect_steps(self._joined)
        self._create_replicas()
        return self._uploading.run(self._left)

    def _create_replicas(self) -> None:
        if not self._replicas_are_there:
            self._uploading.create()
            passing("cluster.shards-created")
            self._replicas_are_there = True

    def activate(self, shards: Sequence[RestoredShard]) -> None:
        """Put on record that all is proved, then give the shards their owners."""
        passing("cluster.before-adoption")
        self._metastore_change.proved({shard.new_shard_id: shard.receipts for shard in shards})
        self._give_owners(self._change)
        passing("cluster.after-adoption")

    def complete(self) -> None:
        """The record has said so since everything was proved."""

    def undo(self, error: BaseException) -> None:
        if self._lock is not None:
            close_records(self._checked.repository.store, self._lock.record)
            self._lock.release()
            self._held.goes_on = False
        self._metastore_change.undo(error)

    def finish(self) -> None:
        """Forget the record; then do what undoes nothing if it fails, and can be interrupted."""
        self._metastore_change.done()
        checked, emit = self._checked, self._run.emit
        with interruptible():
            if self._joined is None:
                self._warn_of_lost_updates()
            self._continuous_queries()
            if checked.options.users:
                create_users(self._cluster, checked.plan.metastore.users, emit=emit)
            if not checked.options.limits:
                empty_internal(self._cluster, emit=emit)

    def _warn_of_lost_updates(self) -> None:
        if not self._change.by_command:
            emit = self._run.emit
            warn_of_lost_updates(self._cluster, self._change, self._on_disk, emit=emit)

    # --- owners -----------------------------------------------------------------------------

    def _give_owners(self, change: ClusterChange) -> None:
        """Every copy is there and proved: now they get readers, unless they had them."""
        self._checked.check()
        if not change.by_command:
            owners = [(shard.id, node.id) for shard in change.shards for node in shard.owners]
            give_owners(self._cluster, owners, emit=self._run.emit)
        about = databases_of(change.databases)
        now = confirmed_reading(self._cluster, about=about, stop=self._run.stop).metastore
        found = {p.shard_id: {o.node_id for o in p.shard.owners} for p in now.places()}
        inventory = self._cluster.inventory(now)
        silent = set[str]()
        if self._checked.options.receipts:  # what such a node has was read back before it went away
            silent = {node for shard in change.shards for node in _addresses_of(shard)}
            silent &= inventory.silent.keys()
        for node in sorted(silent):
            what = f"{inventory.silent[node].what}; its copies were read back before"
            self._run.emit(Warned(f"a data node has gone away meanwhile: {what}"))
        for shard in change.shards:
            wanted = {node.id for node in shard.owners}
            there = {copy.node for copy in inventory.copies.get(shard.id, ())} | silent
            if found.get(shard.id) != wanted or not _addresses_of(shard) <= there:
                raise RestoreFailed(
                    f"shard {shard.id} did not get the owners that the plan gives it",
                    hint="another client changes the cluster; run restore again",
                )

    def _continuous_queries(self) -> None:
        """One that fails is reported and does not undo the restore."""
        for database in self._checked.plan.databases:
            for query in database.source.continuous_queries:
                if query.query not in database.continuous_queries:
                    continue
                try:
                    check_continuous_query(query.query)
                    self._cluster.meta.execute(
                        CreateContinuousQuery(database.name, query.name, query.query)
                    )
                except ShardkeeperError as error:
                    self._run.emit(
                        Warned(
                            f"a continuous query could not be created ({error.what}); run it by "
                            f"hand: {query.query}"
                        )
                    )


def _addresses_of(shard: NewShard) -> set[str]:
    return {node.tcp_addr for node in shard.owners}
