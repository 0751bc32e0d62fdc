"""A worker of a backup."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.backup.batch import BackupBatch
from resources.engine.backup.copying import copy_batch
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.worker import Worker, be
from resources.model import ShardID
from resources.repository.batches import ClaimedBatch
from resources.repository.repository import BackupRepository


class BackupWorker(Worker):
    """Copies shards."""

    def archives(self, todo: bytes, name: str) -> Iterable[ShardID]:
        return BackupBatch.decode(todo, name).shards

    def do(
        self,
        peer: Server | Cluster,
        repository: BackupRepository,
        claimed: ClaimedBatch,
        todo: bytes,
        slots: NodeSlots | None,
    ) -> bytes:
        batch = BackupBatch.decode(todo, claimed.name)
        batch = replace(batch, options=replace(batch.options, parallel=self.spec.parallel))
        peer.recall(batch.version, batch.first)
        return copy_batch(peer, repository, claimed, batch, self.run, slots).encode()


def main() -> None:
    be(BackupWorker)
