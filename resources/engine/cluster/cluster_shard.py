"""A shard that a cluster has already, as the target of a restore (`-newshard`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.cluster_target import holding_cluster
from resources.engine.cluster.node_replicas import NodeReplicas
from resources.engine.events import Run
from resources.engine.restore.existing_shard import ReplicaThere, settled_files
from resources.engine.restore.read_back import SentFile, files_there
from resources.engine.restore.target_replicas import TargetReplicas
from resources.errors import RestoreFailed, WireError
from resources.model import ShardPlace
from resources.repository.repository import BackupRepository


class ClusterShard:
    """Its replicas on the owners, which can be made, removed and made anew."""

    def __init__(self, cluster: Cluster, place: ShardPlace) -> None:
        self.place = place
        self._cluster = cluster

    def scan(self) -> list[ReplicaThere]:
        return [self._on(node) for node in self._owners()]

    def _owners(self) -> list[str]:
        """TCP addresses of the owners, as the metastore knows them now.

        Raises:
            RestoreFailed: they are not those of the plan any more.
            WireError: a node does not answer, or refuses.
        """
        shard_id = self.place.shard_id
        _, now = self._cluster.metastore()
        place = next((place for place in now.places() if place.shard_id == shard_id), None)
        if place is None or place.shard != self.place.shard:
            raise RestoreFailed(
                f"shard {shard_id} was dropped or got other owners meanwhile",
                hint="look at it (influxd-ctl show-shards), then run the same command again",
            )
        addresses = {node.id: node.tcp_addr for node in now.data_nodes}
        return [addresses[owner.node_id] for owner in place.shard.owners]

    def _on(self, node: str) -> ReplicaThere:
        server = Server(self._cluster.snapshotter(node), None)
        try:
            listed = self._cluster.coordinator(node).list_shards()
        except WireError as error:
            error.add_note("every owner of the shard must be up")
            raise
        exists = self.place.shard_id in listed
        files = settled_files(server, self.place.shard_id) if exists else ()
        return ReplicaThere(server, exists, files)

    def alone(self, repository: BackupRepository, run: Run) -> AbstractContextManager[object]:
        return holding_cluster(self._cluster, repository.store, run)

    def on(self, node: str) -> TargetReplicas:
        places = {self.place.shard_id: (self.place.database, self.place.policy)}
        return NodeReplicas(self._cluster, node, places, owned=True)

    def create(self, replica: ReplicaThere) -> None:
        if not replica.exists:
            place, client = self.place, self._cluster.coordinator(replica.node)
            client.create_shard(place.shard_id, place.database, place.policy)

    def require_owners(self) -> None:
        self._owners()

    def empty(self, replica: ReplicaThere, are_ours: Callable[[Sequence[SentFile]], bool]) -> str:
        place, shard_id = self.place, self.place.shard_id
        client = self._cluster.coordinator(replica.node)
        if shard_id not in client.list_shards():
            return ""
        files = files_there(replica.server, shard_id)
        if files and not are_ours(files):
            return f"shard {shard_id} on {replica.node} holds more than was sent, and is left so"
        if files or not replica.exists:
            client.remove_shard(shard_id)
        if files and replica.exists:
            client.create_shard(shard_id, place.database, place.policy)
        return ""
