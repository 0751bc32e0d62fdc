"""The database that a merge copies from: restored beside the live one, dropped at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.own_shards import shards_of
from resources.engine.events import Run, TemporaryDropped, Warned
from resources.engine.merge.http_endpoints import HttpEndpoints
from resources.engine.merge.merge_journal import MergeJournal
from resources.engine.merge.merge_plan import MergeOptions, MergePlan
from resources.engine.merge.own_database import not_ours
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import carry_out
from resources.engine.restore.target import NotOurs
from resources.engine.restore_target import restore_target
from resources.errors import RestoreFailed
from resources.model import Metastore, ShardID
from resources.protocol.influxql import quote_identifier
from resources.repository.repository import BackupRepository


class TemporaryDatabase:
    """The database that a journal names; one of the same name that is not ours is never dropped.

    Args:
        check_alone: called right before a drop; raises if another merge has taken this one's
            place.
    """

    def __init__(
        self,
        journal: MergeJournal,
        target: Server | Cluster,
        repository: BackupRepository,
        endpoints: HttpEndpoints,
        *,
        run: Run,
        check_alone: Callable[[], None],
    ) -> None:
        self._check_alone = check_alone
        self._journal = journal
        self._name = journal.temporary
        self._target = target
        self._endpoints = endpoints
        self._emit = run.emit
        self._restore_target = restore_target(target, repository, run)

    def shards(self) -> set[ShardID] | None:
        """Its shards on the target; None if it does not exist.

        Raises:
            WireError: the target does not answer.
        """
        database = self._target.metastore()[1].database(self._name)
        return None if database is None else shards_of(database)

    def restore(self, plan: MergePlan, options: MergeOptions) -> RestoreReport:
        """Create it and fill it from the backup.

        Raises:
            ShardkeeperError: as `carry_out`.
        """
        quiet = replace(plan.restore, notes=())
        return carry_out(self._restore_target, quiet, options.restore_options(self._name))

    def clear_away(self) -> NotOurs | None:
        """Drop what an earlier run created, also if that run was killed in a restore.

        Returns why a database of its name stays.

        Raises:
            ShardkeeperError: as `drop`.
        """
        self._restore_target.take_back_interrupted()
        return self.drop()

    def clear_away_or_leave(self) -> None:
        """Drop it if it is ours; else warn.

        Raises:
            RestoreFailed: a node does not answer, so it is not known whether it is ours.
            ShardkeeperError: as `drop`.
        """
        left = self.clear_away()
        if left is None:
            return
        if not left.known:
            raise left_there(self._journal, left, "run this again when that node answers")
        self._emit(
            Warned(
                f"database {self._name} has the name that an unfinished merge had noted, and is "
                f"left there: {left.why}; inspect it, and drop it by hand if it is not needed"
            )
        )

    def drop(self) -> NotOurs | None:
        """Drop it on all nodes, and verify that it is gone.

        Returns why a database of its name stays; None if there is none.

        Raises:
            RestoreFailed: it was dropped and still exists.
            RepositoryLocked: another merge has taken this one's place.
            UsageError: an endpoint belongs to another target: it lists other shards.
            WireError: the target does not answer.
            Stopped: `stop` was set.
        """
        _, now = self._target.metastore()
        there = now.database(self._name)
        if there is None:
            return None
        journal = self._journal
        why = not_ours(self._restore_target, now, there, shards=journal.shards, made=journal.made)
        if why is not None:
            return why
        ids = shards_of(there)
        self._endpoints.check_shards(self._target, self._name, ids)
        self._check_alone()
        self._endpoints.query(f"DROP DATABASE {quote_identifier(self._name)}")
        _, now = self._target.metastore()
        if now.database(self._name) is not None:
            raise RestoreFailed(
                f"{self._name} was dropped and is still there",
                hint="drop it by hand: DROP DATABASE",
            )
        self._warn_of_left_copies(now, ids)
        self._emit(TemporaryDropped(self._name))
        return None

    def _warn_of_left_copies(self, now: Metastore, ids: Collection[ShardID]) -> None:
        inventory = self._target.inventory(now)
        for node in inventory.silent:
            self._emit(
                Warned(f"{node} does not answer; copies of the temporary shards may be left there")
            )
        left = {
            (copy.node, shard_id) for shard_id in ids for copy in inventory.copies.get(shard_id, ())
        }
        for node, shard_id in sorted(left)[:10]:
            self._emit(Warned(f"{node} still has a copy of temporary shard {shard_id}"))


def left_there(journal: MergeJournal, left: NotOurs, then: str) -> RestoreFailed:
    """An error about a database that may belong to another client."""
    return RestoreFailed(
        f"database {journal.temporary} is left there: {left.why}",
        hint=f"inspect it, and drop it by hand if it is not needed; {then}",
    )
