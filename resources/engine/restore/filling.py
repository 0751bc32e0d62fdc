"""Fill the shards that a restore has created on a single server, and prove each."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from resources.clients.server import Server
from resources.engine.events import Emit, Progress, RestoreGoesOn, ShardRestored
from resources.engine.restore.check import ArchiveContents
from resources.engine.restore.plan import RestoreOptions, ShardRestore
from resources.engine.restore.read_back import receipt_of
from resources.engine.restore.receipt import NOT_READ_BACK
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.server_journal import JournalWriter
from resources.engine.restore.target_copies import ServerCopies
from resources.engine.restore.unfinished import Unfinished, still_empty, untouched
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import News, upload_all
from resources.model import ShardID
from resources.protocol.server_vars import ServerVars
from resources.repository.repository import BackupRepository


class Filling:
    """Fills the shards of one restore.

    Args:
        reported: what the server told of itself before this run changed anything, or nothing.
    """

    def __init__(
        self,
        server: Server,
        repository: BackupRepository,
        id_map: Mapping[ShardID, ShardID],
        contents: Mapping[ShardID, ArchiveContents],
        journal: JournalWriter,
        reported: ServerVars | None,
        options: RestoreOptions,
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        self._server = server
        self._id_map = id_map
        self._journal = journal
        self._described = reported
        self._options = options
        self._emit = emit
        self._stop = stop
        self._news = News()
        self._uploader = Uploader(
            server,
            repository,
            id_map,
            contents,
            stop,
            copies=ServerCopies(server, journal.journal.server_started_ns),
            retried=self._news.retried,
            receipts=options.receipts,
            keep_tombstoned=options.keep_tombstoned,
            before_each=journal.check_not_lost,
        )

    def run(
        self, shards: Sequence[ShardRestore], goes_on: Unfinished | None
    ) -> list[RestoredShard]:
        """Fill those that are not there yet; returns all, in their order."""
        begun = goes_on.shard_ids if goes_on is not None else frozenset[ShardID]()
        done: dict[ShardID, RestoredShard] = {}
        if goes_on is not None:
            done = self._there_already([s for s in shards if self._new_id(s) in begun])
            if goes_on.kept.is_over:  # else it may have sent some of it
                begun -= still_empty(self._described, self._journal.journal, begun)
            self._emit(RestoreGoesOn(len(done), len(shards)))

        def send(shard: ShardRestore) -> RestoredShard:
            new_id = self._new_id(shard)
            receipt, seconds = self._uploader.upload(shard, begun=new_id in begun)
            return RestoredShard(shard, new_id, (receipt,), seconds)

        left = [shard for shard in shards if shard.place.shard_id not in done]
        filled = upload_all(
            send,
            left,
            abort=self._server.abort,
            parallel=self._options.parallel,
            stop=self._stop,
            progress=lambda n: Progress(len(done) + n, len(shards), self._uploader.bytes_done),
            news=self._news,
            proved=self._proved,
            event=lambda _, restored: self._event(restored),
            emit=self._emit,
        )
        done |= {restored.restore.place.shard_id: restored for restored in filled}
        return [done[shard.place.shard_id] for shard in shards]

    def _new_id(self, shard: ShardRestore) -> ShardID:
        return self._id_map[shard.place.shard_id]

    def _there_already(self, shards: Sequence[ShardRestore]) -> dict[ShardID, RestoredShard]:
        """Those that the killed run has proved, and that nobody has touched since."""
        wanted = {self._new_id(shard): self._uploader.would_send(shard) for shard in shards}
        files = {new_id: sent.files for new_id, sent in wanted.items()}
        kept = untouched(self._described, self._journal.journal, files)
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

    def _proved(self, restored: RestoredShard | None) -> None:
        """Put it on record, for the case that this run is killed."""
        if restored is None:
            self._journal.keep_up()
            return
        started_ns = self._described.started_ns if self._described is not None else None
        if started_ns is not None and restored.receipt.how == "identical":
            self._journal.prove(restored.new_shard_id, started_ns)

    def _event(self, restored: RestoredShard) -> ShardRestored:
        place = restored.restore.place
        return ShardRestored(
            database=place.database,
            policy=place.policy,
            shard_id=place.shard_id,
            new_shard_id=restored.new_shard_id,
            nodes=(self._server.address,),
            size_bytes=restored.restore.archive.entry.size_bytes,
            seconds=restored.seconds,
            read_back=restored.receipt.how != NOT_READ_BACK,
        )
