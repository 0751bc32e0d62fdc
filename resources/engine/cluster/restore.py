"""Carry a restore into a cluster out, and undo everything if one step fails.

First there are shards without owners, then every copy is filled and proved, then they get
their owners.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from resources.clients.cluster import Cluster
from resources.engine.cluster.filling import Filling
from resources.engine.cluster.internal import empty_internal, note_internal
from resources.engine.cluster.metastore_change import MetastoreChange
from resources.engine.cluster.metastore_reading import confirmed_reading, databases_of
from resources.engine.cluster.preconditions import shards_on_disk, warn_of_lost_updates
from resources.engine.cluster.restore_journal import Journal, JournalFile
from resources.engine.cluster.rollback import give_owners, take_away
from resources.engine.cluster.target_plan import ClusterChange, NewShard
from resources.engine.cluster.users import create_users, note_users
from resources.engine.events import Emit, MetaRestored, MetaRestoring, Warned
from resources.engine.restore.check import ArchiveContents, check_archives, left_out
from resources.engine.restore.lease import holding_lease
from resources.engine.restore.plan import RestoreOptions, RestorePlan, plan_restore
from resources.engine.restore.receipt import Receipts, Target
from resources.engine.restore.restored import RestoredShard, RestoreReport, noting_completion
from resources.errors import RestoreFailed, ShardkeeperError, Stopped, shown
from resources.model import Metastore, ShardID
from resources.protocol.commands import CreateContinuousQuery
from resources.protocol.influxql import check_continuous_query
from resources.protocol.meta import decode_metastore
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed


def prepare_cluster_restore(
    cluster: Cluster,
    repository: BackupRepository,
    backup: BackupSet,
    options: RestoreOptions,
    *,
    without: Collection[str] = (),
) -> RestorePlan:
    """Plan a restore against the cluster as it is now; nothing is changed.

    Args:
        without: databases that count as not there.

    Raises: what `plan_restore` raises, and errors of reading the backup or the cluster.
    """
    options.check()
    meta = repository.read_meta(backup)
    source = decode_metastore(meta)
    target = cluster.metastore()[1].without(without)
    plan = plan_restore(
        backup,
        meta,
        source,
        target,
        options,
        now_ns=time.time_ns(),
        target_name=cluster.address,
        write_limits_known=False,
    )
    there, here = _addresses(source), _addresses(target)
    if there and there != here and plan.into is None:
        note = (
            f"the backup's data nodes ({', '.join(map(shown, there))}) are not this cluster's; its "
            f"own get the shards, dealt out by replication factor"
        )
        plan = replace(plan, notes=(*plan.notes, note))
    if options.users:
        plan = replace(plan, notes=(*plan.notes, *note_users(source.users, target.users)))
    if not options.limits:
        plan = replace(plan, notes=(*plan.notes, *note_internal(target)))
    return plan


def _addresses(metastore: Metastore) -> list[str]:
    return sorted(node.tcp_addr for node in metastore.data_nodes)


def restore_into_cluster(
    cluster: Cluster,
    repository: BackupRepository,
    plan: RestorePlan,
    options: RestoreOptions,
    *,
    emit: Emit,
    stop: threading.Event | None = None,
    goes_on: Journal | None = None,
) -> RestoreReport:
    """Carry out a plan.

    Every archive is checked before the cluster is touched. Each copy of each shard is read
    back from its node and held against what was sent; only then do shards get owners, and so
    readers. If anything fails, what this restore created is taken away, and nothing else is.

    Args:
        goes_on: the record of a killed run of the same plan, which had checked the archives.

    Raises:
        ShardkeeperError: the restore failed; its notes say whether it could be undone.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    for note in plan.notes:
        emit(Warned(note))
    receipts = Receipts(repository, plan, options, emit=emit)
    contents = check_archives(
        repository,
        plan.shards,
        keep_tombstoned=options.keep_tombstoned,
        checked_before=goes_on is not None,
        emit=emit,
        stop=stop,
    )
    cluster_id = cluster.metastore()[1].cluster_id
    target = Target("cluster", cluster.address, cluster.about().version, cluster_id)
    emit(MetaRestoring())

    def lost() -> None:
        emit(Warned("another restore took over; this one stops"))
        cluster.abort()

    with holding_lease(cluster.meta, repository.store, stop, lost=lost, emit=emit):
        run = _ClusterRestore(cluster, repository, plan, contents, options, emit, stop)
        shards = run.run(goes_on)
    cluster.resume()  # the lease may have been lost when all was done
    path = receipts.keep([(shard.restore, shard.receipts) for shard in shards], target)
    seconds = time.monotonic() - began
    return RestoreReport(plan, tuple(shards), seconds, path, left_out(plan.shards, contents))


class _ClusterRestore:
    """One run, step by step."""

    def __init__(
        self,
        cluster: Cluster,
        repository: BackupRepository,
        plan: RestorePlan,
        contents: Mapping[ShardID, ArchiveContents],
        options: RestoreOptions,
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        self._cluster = cluster
        self._repository = repository
        self._plan = plan
        self._contents = contents
        self._options = options
        self._emit = emit
        self._stop = stop

    def run(self, left: Journal | None) -> list[RestoredShard]:
        """Carry it out; `left` is the record of a killed run of the same plan."""
        began = time.monotonic()
        on_disk = shards_on_disk(self._cluster)
        metastore_change = MetastoreChange(
            self._cluster,
            self._repository.store,
            self._plan,
            self._options,
            self._contents,
            self._emit,
            self._stop,
        )
        with (
            noting_completion() as is_complete,
            undisturbed(f"taking back what was restored into {self._cluster.address}"),
        ):
            try:
                with interruptible():
                    change = metastore_change.go_on(left) if left is not None else None
                    going_on = left if change is not None else None
                    if change is None:
                        on_disk = self._take_away(left) if left is not None else on_disk
                        change = metastore_change.make(on_disk)
                    self._emit(MetaRestored(len(change.ids), time.monotonic() - began))
                    shards = self._fill(change, metastore_change, going_on)
                    passing("cluster.before-adoption")
                    metastore_change.proved(
                        {shard.new_shard_id: shard.receipts for shard in shards}
                    )
                    self._activate(change)
                    passing("cluster.after-adoption")
            except BaseException as error:
                self._stop.set()
                self._cluster.resume()
                metastore_change.undo(error)
                raise
            is_complete.set()
            metastore_change.done()
        if not change.by_command:
            warn_of_lost_updates(self._cluster, change, on_disk, emit=self._emit)
        self._continuous_queries()
        if self._options.users:
            create_users(self._cluster, self._plan.metastore.users, emit=self._emit)
        if not self._options.limits:
            empty_internal(self._cluster, emit=self._emit)
        return shards

    def _take_away(self, left: Journal) -> frozenset[ShardID]:
        """What the killed run left is not what it was: begin anew. Returns what is on disk then."""
        take_away(self._cluster, left, self._emit)
        JournalFile(self._repository.store, left.cluster_id).remove()
        return shards_on_disk(self._cluster)

    def _fill(
        self, change: ClusterChange, metastore_change: MetastoreChange, left: Journal | None
    ) -> list[RestoredShard]:
        filling = Filling(
            self._cluster,
            self._repository,
            self._contents,
            self._options,
            filled=metastore_change.filled,
            emit=self._emit,
            stop=self._stop,
        )
        there = filling.create(change)
        passing("cluster.shards-created")
        return filling.run(change, there, left)

    # --- owners -----------------------------------------------------------------------------

    def _activate(self, change: ClusterChange) -> None:
        """Every copy is there and proved: now they get readers, unless they had them."""
        self._unless_stopped()
        if not change.by_command:
            owners = [(shard.id, node.id) for shard in change.shards for node in shard.owners]
            give_owners(self._cluster, owners, emit=self._emit)
        about = databases_of(change.databases)
        now = confirmed_reading(self._cluster, about=about, stop=self._stop).metastore
        found = {p.shard_id: {o.node_id for o in p.shard.owners} for p in now.places()}
        inventory = self._cluster.inventory(now)
        silent = set[str]()
        if self._options.receipts:  # what such a node has was read back before it went away
            silent = {node for shard in change.shards for node in _addresses_of(shard)}
            silent &= inventory.silent.keys()
        for node in sorted(silent):
            what = f"{inventory.silent[node].what}; its copies were read back before"
            self._emit(Warned(f"a data node has gone away meanwhile: {what}"))
        for shard in change.shards:
            wanted = {node.id for node in shard.owners}
            there = {copy.node for copy in inventory.copies.get(shard.id, ())} | silent
            if found.get(shard.id) != wanted or not _addresses_of(shard) <= there:
                raise RestoreFailed(
                    f"shard {shard.id} did not get the owners it was to have",
                    hint="somebody else changes the cluster; run restore again",
                )

    def _continuous_queries(self) -> None:
        """One that fails is reported and does not undo the restore."""
        for database in self._plan.databases:
            for query in database.source.continuous_queries:
                if query.query not in database.continuous_queries:
                    continue
                try:
                    check_continuous_query(query.query)
                    self._cluster.meta.execute(
                        CreateContinuousQuery(database.new_name, query.name, query.query)
                    )
                except ShardkeeperError as error:
                    self._emit(
                        Warned(
                            f"a continuous query could not be created ({error.what}); run it by "
                            f"hand: {query.query}"
                        )
                    )

    # --- stopping ---------------------------------------------------------------------------

    def _unless_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped("stopped before the restore was complete")


def _addresses_of(shard: NewShard) -> set[str]:
    return {node.tcp_addr for node in shard.owners}
