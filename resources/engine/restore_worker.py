"""A worker of a restore, into a server or a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager

from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.restore.batch import RestoreBatch
from resources.engine.restore.batch_upload import fill_batch
from resources.engine.restore_target import receivers_of, sharing_lease_of
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.worker import Worker, be
from resources.repository.batches import ClaimedBatch
from resources.repository.repository import BackupRepository


class RestoreWorker(Worker):
    """Fills shards, and reads them back."""

    def at_work(self, peer: Server | Cluster) -> AbstractContextManager[None]:
        return sharing_lease_of(peer, self.spec.lease, self.end)

    def do(
        self,
        peer: Server | Cluster,
        repository: BackupRepository,
        claimed: ClaimedBatch,
        todo: bytes,
        slots: NodeSlots | None,
    ) -> bytes:
        batch = RestoreBatch.decode(todo, claimed.name)
        batch = replace(batch, options=replace(batch.options, parallel=self.spec.parallel))
        receivers = receivers_of(peer, repository.store)
        checked = batch.checked(repository, self.run)
        return fill_batch(receivers, checked, claimed, batch, slots).encode()


def main() -> None:
    be(RestoreWorker)
