"""Restore one archive into a shard that the target has already (`-newshard`).

Nothing is created, so a reader may see a replica that is filled while the next one is not. Only a
replica that is empty is written to; one that holds just what the archive holds is done. So a run
that was killed is finished by the same command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from msgspec import Struct

from resources.clients.server import Server
from resources.clients.target import Target
from resources.engine.events import Progress, Run, Warned
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.plan import RestoreOptions, RestorePlan, ShardRestore
from resources.engine.restore.read_back import Sent, SentFile, files_there, read_back
from resources.engine.restore.receipt import Receipt, TargetFacts
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.step_run import JoinedRestore, RestoreInSteps
from resources.engine.restore.target import KilledRestore, NotOurs, Placement, RestoreTarget
from resources.engine.restore.target_replicas import ServerReplicas, TargetReplicas
from resources.engine.restore.target_state import TargetState
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import Upload
from resources.engine.workers.steps import StepSettings
from resources.errors import (
    PlanError,
    ReadBackMismatch,
    ShardkeeperError,
    TargetNotEmpty,
    TargetUnsuitable,
    WireError,
    counted,
)
from resources.model import Metastore, ShardID, ShardPlace
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository


class ReplicaThere(Struct, frozen=True):
    """One owner's replica of the target's shard, as it is before the restore.

    Attributes:
        server: the data node, or the single server.
        exists: whether it is on the disk at all.
        files: what it holds.
    """

    server: Server
    exists: bool
    files: tuple[SentFile, ...]

    @property
    def node(self) -> str:
        return self.server.address


class ShardReplicas(Protocol):
    """The replicas of a shard that a target has, and what may be done with them there."""

    @property
    def place(self) -> ShardPlace: ...

    def scan(self) -> list[ReplicaThere]:
        """Look at every replica; caches are written to files by that, as by a backup.

        Raises:
            TargetUnsuitable: a single server has it only in its metastore.
            RestoreFailed: see `require_owners`.
            WireError: an owner does not answer.
        """
        ...

    def alone(self, repository: BackupRepository, run: Run) -> AbstractContextManager[object]:
        """Have no other restore work there meanwhile, if the target keeps such a record."""
        ...

    def on(self, node: str) -> TargetReplicas:
        """What an upload may do on one node; the shard has owners, and perhaps writers."""
        ...

    def create(self, replica: ReplicaThere) -> None:
        """Make it, empty, if it is not on its node's disk."""
        ...

    def require_owners(self) -> None:
        """Insist that the shard is there with the owners of the plan.

        Raises:
            RestoreFailed: it was dropped or got other owners meanwhile.
            WireError: a node does not answer, or refuses.
        """
        ...

    def empty(self, replica: ReplicaThere, are_ours: Callable[[Sequence[SentFile]], bool]) -> str:
        """Empty a replica that was filled; returns what is left in it, or nothing.

        Args:
            are_ours: whether files are what was sent, or a part of it, and nothing else.
        """
        ...


class ServerShard:
    """A shard of a single server: its one replica is always there, and cannot be emptied."""

    def __init__(self, server: Server, place: ShardPlace) -> None:
        self.place = place
        self._server = server

    def scan(self) -> list[ReplicaThere]:
        shard_id = self.place.shard_id
        if shard_id not in self._server.shards_on_disk():
            raise TargetUnsuitable(
                f"shard {shard_id} of {self._server.address} is planned and not on its disk yet",
                hint="restore under a new name (-newdb), or use shardkeeper merge",
            )
        return [ReplicaThere(self._server, True, settled_files(self._server, shard_id))]

    @contextmanager
    def alone(self, repository: BackupRepository, run: Run) -> Generator[None]:
        yield

    def on(self, node: str) -> TargetReplicas:
        return ServerReplicas(self._server, None)

    def create(self, replica: ReplicaThere) -> None:
        """It is there: see `scan`."""

    def require_owners(self) -> None:
        """A single server owns all of its shards."""

    def empty(self, replica: ReplicaThere, are_ours: Callable[[Sequence[SentFile]], bool]) -> str:
        shard_id = self.place.shard_id
        n = len(files_there(self._server, shard_id))
        return (
            f"shard {shard_id} of {replica.node} holds {counted(n, 'file')} of this restore"
            if n
            else ""
        )


def settled_files(server: Server, shard_id: ShardID) -> tuple[SentFile, ...]:
    """Look twice before a shard counts as empty: a busy server leaves out what is in its cache.

    Source: influxdb 1.8, tsdb/engine/tsm1/engine.go, "Snapshotter busy".
    """
    return tuple(files_there(server, shard_id) or files_there(server, shard_id))


def require_empty(replica: ReplicaThere, into: ShardPlace, archive: Archive) -> None:
    """Insist that a replica is empty, or holds the files of the archive and no others.

    Raises:
        TargetNotEmpty: it does not.
    """
    details = archive.entry.details
    known = {file.id for file in details.files} if details else set[FileID]()
    if replica.files and {file.id for file in replica.files} != known:
        raise _not_empty(replica, into.shard_id)


def _not_empty(replica: ReplicaThere, shard_id: ShardID) -> TargetNotEmpty:
    return TargetNotEmpty(
        f"shard {shard_id} on {replica.node} is not empty: it has "
        f"{counted(len(replica.files), 'file')}, which the upload would write over",
        hint="-newshard takes a shard without points; shardkeeper merge brings points into one "
        "that has some",
    )


class ExistingShardTarget:
    """A shard of a target.

    Args:
        whole: the server or cluster that has it.
        replicas_of: the replicas of a shard there.
    """

    def __init__(
        self, whole: RestoreTarget, replicas_of: Callable[[ShardPlace], ShardReplicas]
    ) -> None:
        self._whole = whole
        self._replicas_of = replicas_of

    @property
    def connection(self) -> Target:
        return self._whole.connection

    @property
    def repository(self) -> BackupRepository:
        return self._whole.repository

    @property
    def run(self) -> Run:
        return self._whole.run

    def state(self) -> TargetState:
        return self._whole.state()

    def plan(
        self, backup: BackupSet, options: RestoreOptions, state: TargetState | None = None
    ) -> RestorePlan:
        return self._whole.plan(backup, options, state)

    def placement(
        self, plan: RestorePlan, options: RestoreOptions, state: TargetState, *, possible: bool
    ) -> Placement:
        """In the way is each replica that is not empty."""
        into = _into(plan)
        nodes = {node.id: node for node in state.metastore.data_nodes}
        owners = tuple(nodes[owner.node_id] for owner in into.shard.owners)
        conflicts: list[ShardkeeperError] = []
        try:
            for replica in self._replicas_of(into).scan():
                try:
                    require_empty(replica, into, plan.shards[0].archive)
                except TargetNotEmpty as error:
                    conflicts.append(error)
        except (PlanError, WireError) as error:
            conflicts.append(error)
        shards = {shard.place.shard_id: (into.shard_id, owners) for shard in plan.shards}
        return Placement(shards, tuple(conflicts))

    @contextmanager
    def killed(self, backup: BackupSet, options: RestoreOptions) -> Generator[KilledRestore | None]:
        """What a killed run has filled is found by looking, so there is no record of it."""
        yield None

    def left_to_steps(
        self, joined: JoinedRestore, backup: BackupSet
    ) -> AbstractContextManager[KilledRestore]:
        """None is: there is one shard."""
        return self._whole.left_to_steps(joined, backup)

    def take_back_interrupted(self) -> None:
        self._whole.take_back_interrupted()

    def more_than_sent(
        self, now: Metastore, sent: Mapping[ShardID, Collection[FileID]]
    ) -> NotOurs | None:
        return self._whole.more_than_sent(now, sent)

    @contextmanager
    def begin(self, checked: CheckedRestore) -> Generator[ShardFilling]:
        connection = self.connection
        version, cluster_id = connection.about().version, connection.metastore()[1].cluster_id
        facts = TargetFacts(connection.kind, connection.address, version, cluster_id)
        replicas = self._replicas_of(_into(checked.plan))
        with replicas.alone(self.repository, self.run):
            yield ShardFilling(checked, facts, replicas, connection.abort)


def _into(plan: RestorePlan) -> ShardPlace:
    assert plan.into is not None  # noqa: S101 - options with a shard to restore into lead here
    return plan.into


class ShardFilling:
    """The steps of a restore into a shard that is there.

    Whatever step fails, undoing it is one thing: the replicas that were filled are emptied again on
    a cluster, as long as they hold nothing else; a single server cannot be asked for that.

    Args:
        abort: breaks off what is under way, from any thread.
    """

    def __init__(
        self,
        checked: CheckedRestore,
        facts: TargetFacts,
        replicas: ShardReplicas,
        abort: Callable[[], None],
    ) -> None:
        self.facts = facts
        self.undoing = f"emptying shard {replicas.place.shard_id} again"
        self._checked = checked
        self._replicas = replicas
        self._abort = abort
        [self._shard] = checked.plan.shards
        self._into = replicas.place
        self._there: list[ReplicaThere] = []
        self._empty: list[ReplicaThere] = []
        self._done: dict[str, Receipt] = {}
        self._restored: RestoredShard | None = None

    @contextmanager
    def on_record(self) -> Generator[None]:
        """No record is needed: the next run looks at what is there."""
        yield

    def create(self) -> int:
        """Nothing is created; what is there is looked at.

        Raises:
            TargetNotEmpty: a replica holds something else than the archive.
        """
        self._there = self._replicas.scan()
        begun = [one for one in self._there if one.files and not self._is_part(one)]
        self._done = {one.node: self._receipt(one) for one in begun}
        return 1

    def leave(self, settings: StepSettings, began_ns: int) -> RestoreInSteps | None:
        """It is one shard."""
        return None

    def upload(self) -> list[RestoredShard]:
        """Fill the replicas that are empty."""
        began = time.monotonic()
        self._empty = [one for one in self._there if one.node not in self._done]
        upload = ReplicaUpload(self._checked, self._shard, self._replicas, self._abort)
        receipts = upload.send_all(self._empty)
        self._done |= {one.node: got for one, got in zip(self._empty, receipts, strict=True)}
        self._restored = RestoredShard(
            self._shard,
            self._into.shard_id,
            tuple(self._done[one.node] for one in self._there),
            time.monotonic() - began,
        )
        return [self._restored]

    def activate(self, shards: Sequence[RestoredShard]) -> None:
        """Its readers were there before; whether they are the same is looked at."""
        self._replicas.require_owners()

    def complete(self) -> None:
        """There is no record that would say so."""

    def finish(self) -> None:
        if self._restored is not None:
            event = self._restored.event([one.node for one in self._there])
            self._checked.run.emit(event)

    def undo(self, error: BaseException) -> None:
        """Empty what this run may have filled; what is not surely its own stays, and is named."""
        for replica in self._empty:
            try:
                left = self._replicas.empty(
                    replica, lambda files, r=replica: self._are_ours(r, files)
                )
            except ShardkeeperError as failure:
                left = (
                    f"whether shard {self._into.shard_id} on {replica.node} was filled is not known"
                    f" ({failure.what})"
                )
            if left:
                message = f"{left}; the same command goes on from there"
                self._checked.run.emit(Warned(message))
                error.add_note(message)

    def _are_ours(self, replica: ReplicaThere, files: Sequence[SentFile]) -> bool:
        """Whether a replica holds what was sent, or a part of it, and nothing else."""
        if {file.id for file in files} <= {file.id for file in self._would_send().files}:
            return True
        try:
            self._read_back(replica)
        except ReadBackMismatch:
            return False
        return True

    def _is_part(self, replica: ReplicaThere) -> bool:
        """Whether a run that was killed has left a part there, which the archive is sent over."""
        sent = self._would_send()
        return not sent.applied and {f.id for f in replica.files} < {f.id for f in sent.files}

    def _receipt(self, replica: ReplicaThere) -> Receipt:
        """Of a replica that an earlier run has filled.

        Raises:
            TargetNotEmpty: it holds something else.
        """
        try:
            return self._read_back(replica)
        except ReadBackMismatch:
            raise _not_empty(replica, self._into.shard_id) from None

    def _read_back(self, replica: ReplicaThere) -> Receipt:
        repository = self._checked.repository
        sent = self._would_send()
        return read_back(replica.server, repository, self._shard, self._into.shard_id, sent)

    def _would_send(self) -> Sent:
        shard_id = self._shard.place.shard_id
        contents = self._checked.contents[shard_id]
        return Sent(
            [
                SentFile(file.name, file.size_bytes, file.crc32)
                for file in contents.files
                if file.name.endswith(".tsm")
            ],
            contents.files,
            contents.series,
            applied=self._checked.applies_deletes(shard_id),
        )


class ReplicaUpload(Upload[ReplicaThere, Receipt]):
    """Sends one archive to each replica that is empty."""

    def __init__(
        self,
        checked: CheckedRestore,
        shard: ShardRestore,
        replicas: ShardReplicas,
        abort: Callable[[], None],
    ) -> None:
        super().__init__(checked, abort)
        self._shard = shard
        self._replicas = replicas
        self._uploaders: dict[str, Uploader] = {}

    def send_all(self, items: Sequence[ReplicaThere]) -> list[Receipt]:
        ids = {self._shard.place.shard_id: self._replicas.place.shard_id}
        for one in items:
            on_node = self._replicas.on(one.node)
            uploader = Uploader(one.server, self.checked, ids, on_node, self.news.retried)
            self._uploaders[one.node] = uploader
        return super().send_all(items)

    def send(self, item: ReplicaThere) -> Receipt:
        self._replicas.create(item)
        receipt, _ = self._uploaders[item.node].upload(self._shard, begun=bool(item.files))
        return receipt

    def progress(self, n_sent: int) -> Progress:
        return Progress(0, 1, sum(uploader.bytes_done for uploader in self._uploaders.values()))
