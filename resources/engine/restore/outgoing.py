"""One shard's members on their way to a server: passed on, rewritten, or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resources.clients.snapshotter import Upload
from resources.engine.restore.check import ArchiveContents
from resources.engine.restore.deletes import Gathered
from resources.engine.restore.read_back import Sent, SentFile
from resources.errors import TSMError
from resources.protocol.tar import (
    Member,
    MemberData,
    MemberStart,
    Piece,
    encode_header,
    member_place,
    padding,
)
from resources.repository.formats.details import FileFacts, FileID
from resources.tsm.crc import crc32
from resources.tsm.source import Scratch

if TYPE_CHECKING:
    from resources.tsm.deletions import Deletions


class Outgoing:
    """One shard's members on their way: passed on, rewritten, or left out."""

    def __init__(
        self,
        upload: Upload,
        prefix: str,
        contents: ArchiveContents,
        deletes: Mapping[str, Deletions],
        scratch: Scratch,
        sent: Sent,
    ) -> None:
        self._upload = upload
        self._prefix = prefix
        self._deletes = deletes
        self._scratch = scratch
        self._facts = {file.name: file for file in contents.files}
        self._rewritten = {*deletes, *(file.name for file in contents.damaged if file.is_tsm)}
        """Files that lose something on their way: what was deleted, or what is damaged."""
        self._take: Callable[[memoryview], None] = _ignore
        self._name = ""
        self._crc = 0
        self._seen: set[FileID] = set()
        self.sent = sent

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
        rewrite.write(gathered.write, scratch_dir=self._scratch.directory)
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
