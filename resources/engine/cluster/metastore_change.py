"""Make the databases of a restore in a cluster's metastore, and undo that if need be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.engine.cluster.atomic_commit import WasSet, set_metastore
from resources.engine.cluster.going_on import as_recorded, what_is_there
from resources.engine.cluster.incremental_commit import (
    ONE_BY_ONE,
    OTHER_SHARDS,
    announced_names,
    can_be_commanded,
    command_databases,
    is_busy,
    require_free_names,
    wait_until_quiet,
    what_was_commanded,
)
from resources.engine.cluster.metastore_reading import (
    MetastoreReading,
    confirmed_reading,
    databases_of,
    nodes_of,
)
from resources.engine.cluster.preconditions import (
    bring_index_up,
    check_what_was_set,
    has_all_of,
    require_free_ids,
)
from resources.engine.cluster.restore_journal import Journal, JournalFile, PolicyShape
from resources.engine.cluster.rollback import undo
from resources.engine.cluster.target_plan import (
    ClusterChange,
    draft_databases,
    plan_cluster_change,
)
from resources.engine.events import RolledBack, Warned
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.identity import identity_of
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.turn import Turn
from resources.errors import (
    PlanError,
    RestoreFailed,
    ShardkeeperError,
    StoreFailed,
    TargetBusy,
    UnknownOutcome,
)
from resources.model import Metastore, ShardID
from resources.protocol import meta_pb2 as pb
from resources.repository.formats.details import FileID
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import undisturbed

TRIES = 10
"""How often the metastore may have changed right before it is set."""


class MetastoreChange:
    """The change of one run; after it created something, the run calls `done` or `undo`."""

    def __init__(
        self,
        cluster: Cluster,
        checked: CheckedRestore,
    ) -> None:
        self._cluster = cluster
        self._checked = checked
        self._plan, self._options = checked.plan, checked.options
        self._policies: dict[str, tuple[PolicyShape, ...]] = {}
        self._emit, self._stop = checked.run.emit, checked.run.stop
        self._cluster_id = confirmed_reading(
            cluster, about=nodes_of, stop=self._stop
        ).metastore.cluster_id
        self._file = JournalFile(checked.repository.store, self._cluster_id)
        self._created: Journal | None = None
        """What is there, or may be, because of this run."""
        self._unsure = False
        """Whether it may come to be there after all."""
        self._identity = identity_of(self._plan, self._options)
        self._filled: dict[ShardID, tuple[str, ...]] = {}
        self._turn = Turn()

    def make(self, on_disk: Collection[ShardID]) -> ClusterChange:
        """Create the databases with all their shards; on the nodes' disks there is nothing yet.

        Args:
            on_disk: the shards that any node has.

        Raises:
            RestoreFailed, PlanError, WireError: some of it may be there.
        """
        if self._file.read() is not None:
            raise RestoreFailed(
                "an earlier restore from here was interrupted and is not undone",
                hint="run restore again",
            )
        draft = draft_databases(self._plan, self._options.new_replica_n)
        self._policies = {
            db.Name: tuple(
                (rp.Name, rp.Duration, rp.ShardGroupDuration) for rp in db.RetentionPolicies
            )
            for db in draft
        }
        try:
            change = self._by_command(draft) or self._by_setting(draft, on_disk)
        except BaseException:
            if self._created is None:
                self._file.remove()
            raise
        try:
            require_free_ids(self._cluster, change)
        except RestoreFailed:
            if self._created is not None:
                self._created = replace(self._created, copies={})  # those copies are not ours
            raise
        return change

    def go_on(self, left: Journal) -> ClusterChange | None:
        """Take over what a killed run of the same plan has made; None if it is not that.

        Raises:
            TargetBusy: another run has worked since its record was read.
            WireError: a node does not answer, or refuses.
        """
        draft, now = self._read_again(left)
        change = what_is_there(self._plan, draft, now, left)
        if change is not None:
            self._created, self._filled = left, dict(left.filled)
        return change

    def take_up(self, left: Journal) -> ClusterChange:
        """Take up what an earlier step of this run has made.

        Raises:
            TargetBusy: another run has worked since its record was read.
            RestoreFailed: it is not there any more.
            WireError: a node does not answer, or refuses.
        """
        draft, now = self._read_again(left)
        self._created, self._filled = left, dict(left.filled)
        change = as_recorded(self._plan, draft, now, left)
        if change is None:
            raise RestoreFailed(
                f"{left.named} is not what the restore has made; another client changed it",
                hint="launch the restore again from its start",
            )
        return change

    def _read_again(self, left: Journal) -> tuple[list[pb.DatabaseInfo], Metastore]:
        if self._file.read() != left:
            raise TargetBusy(
                "another restore from here has worked meanwhile", hint="run restore again"
            )
        draft = draft_databases(self._plan, self._options.new_replica_n)
        about = databases_of(left.databases)
        return draft, confirmed_reading(self._cluster, about=about, stop=self._stop).metastore

    def filled(self, shard_id: ShardID | None, nodes: Sequence[str] = ()) -> None:
        """Say that copies were read back; soon, and with others at once."""
        if shard_id is not None:
            self._filled[shard_id] = tuple(nodes)
        created = self._created
        if created is None or len(self._filled) == len(created.filled):
            return
        if self._turn.has_come():
            with self._turn, suppress(StoreFailed):  # then the next run reads more back
                created = replace(created, filled=dict(self._filled))
                self._file.write(created)
                self._created = created

    def proved(self, copies: Mapping[ShardID, Sequence[Receipt]]) -> None:
        """Every copy was read back: from now on a run that is killed is finished, not undone.

        Args:
            copies: what each shard was read back as, by the number that it has now.
        """
        if self._created is None:
            return
        sent = {
            shard_id: tuple({file.id for receipt in receipts for file in receipt.files})
            for shard_id, receipts in copies.items()
        }
        self._created = replace(self._created, proved=True, sent=sent)
        self._announce(self._created)

    def done(self) -> None:
        """What was made is complete."""
        self._file.remove()

    def undo(self, error: BaseException) -> None:
        """Take away what was made, because of an error; what stays is said in its notes."""
        if self._created is None:
            return
        again = "; run restore again from here, and it is taken away or finished first"
        passing("cluster.before-rollback")
        try:
            self._cluster.meta.check_may_change()
            undone = undo(self._cluster, self._created)
            passing("cluster.after-rollback")
            left = undone.notes()
            if undone.dropped:
                self._emit(RolledBack(undone.dropped))
            # Whether a command of unknown outcome comes after all, only time tells.
            keep = bool(undone.unsure) or self._unsure
            if self._unsure:
                left.append(f"whether the metastore has {self._created.named} is not known")
            if not keep:
                self._file.remove()
        except ShardkeeperError as failure:
            left = [f"what was created of {self._created.named} is left: {failure.what}"]
            keep = True
        for text in left:
            message = text + (again if keep else "")
            self._emit(Warned(message))
            error.add_note(message)

    # --- by single commands -----------------------------------------------------------------

    def _by_command(self, draft: Sequence[pb.DatabaseInfo]) -> ClusterChange | None:
        """While others change the metastore: create without setting it, if that can be done."""
        if not is_busy(self._cluster, self._stop):
            return None
        now = confirmed_reading(self._cluster, about=nodes_of, stop=self._stop).metastore
        n_nodes = len(now.data_nodes)
        if can_be_commanded(self._plan, draft, n_nodes):
            require_free_names(self._cluster, draft)
            names = replace(
                announced_names(self._cluster_id, self._plan),
                policies=self._policies,
                plan=self._identity,
            )
            self._announce(names)
            self._created = names
            reached = command_databases(self._cluster, draft)
            passing("cluster.commanded")
            now = confirmed_reading(
                self._cluster,
                about=databases_of(names.databases),
                at_least=reached,
                stop=self._stop,
            ).metastore
            change = what_was_commanded(self._plan, draft, now)
            if change is not None:
                self._created = self._record(change)
                self._announce(self._created)
                self._emit(
                    Warned(
                        "others change the metastore just now, so the databases are created by "
                        "single commands; until all is done, queries see a part of them"
                    )
                )
                return change
            self._take_back(names)
        self._emit(Warned("others change the metastore just now; waiting for a quiet moment"))
        renamed = all(database.renamed for database in self._plan.databases)
        otherwise = OTHER_SHARDS if renamed else ONE_BY_ONE
        wait_until_quiet(self._cluster, self._stop, otherwise=otherwise)
        return None

    def _take_back(self, names: Journal) -> None:
        """The cluster made other shards than the backup has."""
        undone = undo(self._cluster, names)
        if undone.notes():
            raise RestoreFailed(undone.notes()[0])
        self._file.remove()
        self._created = None

    # --- as a whole -------------------------------------------------------------------------

    def _by_setting(
        self, draft: Sequence[pb.DatabaseInfo], on_disk: Collection[ShardID]
    ) -> ClusterChange:
        """Write down what will be created, then set it if the metastore is still what it was."""
        announced: Journal | None = None
        for _ in range(TRIES):
            before = confirmed_reading(
                self._cluster, at_least=bring_index_up(self._cluster), stop=self._stop
            )
            change = plan_cluster_change(self._plan, draft, before.raw, on_disk)
            journal = self._record(change)
            if journal != announced:
                announced = journal
                self._announce(announced)
            passing("cluster.after-journal")
            with undisturbed("putting back what others changed meanwhile"):
                was = self._set(change, before, journal)
                if was is not None:
                    passing("cluster.after-metadata")
                    check_what_was_set(self._cluster, change, was, self._checked.run)
                    return change
            self._created = None
        raise PlanError(
            "a client changes the cluster's metastore each time that the restore is about to set "
            "it",
            hint=f"stop what creates databases, users or policies; {ONE_BY_ONE}",
        )

    def _set(
        self, change: ClusterChange, before: MetastoreReading, announced: Journal
    ) -> WasSet | None:
        def sending() -> None:
            self._created, self._unsure = announced, True

        try:
            was = set_metastore(
                self._cluster,
                before,
                change.meta,
                is_set=lambda seen: has_all_of(change, seen.metastore),
                sending=sending,
                stop=self._stop,
            )
        except ShardkeeperError as error:
            if not isinstance(error, UnknownOutcome):
                self._created, self._unsure = None, False
            raise
        self._unsure = False
        return was

    def _record(self, change: ClusterChange) -> Journal:
        journal = Journal.of(change, self._sent(change))
        return replace(journal, policies=self._policies, plan=self._identity)

    def _sent(self, change: ClusterChange) -> dict[ShardID, tuple[FileID, ...]]:
        """What copies will hold; of an archive with deletes that are applied, only time tells."""
        sent: dict[ShardID, tuple[FileID, ...]] = {}
        for shard in change.shards:
            if shard.restore is None:
                continue
            old_id = shard.restore.place.shard_id
            contents = self._checked.contents[old_id]
            if not self._checked.applies_deletes(old_id):
                files = (file.id for file in contents.files if file.name.endswith(".tsm"))
                sent[shard.id] = tuple(files)
        return sent

    def _announce(self, created: Journal) -> None:
        """Have a record of what is about to be created, for the case that this run is killed."""
        passing("cluster.before-journal")
        try:
            self._file.write(created)
        except StoreFailed as error:
            self._emit(
                Warned(f"{error.what}; if this restore is killed, no record says what to remove")
            )
