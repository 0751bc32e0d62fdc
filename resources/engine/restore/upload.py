"""One archive from the repository into a fresh, empty shard, then back again to prove it.

An upload has no answer: a connection that breaks says nothing about what arrived, and neither does
one that ends in order, since a tunnel may have ended it. So every ending is decided by reading
the shard back. What is not there is sent again, this shard alone; what is there in part is made
empty first, or sent over, as the target allows.

The server is waited for only where it may still be at work: when the connection was cut after all
was sent. There is a bound for each shard, over all attempts; beyond that, something else has the
shard open, and the restore ends. Held by tests/faults/test_uploads_again.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct, field

from resources.clients.server import Server
from resources.clients.snapshotter import FINISH_TIMEOUT_S
from resources.engine.options import Retry
from resources.engine.restore.check import OLDER, CheckedArchives, require_digest
from resources.engine.restore.deletes import deletes_in
from resources.engine.restore.outgoing import Outgoing
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.read_back import (
    Sent,
    SentFile,
    compared,
    files_there,
    read_back,
    receipt_of,
)
from resources.engine.restore.receipt import NOT_READ_BACK, Receipt
from resources.engine.restore.target_replicas import TargetReplicas
from resources.errors import (
    ArchiveCorrupt,
    PeerAway,
    PeerClosedEarly,
    PeerSilent,
    ReadBackMismatch,
    ShardHeld,
    ShardkeeperError,
    TargetNotEmpty,
    TSMError,
    WireError,
)
from resources.model import ShardID
from resources.protocol.tar import END_MARKER, TarWalker
from resources.repository.archives.archive import ArchiveReader, HashedSource, scratch_in
from resources.repository.formats.details import FileID
from resources.runtime.failpoints import passing

if TYPE_CHECKING:
    from resources.tsm.deletions import Deletions

UPLOADS = Retry(attempts=10, first_pause_s=0.2, longest_pause_s=5.0)
"""Half a minute for one shard: a server that restarts, a tunnel that is built anew."""
MAX_DIFFERENCES = 3
"""How often what came back may differ from what was sent, before the restore fails."""
MAX_SILENCES = 2
"""How often a server may say nothing about one shard, each time for as long as it may be silent."""
SETTLES_S, SETTLED_BYTES_PER_S = 20.0, 16 << 20
"""How long a server may need to put an archive in its place, and what it manages beyond that."""


def settles_within_s(size_bytes: int) -> float:
    """How long a server that has all of an archive is waited for, as long as it hands out nothing.

    It holds the shard while it syncs the files and reads their index again.
    """
    return min(FINISH_TIMEOUT_S, SETTLES_S + size_bytes / SETTLED_BYTES_PER_S)


def would_send(checked: CheckedArchives, shard: ShardRestore) -> Sent:
    """What goes out; of files that lose something on their way only the points are known."""
    contents = checked.contents[shard.place.shard_id]
    applied = checked.applies_deletes(shard.place.shard_id)
    if applied or contents.damaged:
        return Sent([], contents.files, applied=applied)
    files = [SentFile(*file.id) for file in contents.files if file.is_tsm]
    return Sent(files, contents.files, contents.series)


class _Tries(Struct):
    """What has become of the attempts at one shard so far.

    Attributes:
        settle_s: how long its server may still be waited for, in all.
        sent: what went out last.
        mismatch: what was wrong with what came back last.
        silent: how its server said nothing about it last.
    """

    settle_s: float
    sent: Sent = field(default_factory=lambda: Sent([]))
    differences: int = 0
    silences: int = 0
    mismatch: ReadBackMismatch | None = None
    silent: PeerSilent | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the server may still put in its place what it has got."""
        return self.sent.whole and not self.sent.ended

    def is_hopeless(self, error: WireError | ReadBackMismatch | TSMError) -> bool:
        """Count it; whether there is no use in another attempt."""
        if isinstance(error, PeerSilent):
            self.silent = error
            self.silences += 1
            return self.silences >= MAX_SILENCES
        if isinstance(error, WireError):
            return not error.retryable
        self.mismatch = error if isinstance(error, ReadBackMismatch) else None
        self.differences += 1
        return not self.sent.whole or self.differences >= MAX_DIFFERENCES


Retried: TypeAlias = Callable[[ShardID, ShardkeeperError, int, float], None]
"""Told of (shard of the backup, error, attempt that follows, pause in seconds), in any thread."""


class Uploader:
    """Sends shards; one instance serves all threads of a run.

    Args:
        id_map: the target's shard for each of the backup's.
        replicas: those on the server, and what may be done with one that is there in part.
        retried: told of each attempt that failed and is followed by another.
    """

    def __init__(
        self,
        server: Server,
        checked: CheckedArchives,
        id_map: Mapping[ShardID, ShardID],
        replicas: TargetReplicas,
        retried: Retried,
        retry: Retry = UPLOADS,
    ) -> None:
        self.server = server
        self._checked = checked
        self._repository = checked.repository
        self._id_map = id_map
        self._replicas = replicas
        self._retried = retried
        self._retry = retry
        self._stop = checked.run.stop
        self.bytes_done = 0

    def upload(self, shard: ShardRestore, *, begun: bool = False) -> tuple[Receipt, float]:
        """Have one shard in its place; returns the receipt and the seconds it took.

        Args:
            begun: whether an earlier run may have sent it, or a part of it.

        Raises:
            ReadBackMismatch: the target does not hold what was sent.
            TargetNotEmpty: it holds something else, which must not be touched.
            ShardkeeperError: the last attempt's error.
        """
        began = time.monotonic()
        new_id = self._id_map[shard.place.shard_id]
        try:
            receipt = self._proven(shard, new_id, begun)
        except ShardkeeperError as error:
            error.add_note(f"while restoring shard {shard.place.shard_id} as shard {new_id}")
            raise
        passing("restore.read-back")
        return receipt, time.monotonic() - began

    # --- attempts ---------------------------------------------------------------------------

    def _proven(self, shard: ShardRestore, new_id: ShardID, begun: bool) -> Receipt:
        contents = self._checked.contents[shard.place.shard_id]
        ours = {file.id for file in contents.files if file.is_tsm}
        tries = _Tries(settles_within_s(shard.archive.entry.size_bytes))
        for attempt in range(1, self._retry.attempts + 1):
            try:
                if begun or attempt > 1:
                    there = self._there(shard, new_id, ours, tries)
                    if there is not None:
                        return there
                tries.sent = Sent([])
                self._send(shard, new_id, tries.sent)
                passing("restore.uploaded")
                if not self._checked.options.receipts:
                    return receipt_of(self.server, new_id, tries.sent, NOT_READ_BACK)
                return read_back(self.server, self._repository, shard, new_id, tries.sent)
            except TargetNotEmpty as error:
                if tries.mismatch is None:
                    raise
                tries.mismatch.add_note(error.what)
                raise tries.mismatch from None
            except (WireError, ReadBackMismatch, TSMError) as error:
                ours |= {file.id for file in tries.sent.files}
                hopeless = tries.is_hopeless(error)
                last = attempt == self._retry.attempts
                if self._stop.is_set() or self._replicas.is_away() or self._is_gone(error, new_id):
                    raise
                if hopeless or last:
                    why = tries.silent if isinstance(error, PeerAway) else error
                    if isinstance(why, (PeerSilent, PeerClosedEarly)):
                        raise self._held(new_id, why) from error
                    if last:
                        error.add_note(f"attempt {attempt} of {self._retry.attempts}")
                    raise
                pause_s = self._retry.pause_s(attempt)
                self._retried(shard.place.shard_id, error, attempt + 1, pause_s)
                self._stop.wait(pause_s)
        raise AssertionError("the loop ends by return or raise")

    def _there(
        self, shard: ShardRestore, new_id: ShardID, ours: Collection[FileID], tries: _Tries
    ) -> Receipt | None:
        """What an attempt has left: all of it, or nothing in the way of the next one.

        Raises:
            TargetNotEmpty: something that is not ours.
            ShardHeld: the server keeps it to itself.
            WireError: it cannot be read now.
        """
        self._checked.check()
        if tries.in_doubt:
            found = self._settled_files(new_id, tries)
        else:
            found = files_there(self.server, new_id)
        if not found:
            return None
        sent = would_send(self._checked, shard)
        if not {file.id for file in found} < {file.id for file in sent.files}:
            try:
                return compared(self.server, self._repository, shard, new_id, sent, found)
            except (ReadBackMismatch, TSMError):
                pass  # a part of it, or something else
        why = self._replicas.make_ready(new_id, found, ours)
        if why:
            raise TargetNotEmpty(
                f"shard {new_id} on {self.server.address} holds something else than was sent: "
                f"{why}",
                hint="look at who writes there, and at the server's log",
            )
        return None

    def _settled_files(self, new_id: ShardID, tries: _Tries) -> list[SentFile]:
        """A server that puts an archive in its place hands out nothing meanwhile."""
        began, pause_s = time.monotonic(), 0.05
        try:
            while True:
                try:
                    return files_there(self.server, new_id)
                except (PeerClosedEarly, PeerSilent) as error:
                    if self._is_gone(error, new_id):
                        raise
                    if time.monotonic() - began >= tries.settle_s:
                        raise self._held(new_id, error) from error
                self._stop.wait(pause_s)
                self._checked.check()
                pause_s = min(2.0, pause_s * 2)
        finally:
            tries.settle_s -= time.monotonic() - began

    def _held(self, new_id: ShardID, error: WireError) -> ShardHeld:
        return ShardHeld(
            f"shard {new_id} on {self.server.address} is neither handed out nor taken in: "
            f"{error.what}",
            hint="a connection that sends to it still holds it: end the run that was stopped, or "
            "restart that server, then restore again",
        )

    def _is_gone(self, error: ShardkeeperError, new_id: ShardID) -> bool:
        """Whether there is nothing any more that could be sent to."""
        if not isinstance(error, PeerClosedEarly):
            return False
        try:
            return not self._replicas.has(new_id)
        except WireError:
            return False

    # --- one attempt ------------------------------------------------------------------------

    def _send(self, shard: ShardRestore, new_id: ShardID, sent: Sent) -> None:
        """Stream the TSM files under their new names, without what was deleted from them.

        The server takes a stream that ends between two members for a complete one. So the end
        marker is sent only when the whole archive was read and is what was stored, its digest
        too. Until then nothing of the shard counts as restored.

        Args:
            sent: takes what goes out, as it does.

        Raises:
            ArchiveCorrupt, TSMError: the archive is not what was stored.
            WireError: the server cannot be sent to.
        """
        try:
            self._stream(shard, new_id, sent)
        except (ArchiveCorrupt, TSMError) as error:
            error.add_note(f"in {shard.archive.entry.file_name}")
            error.hint = OLDER
            raise

    def _stream(self, shard: ShardRestore, new_id: ShardID, sent: Sent) -> None:
        entry = shard.archive.entry
        contents = self._checked.contents[shard.place.shard_id]
        deletes: Mapping[str, Deletions] = {}
        if self._checked.applies_deletes(shard.place.shard_id):
            deletes = deletes_in(self._repository, shard.archive, self._checked.check)
        sent.facts, sent.applied = contents.files, bool(deletes)
        sent.series = None if deletes or contents.damaged else contents.series
        prefix = f"{shard.database}/{shard.policy}/{new_id}/"
        with (
            self._repository.open_archive(shard.archive) as source,
            self.server.tcp.upload(new_id) as upload,
            scratch_in(self._repository.scratch_dir) as scratch,
        ):
            self._replicas.check_may_send()
            outgoing = Outgoing(upload, prefix, contents, deletes, scratch, sent)
            hashed = HashedSource(source)
            reader = ArchiveReader(hashed, max_bytes=entry.size_bytes)
            walker = TarWalker()
            for chunk in reader.chunks():
                self._checked.check()
                for piece in walker.feed(chunk):
                    outgoing.take(piece)
                self.bytes_done += len(chunk)
                passing("restore.mid-upload")
            walker.finish()
            if entry.details is not None:
                require_digest(shard.archive, entry.details, hashed.sha256.hexdigest())
            if not outgoing.was_all_of_it():
                raise ArchiveCorrupt(
                    f"{entry.file_name} changed while it was being restored",
                    hint="find out who writes there, and shardkeeper verify what it is now",
                )
            upload.sendall(END_MARKER)
            sent.whole = True
            upload.finish()
            sent.ended = True
