"""Make and fill every copy of the shards that a restore has put into a cluster's metastore."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.node_copies import NodeCopies
from resources.engine.cluster.restore_journal import Journal
from resources.engine.cluster.target_plan import ClusterChange, NewShard
from resources.engine.events import Emit, Progress, RestoreGoesOn, ShardRestored
from resources.engine.restore.check import ArchiveContents
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.postponed import Postponed, Postponing
from resources.engine.restore.read_back import receipt_of
from resources.engine.restore.receipt import NOT_READ_BACK, Receipt
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import News, bytes_of, upload_all
from resources.engine.threads import each_in_threads
from resources.errors import Stopped, WireError
from resources.model import ShardID
from resources.protocol.meta_api import OwnerStatus
from resources.repository.repository import BackupRepository

NODES_AT_ONCE = 4

There = Mapping[str, Mapping[ShardID, OwnerStatus]]
"""What data nodes had on their disks before this run made anything, by TCP address."""


class Filling:
    """Fills the shards of one restore.

    Args:
        filled: told of each shard whose copies were all read back, by its number and their nodes;
            and without a number once a second when nothing ends.
    """

    def __init__(
        self,
        cluster: Cluster,
        repository: BackupRepository,
        contents: Mapping[ShardID, ArchiveContents],
        options: RestoreOptions,
        *,
        filled: Callable[[ShardID | None, Sequence[str]], None],
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        self._cluster = cluster
        self._repository = repository
        self._contents = contents
        self._options = options
        self._filled = filled
        self._emit = emit
        self._stop = stop
        self._news = News()

    def create(self, change: ClusterChange) -> There:
        """Make every copy that is not there, empty; returns what was there before."""
        nodes = sorted({node.tcp_addr for shard in change.shards for node in shard.owners})

        def create_on(node: str) -> Mapping[ShardID, OwnerStatus]:
            client = self._cluster.coordinator(node)
            before = client.list_shards()
            missing = list(self._missing_on(node, change, before))
            if missing:
                client.create_shards(self._unless_stopped_each(missing))
            return before

        before = each_in_threads(
            create_on, nodes, parallel=NODES_AT_ONCE, name="create", give_up=self._stop.set
        )
        return dict(zip(nodes, before, strict=True))

    def _missing_on(
        self, node: str, change: ClusterChange, before: Mapping[ShardID, OwnerStatus]
    ) -> Iterator[tuple[ShardID, str, str]]:
        for shard in change.shards:
            if shard.id not in before and any(owner.tcp_addr == node for owner in shard.owners):
                yield shard.id, shard.database, shard.policy

    def _unless_stopped_each(
        self, wanted: Sequence[tuple[ShardID, str, str]]
    ) -> Iterator[tuple[ShardID, str, str]]:
        for one in wanted:
            if self._stop.is_set():
                raise Stopped("stopped before the restore was complete")
            yield one

    def run(self, change: ClusterChange, there: There, left: Journal | None) -> list[RestoredShard]:
        """Fill the copies that are not proved yet; returns all shards, in their order.

        Args:
            there: what `create` has returned.
            left: the record of the killed run that is gone on with.
        """
        uploaders = {
            node.tcp_addr: self._uploader(change, node.tcp_addr)
            for shard in change.shards
            for node in shard.owners
        }
        shards = [shard for shard in change.shards if shard.restore is not None]
        kept: dict[tuple[ShardID, str], Receipt] = {}
        tried = set[tuple[ShardID, str]]()
        if left is not None:
            for shard in shards:
                kept |= _kept(shard, uploaders, there, left)
            whole = [s for s in shards if all((s.id, o.tcp_addr) in kept for o in s.owners)]
            self._emit(RestoreGoesOn(len(whole), len(shards)))

        def copy(shard: NewShard, node: str) -> Receipt:
            assert shard.restore is not None  # noqa: S101 - only those are given
            if (shard.id, node) in kept:
                return kept[shard.id, node]
            status = there[node].get(shard.id) if left is not None else None
            begun = (status is not None and status.size_bytes != 0) or (shard.id, node) in tried
            try:
                receipt = uploaders[node].upload(shard.restore, begun=begun)[0]
            except WireError as error:
                if not self._is_away(node) or self._stop.is_set():
                    raise
                tried.add((shard.id, node))
                raise Postponed(node, error) from None
            kept[shard.id, node] = receipt
            return receipt

        def fill(shard: NewShard) -> RestoredShard:
            assert shard.restore is not None  # noqa: S101 - only those are given
            began = time.monotonic()
            receipts = tuple(copy(shard, owner.tcp_addr) for owner in shard.owners)
            return RestoredShard(shard.restore, shard.id, receipts, time.monotonic() - began)

        return upload_all(
            fill,
            shards,
            abort=self._cluster.abort,
            parallel=self._options.parallel,
            stop=self._stop,
            progress=lambda done: Progress(done, len(shards), bytes_of(uploaders)),
            news=self._news,
            proved=self._note,
            event=lambda shard, restored: _event(restored, shard),
            postponing=Postponing(self._cluster.peer, _nodes_of, emit=self._emit, stop=self._stop),
            emit=self._emit,
        )

    def _is_away(self, node: str) -> bool:
        return self._cluster.peer(node).why_away is not None

    def _uploader(self, change: ClusterChange, node: str) -> Uploader:
        places = {shard.id: (shard.database, shard.policy) for shard in change.shards}
        return Uploader(
            Server(self._cluster.snapshotter(node), None),
            self._repository,
            change.ids,
            self._contents,
            self._stop,
            copies=NodeCopies(self._cluster, node, places, owned=change.by_command),
            retried=self._news.retried,
            is_away=partial(self._is_away, node),
            receipts=self._options.receipts,
            keep_tombstoned=self._options.keep_tombstoned,
        )

    def _note(self, restored: RestoredShard | None) -> None:
        if restored is None:
            self._filled(None, ())
        elif all(receipt.how == "identical" for receipt in restored.receipts):
            self._filled(restored.new_shard_id, [r.node for r in restored.receipts])


def _nodes_of(shard: NewShard) -> Sequence[str]:
    return [owner.tcp_addr for owner in shard.owners]


def _kept(
    shard: NewShard, uploaders: Mapping[str, Uploader], there: There, left: Journal
) -> dict[tuple[ShardID, str], Receipt]:
    """Copies that the killed run has proved and that are as many bytes as then."""
    assert shard.restore is not None  # noqa: S101 - only those are given
    found: dict[tuple[ShardID, str], Receipt] = {}
    if left.by_command:
        return found  # they have owners, and so perhaps writers
    for node in set(left.filled.get(shard.id, ())) & {owner.tcp_addr for owner in shard.owners}:
        sent = uploaders[node].would_send(shard.restore)
        status = there[node].get(shard.id)
        size_bytes = sum(file.size_bytes for file in sent.files)
        if sent.files and status is not None and status.size_bytes == size_bytes:
            found[shard.id, node] = receipt_of(uploaders[node].server, shard.id, sent, "identical")
    return found


def _event(restored: RestoredShard, shard: NewShard) -> ShardRestored:
    place = restored.restore.place
    return ShardRestored(
        database=place.database,
        policy=place.policy,
        shard_id=place.shard_id,
        new_shard_id=shard.id,
        nodes=tuple(node.tcp_addr for node in shard.owners),
        size_bytes=restored.restore.archive.entry.size_bytes,
        seconds=restored.seconds,
        read_back=restored.receipt.how != NOT_READ_BACK,
    )
