"""Make the databases of a restore in a cluster's metastore, and undo that if need be."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace

from resources.clients.cluster import Cluster
from resources.engine.cluster.by_command import (
    ONE_BY_ONE,
    OTHER_SHARDS,
    announced_names,
    can_be_commanded,
    command_databases,
    is_busy,
    refuse_taken_names,
    wait_until_quiet,
    what_was_commanded,
)
from resources.engine.cluster.guards import (
    bring_index_up,
    look_at_what_was_set,
    refuse_taken_ids,
    set_metastore,
)
from resources.engine.cluster.journal import Journal, JournalFile
from resources.engine.cluster.rollback import undo
from resources.engine.cluster.target_plan import (
    ClusterChange,
    draft_databases,
    plan_cluster_change,
)
from resources.engine.events import RolledBack, Tell, Warned
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.errors import RestoreFailed, ShardkeeperError, StoreFailed, UnknownOutcome
from resources.failpoints import passing
from resources.model import ShardID
from resources.protocol import meta_pb2 as pb
from resources.repository.store import Store


class Making:
    """One run; whoever made something calls `done` or `undo` afterwards."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        plan: RestorePlan,
        options: RestoreOptions,
        tell: Tell,
        stop: threading.Event,
    ) -> None:
        self._cluster = cluster
        self._plan = plan
        self._options = options
        self._tell = tell
        self._stop = stop
        self._cluster_id = cluster.metastore()[1].cluster_id
        self._file = JournalFile(store, self._cluster_id)
        self._created: Journal | None = None
        """What is there, or may be, because of this run."""
        self._unsure = False
        """Whether it may come to be there after all."""

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
        try:
            change = self._by_command(draft) or self._by_setting(draft, on_disk)
        except BaseException:
            if self._created is None:
                self._file.remove()
            raise
        try:
            refuse_taken_ids(self._cluster, change)
        except RestoreFailed:
            if self._created is not None:
                self._created = replace(self._created, copies={})  # those copies are not ours
            raise
        return change

    def done(self) -> None:
        """What was made is complete."""
        self._file.remove()

    def undo(self, error: BaseException) -> None:
        """Take away what was made, because of an error; what stays is said in its notes."""
        if self._created is None:
            return
        again = "; run restore again from here, and it is taken away first"
        passing("cluster.before-rollback")
        try:
            undone = undo(self._cluster, self._created)
            passing("cluster.after-rollback")
            left = undone.left()
            if undone.dropped:
                self._tell(RolledBack(undone.dropped))
            # Whether a command of unknown outcome comes after all, only time tells.
            keep = bool(undone.unreached) or self._unsure
            if self._unsure:
                left.append("whether the metastore was changed is not known")
            if not keep:
                self._file.remove()
        except ShardkeeperError as failure:
            left, keep = [f"what was created is left: {failure.what}"], True
        for text in left:
            said = text + (again if keep else "")
            self._tell(Warned(said))
            error.add_note(said)

    # --- by single commands -----------------------------------------------------------------

    def _by_command(self, draft: Sequence[pb.DatabaseInfo]) -> ClusterChange | None:
        """While others change the metastore: create without setting it, if that can be done."""
        if not is_busy(self._cluster, self._stop):
            return None
        n_nodes = len(self._cluster.metastore()[1].data_nodes)
        if can_be_commanded(self._plan, draft, n_nodes):
            refuse_taken_names(self._cluster, draft)
            names = announced_names(self._cluster_id, self._plan)
            self._announce(names)
            self._created = names
            command_databases(self._cluster, draft)
            change = what_was_commanded(self._plan, draft, self._cluster.metastore()[1])
            if change is not None:
                self._created = Journal.of(change)
                self._announce(self._created)
                self._tell(
                    Warned(
                        "others change the metastore just now, so the databases are created by "
                        "single commands; until all is done, queries see a part of them"
                    )
                )
                return change
            self._take_back(names)
        self._tell(Warned("others change the metastore just now; waiting for a quiet moment"))
        renamed = all(database.renamed for database in self._plan.databases)
        otherwise = OTHER_SHARDS if renamed else ONE_BY_ONE
        wait_until_quiet(self._cluster, self._stop, otherwise=otherwise)
        return None

    def _take_back(self, names: Journal) -> None:
        """The cluster made other shards than the backup has."""
        undone = undo(self._cluster, names)
        if undone.left():
            raise RestoreFailed(undone.left()[0])
        self._file.remove()
        self._created = None

    # --- as a whole -------------------------------------------------------------------------

    def _by_setting(
        self, draft: Sequence[pb.DatabaseInfo], on_disk: Collection[ShardID]
    ) -> ClusterChange:
        """Write down what will be created, then plan it once more against what is there now."""
        announced: Journal | None = None
        while True:
            bring_index_up(self._cluster)
            raw, _ = self._cluster.metastore()
            change = plan_cluster_change(self._plan, draft, raw, on_disk)
            if Journal.of(change) == announced:
                break
            announced = Journal.of(change)
            self._announce(announced)
        passing("cluster.after-journal")
        try:
            index = set_metastore(self._cluster, change, self._stop)
        except ShardkeeperError as error:
            if isinstance(error, UnknownOutcome):
                self._created, self._unsure = announced, True
            raise
        except BaseException:
            self._created, self._unsure = announced, True
            raise
        self._created = announced
        passing("cluster.after-metadata")
        look_at_what_was_set(self._cluster, change, index, tell=self._tell)
        return change

    def _announce(self, created: Journal) -> None:
        """Have a record of what is about to be created, for the case that this run is killed."""
        passing("cluster.before-journal")
        try:
            self._file.write(created)
        except StoreFailed as error:
            self._tell(
                Warned(
                    f"{error.what}; if this restore is killed, nobody will know what to take away"
                )
            )
