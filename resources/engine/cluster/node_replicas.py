"""A data node's replicas while a restore fills them: one that is there in part is made anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from resources.clients.cluster import Cluster
from resources.engine.cluster.own_shards import more_than_sent
from resources.engine.restore.read_back import SentFile
from resources.errors import ConnectionCut, UnknownOutcome
from resources.model import ShardID
from resources.repository.formats.details import FileID

REMOVALS = 4


class NodeReplicas:
    """Those of one data node.

    Args:
        node: its TCP address.
        places: database and policy of each shard that may be made anew.
        owned: whether the shards have owners already, so that others may have written to them.
        check_may_send: see `TargetReplicas`; whether the lease is held each client of the cluster
            checks by itself.
    """

    def __init__(
        self,
        cluster: Cluster,
        node: str,
        places: Mapping[ShardID, tuple[str, str]],
        *,
        owned: bool,
        check_may_send: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_may_send = check_may_send
        self._cluster = cluster
        self._node = node
        self._places = places
        self._owned = owned

    def has(self, shard_id: ShardID) -> bool:
        return shard_id in self._cluster.coordinator(self._node).list_shards()

    def is_away(self) -> bool:
        return self._cluster.peer(self._node).why_away is not None

    def check_may_send(self) -> None:
        self._check_may_send()

    def make_ready(
        self, shard_id: ShardID, files: Sequence[SentFile], ours: Collection[FileID]
    ) -> str:
        if self._owned:
            more = more_than_sent(self._cluster, self._node, shard_id, ours)
            if more is not None:
                return more.why
        self._check_may_send()
        client = self._cluster.coordinator(self._node)
        for removal in range(1, REMOVALS + 1):
            try:
                client.remove_shard(shard_id)
                break
            except (UnknownOutcome, ConnectionCut):
                if shard_id not in client.list_shards():
                    break
                if removal == REMOVALS:
                    raise
        client.create_shard(shard_id, *self._places[shard_id])
        return ""
