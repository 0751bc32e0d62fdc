"""One archive from the repository into a fresh, empty shard, then back again to prove it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resources.clients.server import Server
from resources.clients.snapshotter import Upload
from resources.engine.restore.check import ArchiveContents
from resources.engine.restore.deletes import Gathered, deletes_in
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.read_back import Sent, SentFile, read_back, receipt_of
from resources.engine.restore.receipt import Receipt
from resources.errors import ArchiveCorrupt, ShardkeeperError, Stopped, TSMError
from resources.failpoints import passing
from resources.model import ShardID
from resources.protocol.tar import (
    END_MARKER,
    Member,
    MemberData,
    MemberStart,
    Piece,
    TarWalker,
    encode_header,
    member_place,
    padding,
)
from resources.repository.archive import ArchiveReader, scratch_in
from resources.repository.evidence import FileFacts, FileID
from resources.repository.repository import BackupRepository
from resources.repository.scratch import Scratch
from resources.tsm.crc import crc32

if TYPE_CHECKING:
    from resources.tsm.deletions import Deletions


class Uploader:
    """Sends shards; one instance serves all threads of a run.

    Args:
        id_map: the target's shard for each of the backup's.
        contents: what the archives hold, by shard of the backup.
        receipts: whether to read back what was sent.
        keep_tombstoned: whether to send points that were deleted, too.
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
        keep_tombstoned: bool = False,
    ) -> None:
        self._server = server
        self._repository = repository
        self._id_map = id_map
        self._contents = contents
        self._receipts = receipts
        self._keep_tombstoned = keep_tombstoned
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
        """Stream the TSM files under their new names, without what was deleted from them.

        The server takes a stream that ends between two members for a complete one. So the end
        marker is sent only when the whole archive was read and is what was stored.
        """
        entry = shard.archive.entry
        contents = self._contents[shard.place.shard_id]
        deletes: Mapping[str, Deletions] = {}
        if contents.tombstones and not self._keep_tombstoned:
            deletes = deletes_in(self._repository, shard.archive, self._unless_stopped)
        prefix = f"{shard.new_database}/{shard.new_policy}/{new_id}/"
        with (
            self._repository.open_archive(shard.archive) as source,
            self._server.tcp.upload(new_id) as upload,
            scratch_in(self._repository.scratch_dir) as scratch,
        ):
            outgoing = _Outgoing(
                upload, prefix, contents, deletes, scratch, self._repository.scratch_dir
            )
            reader = ArchiveReader(source, max_bytes=entry.size_bytes)
            walker = TarWalker()
            for chunk in reader.chunks():
                self._unless_stopped()
                for piece in walker.feed(chunk):
                    outgoing.take(piece)
                self.bytes_done += len(chunk)
                passing("restore.mid-upload")
            walker.finish()
            if not outgoing.was_all_of_it():
                raise ArchiveCorrupt(
                    f"{entry.file_name} changed while it was being restored",
                    hint="find out who writes there, and shardkeeper verify what it is now",
                )
            upload.sendall(END_MARKER)
            upload.finish()
        return outgoing.sent

    def _unless_stopped(self) -> None:
        if self._stop.is_set():
            raise Stopped("stopped before the restore was complete")


class _Outgoing:
    """One shard's members on their way: passed on, rewritten, or left out."""

    def __init__(
        self,
        upload: Upload,
        prefix: str,
        contents: ArchiveContents,
        deletes: Mapping[str, Deletions],
        scratch: Scratch,
        scratch_dir: str | None,
    ) -> None:
        self._upload = upload
        self._prefix = prefix
        self._deletes = deletes
        self._scratch = scratch
        self._scratch_dir = scratch_dir
        self._facts = {file.name: file for file in contents.files}
        self._rewritten = {*deletes, *(file.name for file in contents.damaged if file.is_tsm)}
        """Files that lose something on their way: what was deleted, or what is damaged."""
        self._take: Callable[[memoryview], None] = _ignore
        self._name = ""
        self._crc = 0
        self._seen: set[FileID] = set()
        series = None if self._rewritten else contents.series
        self.sent = Sent([], contents.files, series, applied=bool(deletes))

    def take(self, piece: Piece) -> None:
        if isinstance(piece, MemberData):
            self._crc = crc32(piece.data, self._crc)
            self._take(piece.data)
        elif isinstance(piece, MemberStart):
            self._crc = 0
            self._start(piece.member)
        else:
            self._seen.add((self._name, piece.member.size, self._crc))
            self._end(piece.member)

    def was_all_of_it(self) -> bool:
        """Whether the members that passed by are the files that the check had found."""
        return self._seen == {file.id for file in self._facts.values()}

    def _start(self, member: Member) -> None:
        self._name = member_place(member.name).file
        if not self._name.endswith(".tsm"):
            self._take = _ignore  # the server would skip a tombstone file without a word
        elif self._name in self._rewritten:
            self._scratch.start(member.size)
            self._take = self._scratch.write
        else:
            self._head(member, member.size)
            self._take = self._upload.sendall

    def _end(self, member: Member) -> None:
        if self._name in self._rewritten:
            try:
                self._rewrite(member)
            except TSMError as error:
                error.add_note(f"while leaving out what is deleted or damaged in {self._name}")
                raise
        elif self._name.endswith(".tsm"):
            self.sent.files[-1].crc32 = self._crc
            self._upload.sendall(padding(member.size))

    def _head(self, member: Member, size_bytes: int) -> None:
        self.sent.files.append(SentFile(self._name, size_bytes, 0))
        self._upload.sendall(encode_header(self._prefix + self._name, size_bytes, member.mtime_s))

    def _pass_on(self, data: bytes | bytearray | memoryview) -> None:
        """Of a rewritten file, which has a checksum of its own."""
        file = self.sent.files[-1]
        file.crc32 = crc32(data, file.crc32)
        self._upload.sendall(data)

    def _rewrite(self, member: Member) -> None:
        # Most restores have no deletes, and numpy takes longer to load than a small one takes.
        from resources.tsm.deletions import Deletions
        from resources.tsm.reader import TSMFile
        from resources.tsm.rewrite import Rewrite
        from resources.tsm.sound import SoundFile

        facts = self._facts.get(self._name)
        deleted = self._deletes.get(self._name, Deletions())
        self.sent.deleted_ranges += len(deleted)
        is_damaged = facts is not None and facts.damage is not None
        rewrite = Rewrite((SoundFile if is_damaged else TSMFile)(self._scratch.source()), deleted)
        left = rewrite.measure()
        if not left.size_bytes:
            return
        self._head(member, left.size_bytes)
        gathered = Gathered(self._pass_on)
        rewrite.write(gathered.write, scratch_dir=self._scratch_dir)
        gathered.flush()
        if gathered.size_bytes != left.size_bytes:
            raise TSMError(f"{left.size_bytes} bytes announced, {gathered.size_bytes} written")
        self._upload.sendall(padding(left.size_bytes))
        file, points = self.sent.files[-1], facts.points if facts else None
        new = FileFacts(
            *file.id,
            keys=left.keys,
            points=None if points is None else points - left.points_gone,
            min_time_ns=left.min_time_ns,
            max_time_ns=left.max_time_ns,
        )
        self.sent.facts = (*self.sent.facts, new)


def _ignore(_data: memoryview) -> None:
    pass
