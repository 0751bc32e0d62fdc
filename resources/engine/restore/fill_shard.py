"""Restore one archive into a shard that the target has already (`-newshard`).

Nothing is created, so a reader may see a copy that is filled while the next one is not. Only a
copy that is empty is written to; one that holds just what the archive holds is done. So a run
that was killed is finished by the same command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import Emit, MetaRestored, Progress, ShardRestored, Warned
from resources.engine.restore.check import ArchiveContents, check_archives, left_out
from resources.engine.restore.lease import holding_lease
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.read_back import Sent, SentFile, files_there, read_back
from resources.engine.restore.receipt import NOT_READ_BACK, Receipt, Receipts, Target
from resources.engine.restore.restored import RestoredShard, RestoreReport
from resources.engine.restore.target_copies import TargetCopies
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import News, bytes_of, upload_all
from resources.errors import (
    PlanError,
    ReadBackMismatch,
    RestoreFailed,
    ShardkeeperError,
    TargetNotEmpty,
    WireError,
)
from resources.model import ShardID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository
from resources.runtime.interrupts import interruptible, undisturbed


@dataclass(frozen=True, slots=True)
class CopyThere:
    """One owner's copy of the target's shard, as it is before the restore.

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


def copies_there(target: Server | Cluster, into: ShardPlace) -> list[CopyThere]:
    """Look at every copy of a shard; caches are written to files by that, as by a backup.

    Raises:
        PlanError: a single server has it only in its metastore.
        WireError: an owner does not answer.
    """
    if isinstance(target, Server):
        if into.shard_id not in target.shards_on_disk():
            raise PlanError(
                f"shard {into.shard_id} of {target.address} is planned and not on its disk yet",
                hint="restore under a new name (-newdb), or use shardkeeper merge",
            )
        return [CopyThere(target, True, _files(target, into.shard_id))]
    return [_copy_on(target, node, into.shard_id) for node in owners_of(target, into)]


def owners_of(cluster: Cluster, into: ShardPlace) -> list[str]:
    """TCP addresses of a shard's owners, as the metastore knows them now.

    Raises:
        RestoreFailed: they are not those of the plan any more.
        WireError
    """
    _, now = cluster.metastore()
    place = next((place for place in now.places() if place.shard_id == into.shard_id), None)
    if place is None or place.shard != into.shard:
        raise RestoreFailed(
            f"shard {into.shard_id} was dropped or got other owners meanwhile",
            hint="look at it (influxd-ctl show-shards), then run the same command again",
        )
    addresses = {node.id: node.tcp_addr for node in now.data_nodes}
    return [addresses[owner.node_id] for owner in place.shard.owners]


def _copy_on(cluster: Cluster, node: str, shard_id: ShardID) -> CopyThere:
    server = Server(cluster.snapshotter(node), None)
    try:
        listed = cluster.coordinator(node).list_shards()
    except WireError as error:
        error.add_note("every owner of the shard must be up")
        raise
    exists = shard_id in listed
    return CopyThere(server, exists, _files(server, shard_id) if exists else ())


def _files(server: Server, shard_id: ShardID) -> tuple[SentFile, ...]:
    """Look twice before a shard counts as empty: a busy server leaves out what is in its cache.

    Source: influxdb 1.8, tsdb/engine/tsm1/engine.go, "Snapshotter busy".
    """
    return tuple(files_there(server, shard_id) or files_there(server, shard_id))


def require_empty(copy: CopyThere, into: ShardPlace, archive: Archive) -> None:
    """Insist that a copy is empty, or holds the files of the archive and no others.

    Raises:
        TargetNotEmpty: it does not.
    """
    details = archive.entry.details
    known = {file.id for file in details.files} if details else set[FileID]()
    if copy.files and {file.id for file in copy.files} != known:
        raise _not_empty(copy, into.shard_id)


def _not_empty(copy: CopyThere, shard_id: ShardID) -> TargetNotEmpty:
    return TargetNotEmpty(
        f"shard {shard_id} on {copy.node} is not empty: it has {len(copy.files)} files, which the "
        "upload would write over",
        hint="-newshard takes a shard without points; shardkeeper merge brings points into one "
        "that has some",
    )


def restore_into_shard(
    target: Server | Cluster,
    repository: BackupRepository,
    plan: RestorePlan,
    options: RestoreOptions,
    *,
    copies_on: Callable[[str, ShardPlace], TargetCopies],
    emit: Emit,
    stop: threading.Event | None = None,
) -> RestoreReport:
    """Carry out a plan whose `into` is a shard of the target.

    The archive is checked before the target is touched, every copy is read back from its owner.
    If a step fails, copies that this run filled are emptied again on a cluster, as long as they
    hold nothing else; a single server cannot be asked for that.

    Args:
        copies_on: what may be done with the shard's copy on a server, by its address.

    Raises:
        TargetNotEmpty: a copy holds something else.
        ShardkeeperError: the restore failed; its notes say what is left.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    receipts = Receipts(repository, plan, options, emit=emit)
    contents = check_archives(
        repository, plan.shards, keep_tombstoned=options.keep_tombstoned, emit=emit, stop=stop
    )
    version, cluster_id = target.about().version, target.metastore()[1].cluster_id
    where = Target(target.kind, target.address, version, cluster_id)
    with _alone(target, repository, stop, emit):
        shard = _Filling(target, repository, plan, contents, options, copies_on, emit, stop).run()
    path = receipts.keep([(shard.restore, shard.receipts)], where)
    seconds = time.monotonic() - began
    return RestoreReport(plan, (shard,), seconds, path, left_out(plan.shards, contents))


@contextmanager
def _alone(
    target: Server | Cluster, repository: BackupRepository, stop: threading.Event, emit: Emit
) -> Generator[None]:
    """On a cluster, no other restore works meanwhile; a single server keeps no such record."""
    if isinstance(target, Server):
        yield
        return

    def lost() -> None:
        emit(Warned("another restore took over; this one stops"))
        target.abort()

    with holding_lease(target.meta, repository.store, stop, lost=lost, emit=emit):
        yield
    target.resume()  # the lease may have been lost when all was done


class _Filling:
    """One run, step by step."""

    def __init__(
        self,
        target: Server | Cluster,
        repository: BackupRepository,
        plan: RestorePlan,
        contents: Mapping[ShardID, ArchiveContents],
        options: RestoreOptions,
        copies_on: Callable[[str, ShardPlace], TargetCopies],
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        assert plan.into is not None  # noqa: S101 - others are not carried out here
        self._target = target
        self._repository = repository
        self._into = plan.into
        [self._shard] = plan.shards
        self._contents = contents
        self._options = options
        self._copies_on = copies_on
        self._emit = emit
        self._stop = stop

    def run(self) -> RestoredShard:
        began = time.monotonic()
        copies = copies_there(self._target, self._into)
        begun = [copy for copy in copies if copy.files and not self._is_part(copy)]
        done = {copy.node: self._receipt(copy) for copy in begun}
        self._emit(MetaRestored(1, time.monotonic() - began))
        began = time.monotonic()
        empty = [copy for copy in copies if copy.node not in done]
        with undisturbed(f"emptying shard {self._into.shard_id} again"):
            try:
                with interruptible():
                    done |= self._fill(empty)
                    if isinstance(self._target, Cluster):
                        owners_of(self._target, self._into)
            except BaseException as error:
                self._stop.set()
                self._target.resume()
                self._take_back(empty, error)
                raise
        receipts = tuple(done[copy.node] for copy in copies)
        restored = RestoredShard(
            self._shard, self._into.shard_id, receipts, time.monotonic() - began
        )
        self._emit(self._event(restored, [copy.node for copy in copies]))
        return restored

    def _is_part(self, copy: CopyThere) -> bool:
        """Whether a run that was killed has left a part there, which the archive is sent over."""
        sent = self._would_send()
        return not sent.applied and {f.id for f in copy.files} < {f.id for f in sent.files}

    def _receipt(self, copy: CopyThere) -> Receipt:
        """Of a copy that an earlier run has filled.

        Raises:
            TargetNotEmpty: it holds something else.
        """
        try:
            return self._read_back(copy)
        except ReadBackMismatch:
            raise _not_empty(copy, self._into.shard_id) from None

    def _read_back(self, copy: CopyThere) -> Receipt:
        return read_back(
            copy.server, self._repository, self._shard, self._into.shard_id, self._would_send()
        )

    def _would_send(self) -> Sent:
        contents = self._contents[self._shard.place.shard_id]
        return Sent(
            [
                SentFile(file.name, file.size_bytes, file.crc32)
                for file in contents.files
                if file.name.endswith(".tsm")
            ],
            contents.files,
            contents.series,
            applied=bool(contents.tombstones) and not self._options.keep_tombstoned,
        )

    # --- filling ----------------------------------------------------------------------------

    def _fill(self, copies: Sequence[CopyThere]) -> dict[str, Receipt]:
        news = News()
        uploaders = {copy.node: self._uploader(copy, news) for copy in copies}

        def fill(copy: CopyThere) -> Receipt:
            if isinstance(self._target, Cluster) and not copy.exists:
                place = self._into
                client = self._target.coordinator(copy.node)
                client.create_shard(place.shard_id, place.database, place.policy)
            receipt, _ = uploaders[copy.node].upload(self._shard, begun=bool(copy.files))
            return receipt

        receipts = upload_all(
            fill,
            copies,
            abort=self._target.abort,
            parallel=self._options.parallel,
            stop=self._stop,
            progress=lambda _: Progress(0, 1, bytes_of(uploaders)),
            news=news,
            emit=self._emit,
        )
        return {copy.node: receipt for copy, receipt in zip(copies, receipts, strict=True)}

    def _uploader(self, copy: CopyThere, news: News) -> Uploader:
        return Uploader(
            copy.server,
            self._repository,
            {self._shard.place.shard_id: self._into.shard_id},
            self._contents,
            self._stop,
            copies=self._copies_on(copy.node, self._into),
            retried=news.retried,
            receipts=self._options.receipts,
            keep_tombstoned=self._options.keep_tombstoned,
        )

    def _event(self, restored: RestoredShard, nodes: Sequence[str]) -> ShardRestored:
        place = self._shard.place
        return ShardRestored(
            database=place.database,
            policy=place.policy,
            shard_id=place.shard_id,
            new_shard_id=restored.new_shard_id,
            nodes=tuple(nodes),
            size_bytes=self._shard.archive.entry.size_bytes,
            seconds=restored.seconds,
            read_back=restored.receipt.how != NOT_READ_BACK,
        )

    # --- taking back ------------------------------------------------------------------------

    def _take_back(self, copies: Sequence[CopyThere], error: BaseException) -> None:
        """Empty what this run may have filled; what is not surely its own stays, and is told."""
        for copy in copies:
            try:
                left = self._emptied(copy)
            except ShardkeeperError as failure:
                left = f"whether shard {self._into.shard_id} on {copy.node} was filled is not known"
                left += f" ({failure.what})"
            if left:
                message = f"{left}; the same command goes on from there"
                self._emit(Warned(message))
                error.add_note(message)

    def _emptied(self, copy: CopyThere) -> str:
        """Empty a copy; returns what is left, or nothing."""
        target, shard_id = self._target, self._into.shard_id
        if isinstance(target, Server):
            n = len(files_there(target, shard_id))
            return f"shard {shard_id} of {copy.node} holds {n} files that were sent" if n else ""
        client = target.coordinator(copy.node)
        if shard_id not in client.list_shards():
            return ""
        files = files_there(copy.server, shard_id)
        if files and not self._is_ours(copy, files):
            return f"shard {shard_id} on {copy.node} holds more than was sent, and is left so"
        if files or not copy.exists:
            client.remove_shard(shard_id)
        if files and copy.exists:
            client.create_shard(shard_id, self._into.database, self._into.policy)
        return ""

    def _is_ours(self, copy: CopyThere, files: Sequence[SentFile]) -> bool:
        """Whether a copy holds what was sent, or a part of it, and nothing else."""
        if {file.id for file in files} <= {file.id for file in self._would_send().files}:
            return True
        try:
            self._read_back(copy)
        except ReadBackMismatch:
            return False
        return True
