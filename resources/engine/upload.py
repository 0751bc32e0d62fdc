"""One archive from the repository into a fresh, empty shard, then back again to prove it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

from resources.clients.server import Server
from resources.clients.snapshotter import Upload
from resources.engine.pull import Stopped
from resources.engine.read_back import Sent, SentFile, read_back, receipt_of
from resources.engine.receipt import Receipt
from resources.engine.restore_check import ArchiveContents
from resources.engine.restore_plan import ShardRestore
from resources.errors import ArchiveCorrupt, ShardkeeperError
from resources.failpoints import passing
from resources.model import ShardID
from resources.protocol.tar import (
    END_MARKER,
    Member,
    MemberData,
    MemberStart,
    TarWalker,
    encode_header,
    member_place,
    padding,
)
from resources.repository.archive import ArchiveReader
from resources.repository.repository import BackupRepository
from resources.tsm.crc import crc32


class Uploader:
    """Sends shards; one instance serves all threads of a run.

    Args:
        id_map: the target's shard for each of the backup's.
        contents: what the archives hold, by shard of the backup.
        receipts: whether to read back what was sent.
    """

    def __init__(
        self,
        server: Server,
        repository: BackupRepository,
        id_map: Mapping[ShardID, ShardID],
        contents: Mapping[ShardID, ArchiveContents],
        stop: threading.Event,
        *,
        receipts: bool = True,
    ) -> None:
        self._server = server
        self._repository = repository
        self._id_map = id_map
        self._contents = contents
        self._receipts = receipts
        self._stop = stop
        self.bytes_done = 0

    def upload(self, shard: ShardRestore) -> tuple[Receipt, float]:
        """Send one shard, once; returns the receipt and the seconds it took.

        Raises:
            ReadBackMismatch: the target does not hold what was sent.
            ShardkeeperError: sending failed.
        """
        began = time.monotonic()
        new_id = self._id_map[shard.place.shard_id]
        try:
            sent = self._send(shard, new_id)
            passing("restore.uploaded")
            if self._receipts:
                receipt = read_back(self._server, self._repository, shard, new_id, sent)
            else:
                receipt = receipt_of(self._server, new_id, sent, "not read back")
            passing("restore.read-back")
        except ShardkeeperError as error:
            error.add_note(f"while restoring shard {shard.place.shard_id} as shard {new_id}")
            raise
        return receipt, time.monotonic() - began

    def _send(self, shard: ShardRestore, new_id: ShardID) -> Sent:
        """Stream the TSM files under their new names.

        The server takes a stream that ends between two members for a complete one. So the end
        marker is sent only when the whole archive was read and is what was stored.
        """
        entry = shard.archive.entry
        sent: list[SentFile] = []
        prefix = f"{shard.new_database}/{shard.new_policy}/{new_id}/"
        with (
            self._repository.open_archive(shard.archive) as source,
            self._server.tcp.upload(new_id) as upload,
        ):
            reader = ArchiveReader(source, max_bytes=entry.size_bytes)
            walker = TarWalker()
            for chunk in reader.chunks():
                if self._stop.is_set():
                    raise Stopped("stopped before the restore was complete")
                self._forward(walker, chunk, upload, prefix, sent)
                self.bytes_done += len(chunk)
                passing("restore.mid-upload")
            walker.finish()
            if entry.evidence is not None and reader.sha256 != entry.evidence.sha256:
                raise ArchiveCorrupt(f"{entry.file_name} changed while it was being restored")
            upload.sendall(END_MARKER)
            upload.finish()
        contents = self._contents[shard.place.shard_id]
        return Sent(sent, contents.files, contents.series)

    def _forward(
        self,
        walker: TarWalker,
        chunk: memoryview,
        upload: Upload,
        prefix: str,
        sent: list[SentFile],
    ) -> None:
        for piece in walker.feed(chunk):
            if isinstance(piece, MemberData):
                if sent and sent[-1].open:
                    sent[-1].crc32 = crc32(piece.data, sent[-1].crc32)
                    upload.sendall(piece.data)
            elif isinstance(piece, MemberStart):
                for data in self._start(piece.member, prefix, sent):
                    upload.sendall(data)
            elif sent and sent[-1].open:
                sent[-1].open = False
                upload.sendall(padding(piece.member.size))

    def _start(self, member: Member, prefix: str, sent: list[SentFile]) -> Iterator[bytes]:
        name = member_place(member.name).file
        if not name.endswith(".tsm"):
            return  # the server would skip a tombstone file without a word
        sent.append(SentFile(name, member.size, 0, open=True))
        yield encode_header(prefix + name, member.size, member.mtime_s)
