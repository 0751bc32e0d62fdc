"""Make and fill every replica of the shards that a restore has put into a cluster's metastore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from resources.clients.cluster import Cluster
from resources.clients.peers import Peer
from resources.clients.server import Server
from resources.engine.cluster.node_replicas import NodeReplicas
from resources.engine.cluster.restore_journal import Journal
from resources.engine.cluster.target_plan import ClusterChange, NewShard
from resources.engine.events import RestoreGoesOn
from resources.engine.restore.batch import ClusterPlace, RestoreBatch, ShardFilled, ToFill
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.filling import Filling, Place
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.read_back import receipt_of
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.target_replicas import TargetReplicas
from resources.engine.restore.upload import would_send
from resources.model import ShardID
from resources.protocol.meta_api import OwnerStatus
from resources.runtime.workers import each_in_threads

NODES_AT_ONCE = 4

There = Mapping[str, Mapping[ShardID, OwnerStatus]]
"""What data nodes had on their disks before this run made anything, by TCP address."""


class ClusterNodes:
    """The data nodes of a cluster, as shards are sent to them."""

    nodes_may_be_away = True

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def server(self, node: str) -> Server:
        return Server(self._cluster.snapshotter(node), None)

    def peer(self, node: str) -> Peer:
        return self._cluster.peer(node)

    def replicas(
        self, node: str, batch: RestoreBatch, check_may_send: Callable[[], None]
    ) -> TargetReplicas:
        assert isinstance(batch.place, ClusterPlace)  # noqa: S101 - its other process has said so
        places = {one.new_id: (one.restore.database, one.restore.policy) for one in batch.shards}
        return NodeReplicas(
            self._cluster,
            node,
            places,
            owned=batch.place.owned,
            check_may_send=check_may_send,
        )

    def abort(self) -> None:
        self._cluster.abort()


class ClusterUpload:
    """Fills the shards of one restore.

    Args:
        filled: told of each shard whose replicas were all read back, by its number and their nodes;
            and without a number once a second when nothing ends.
        lease: as `WorkerSpec.lease`.
    """

    def __init__(
        self,
        cluster: Cluster,
        checked: CheckedRestore,
        change: ClusterChange,
        filled: Callable[[ShardID | None, Sequence[str]], None],
        lease: Callable[[], tuple[int, float]],
    ) -> None:
        self.checked = checked
        self._cluster = cluster
        self._change = change
        self._filled = filled
        self._lease = lease
        self._there: There = {}

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
        return self.filling().fill(self.to_fill(left))

    def to_fill(self, left: Journal | None) -> list[ToFill]:
        """The shards and their replicas, those included that are proved; `left` as in `run`."""
        items = [
            self._to_fill(shard, shard.restore, left)
            for shard in self._change.shards
            if shard.restore is not None
        ]
        if left is not None:
            whole = [item for item in items if not item.left]
            self.checked.run.emit(RestoreGoesOn(len(whole), len(items)))
        return items

    def filling(self) -> Filling:
        """What fills them."""
        place = Place(
            ClusterNodes(self._cluster),
            ClusterPlace(self._change.by_command),
            self._cluster.reached_by,
            f"{self._change.before.cluster_id:x}",
            self._lease(),
        )
        return Filling(
            self.checked, place, on_filled=self._on_filled, idle=lambda: self._filled(None, ())
        )

    def _to_fill(self, shard: NewShard, restore: ShardRestore, left: Journal | None) -> ToFill:
        nodes = tuple(owner.tcp_addr for owner in shard.owners)
        if left is None:
            return ToFill(restore, shard.id, nodes)
        statuses = {node: self._there[node].get(shard.id) for node in nodes}
        begun = {node for node, one in statuses.items() if one is not None and not one.has_only(0)}
        kept = self._kept(shard.id, restore, nodes, left)
        return ToFill(restore, shard.id, nodes, frozenset(begun), kept)

    def _on_filled(self, item: ToFill, filled: ShardFilled) -> None:
        if all(receipt.how == "identical" for receipt in filled.receipts.values()):
            self._filled(item.new_id, [receipt.node for receipt in filled.receipts.values()])

    def _kept(
        self, shard_id: ShardID, restore: ShardRestore, nodes: Sequence[str], left: Journal
    ) -> dict[str, Receipt]:
        """Copies that the killed run has proved and that are as many bytes as then."""
        found: dict[str, Receipt] = {}
        if left.by_command:
            return found  # they have owners, and so perhaps writers
        sent = would_send(self.checked, restore)
        size_bytes = sum(file.size_bytes for file in sent.files)
        for node in set(left.filled.get(shard_id, ())) & set(nodes):
            status = self._there[node].get(shard_id)
            if sent.files and status is not None and status.has_only(size_bytes):
                server = Server(self._cluster.snapshotter(node), None)
                found[node] = receipt_of(server, shard_id, sent, "identical")
        return found
