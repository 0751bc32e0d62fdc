"""Make and fill every replica of the shards that a restore has put into a cluster's metastore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.node_replicas import NodeReplicas
from resources.engine.cluster.restore_journal import Journal
from resources.engine.cluster.target_plan import ClusterChange, NewShard
from resources.engine.events import Progress, RestoreGoesOn, ShardRestored
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.postponed import Postponed, Postponing
from resources.engine.restore.read_back import receipt_of
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import Upload
from resources.errors import WireError
from resources.model import ShardID
from resources.protocol.meta_api import OwnerStatus
from resources.runtime.workers import each_in_threads

NODES_AT_ONCE = 4

There = Mapping[str, Mapping[ShardID, OwnerStatus]]
"""What data nodes had on their disks before this run made anything, by TCP address."""


class ClusterUpload(Upload[NewShard, RestoredShard]):
    """Fills the shards of one restore.

    Args:
        filled: told of each shard whose replicas were all read back, by its number and their nodes;
            and without a number once a second when nothing ends.
    """

    def __init__(
        self,
        cluster: Cluster,
        checked: CheckedRestore,
        change: ClusterChange,
        filled: Callable[[ShardID | None, Sequence[str]], None],
    ) -> None:
        super().__init__(checked, cluster.abort)
        self._cluster = cluster
        self._change = change
        self._filled = filled
        self._shards = [shard for shard in change.shards if shard.restore is not None]
        self._there: There = {}
        self._goes_on = False
        self._kept: dict[tuple[ShardID, str], Receipt] = {}
        self._tried = set[tuple[ShardID, str]]()
        self._uploaders = {
            node.tcp_addr: self._uploader(node.tcp_addr)
            for shard in change.shards
            for node in shard.owners
        }

    def create(self) -> None:
        """Make every replica that is not there, empty."""
        stop = self.checked.run.stop
        nodes = sorted({node.tcp_addr for shard in self._change.shards for node in shard.owners})

        def create_on(node: str) -> Mapping[ShardID, OwnerStatus]:
            client = self._cluster.coordinator(node)
            before = client.list_shards()
            missing = list(self._missing_on(node, before))
            if missing:
                client.create_shards(self._unless_stopped_each(missing))
            return before

        before = each_in_threads(
            create_on, nodes, parallel=NODES_AT_ONCE, name="create", give_up=stop.set
        )
        self._there = dict(zip(nodes, before, strict=True))

    def _missing_on(
        self, node: str, before: Mapping[ShardID, OwnerStatus]
    ) -> Iterator[tuple[ShardID, str, str]]:
        for shard in self._change.shards:
            if shard.id not in before and any(owner.tcp_addr == node for owner in shard.owners):
                yield shard.id, shard.database, shard.policy

    def _unless_stopped_each(
        self, wanted: Sequence[tuple[ShardID, str, str]]
    ) -> Iterator[tuple[ShardID, str, str]]:
        for one in wanted:
            self.checked.check()
            yield one

    def run(self, left: Journal | None) -> list[RestoredShard]:
        """Fill the replicas that are not proved yet; returns all shards, in their order.

        Args:
            left: the record of the killed run that is gone on with.
        """
        self._goes_on = left is not None
        if left is not None:
            for shard in self._shards:
                self._kept |= _kept(shard, self._uploaders, self._there, left)
            whole = [s for s in self._shards if all((s.id, n) in self._kept for n in _nodes_of(s))]
            self.checked.run.emit(RestoreGoesOn(len(whole), len(self._shards)))
        return self.send_all(self._shards)

    def send(self, item: NewShard) -> RestoredShard:
        assert item.restore is not None  # noqa: S101 - only those are given
        began = time.monotonic()
        receipts = tuple(self._send_to(node, item, item.restore) for node in _nodes_of(item))
        return RestoredShard(item.restore, item.id, receipts, time.monotonic() - began)

    def _send_to(self, node: str, shard: NewShard, restore: ShardRestore) -> Receipt:
        if (shard.id, node) in self._kept:
            return self._kept[shard.id, node]
        status = self._there[node].get(shard.id) if self._goes_on else None
        begun = status is not None and not status.has_only(0)
        begun = begun or (shard.id, node) in self._tried
        try:
            receipt = self._uploaders[node].upload(restore, begun=begun)[0]
        except WireError as error:
            if self._cluster.peer(node).why_away is None or self.checked.run.stop.is_set():
                raise
            self._tried.add((shard.id, node))
            raise Postponed(node, error) from None
        self._kept[shard.id, node] = receipt
        return receipt

    def progress(self, n_sent: int) -> Progress:
        sent = sum(uploader.bytes_done for uploader in self._uploaders.values())
        return Progress(n_sent, len(self._shards), sent)

    def ended(self, item: NewShard, result: RestoredShard) -> ShardRestored:
        if all(receipt.how == "identical" for receipt in result.receipts):
            self._filled(result.new_shard_id, [receipt.node for receipt in result.receipts])
        return result.event(_nodes_of(item))

    def nothing_ended(self) -> None:
        self._filled(None, ())

    def postponing(self) -> Postponing[NewShard]:
        return Postponing(self._cluster.peer, _nodes_of, self.checked.run)

    def _uploader(self, node: str) -> Uploader:
        change = self._change
        places = {shard.id: (shard.database, shard.policy) for shard in change.shards}
        return Uploader(
            Server(self._cluster.snapshotter(node), None),
            self.checked,
            change.ids,
            NodeReplicas(self._cluster, node, places, owned=change.by_command),
            self.news.retried,
        )


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
        if sent.files and status is not None and status.has_only(size_bytes):
            found[shard.id, node] = receipt_of(uploaders[node].server, shard.id, sent, "identical")
    return found
