"""Fill the shards that a restore has created on a single server, and prove each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resources.clients.server import Server
from resources.engine.events import Progress, RestoreGoesOn, ShardRestored
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.read_back import receipt_of
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.server_journal import JournalWriter
from resources.engine.restore.target_replicas import ServerReplicas
from resources.engine.restore.unfinished import Unfinished, still_empty, untouched
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import Upload
from resources.model import ShardID
from resources.protocol.server_vars import ServerVars


class ServerUpload(Upload[ShardRestore, RestoredShard]):
    """Fills the shards of one restore.

    Args:
        id_map: the server's shard for each of the backup's.
        reported: what the server told of itself before this run changed anything, or nothing.
    """

    def __init__(
        self,
        server: Server,
        checked: CheckedRestore,
        id_map: Mapping[ShardID, ShardID],
        journal: JournalWriter,
        reported: ServerVars | None,
    ) -> None:
        super().__init__(checked, server.abort)
        self._server = server
        self._id_map = id_map
        self._journal = journal
        self._reported = reported
        started_ns = journal.journal.server_started_ns
        replicas = ServerReplicas(server, started_ns, journal.check_not_lost)
        self._uploader = Uploader(server, checked, id_map, replicas, self.news.retried)
        self._done: dict[ShardID, RestoredShard] = {}
        self._begun = frozenset[ShardID]()

    def run(
        self, shards: Sequence[ShardRestore], goes_on: Unfinished | None
    ) -> list[RestoredShard]:
        """Fill those that are not there yet; returns all, in their order."""
        if goes_on is not None:
            self._begun = goes_on.shard_ids
            self._done = self._there_already([s for s in shards if self._new_id(s) in self._begun])
            if goes_on.kept.is_over:  # else it may have sent some of it
                self._begun -= still_empty(self._reported, self._journal.journal, self._begun)
            self.checked.run.emit(RestoreGoesOn(len(self._done), len(shards)))
        left = [shard for shard in shards if shard.place.shard_id not in self._done]
        sent = self.send_all(left)
        done = self._done | {restored.restore.place.shard_id: restored for restored in sent}
        return [done[shard.place.shard_id] for shard in shards]

    def send(self, item: ShardRestore) -> RestoredShard:
        new_id = self._new_id(item)
        receipt, seconds = self._uploader.upload(item, begun=new_id in self._begun)
        return RestoredShard(item, new_id, (receipt,), seconds)

    def progress(self, n_sent: int) -> Progress:
        n_shards = len(self.checked.plan.shards)
        return Progress(len(self._done) + n_sent, n_shards, self._uploader.bytes_done)

    def ended(self, item: ShardRestore, result: RestoredShard) -> ShardRestored:
        """Put it on record, for the case that this run is killed."""
        started_ns = self._reported.started_ns if self._reported is not None else None
        if started_ns is not None and result.receipt.how == "identical":
            self._journal.prove(result.new_shard_id, started_ns)
        return result.event([self._server.address])

    def nothing_ended(self) -> None:
        self._journal.keep_up()

    def _new_id(self, shard: ShardRestore) -> ShardID:
        return self._id_map[shard.place.shard_id]

    def _there_already(self, shards: Sequence[ShardRestore]) -> dict[ShardID, RestoredShard]:
        """Those that the killed run has proved, and that have not changed since."""
        wanted = {self._new_id(shard): self._uploader.would_send(shard) for shard in shards}
        files = {new_id: sent.files for new_id, sent in wanted.items()}
        kept = untouched(self._reported, self._journal.journal, files)
        return {
            shard.place.shard_id: RestoredShard(
                shard,
                new_id,
                (receipt_of(self._server, new_id, wanted[new_id], "identical"),),
                0.0,
            )
            for shard in shards
            if (new_id := self._new_id(shard)) in kept
        }
