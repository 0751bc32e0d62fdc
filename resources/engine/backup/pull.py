"""One shard from the server into the repository, checked, with retries from an empty file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from resources.clients.source import ShardCopy, Source, SourceFacts
from resources.engine.backup.changes import ShardState
from resources.engine.options import BackupOptions
from resources.errors import (
    ArchiveCorrupt,
    NoUsableCopy,
    PeerClosedEarly,
    RepositoryError,
    ShardkeeperError,
    Stopped,
    StoreFailed,
    TSMError,
    WireError,
)
from resources.failpoints import passing
from resources.model import ShardID
from resources.repository.archive import ArchiveWriter, Place, StoredArchive
from resources.repository.backup_set import Archive
from resources.repository.evidence import ShardEvidence
from resources.repository.manifest import ShardEntry
from resources.repository.repository import BackupWriter
from resources.repository.scratch import Scratch

BUFFER_BYTES = 256 << 10


class ShardGoneAtSource(ShardkeeperError):
    """The shard expired or was dropped after the plan was made."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A shard that is stored."""

    state: ShardState
    entry: ShardEntry
    node: str
    seconds: float
    attempts: int


class Puller:
    """Copies shards; one instance serves all threads of a run.

    Args:
        retried: told (shard, error, attempt that follows, pause in seconds), from any thread.
    """

    def __init__(
        self,
        source: Source,
        writer: BackupWriter,
        facts: SourceFacts,
        options: BackupOptions,
        *,
        scratch_dir: str | None,
        stop: threading.Event,
        retried: Callable[[ShardID, ShardkeeperError, int, float], None],
    ) -> None:
        self._source = source
        self._writer = writer
        self._facts = facts
        self._options = options
        self._scratch_dir = scratch_dir
        self._stop = stop
        self._retried = retried
        self._threads = threading.local()
        self._scratches: list[Scratch] = []
        self._lock = threading.Lock()
        self._gates: dict[str, threading.Semaphore] = {}
        self.bytes_done = 0

    def pull(self, state: ShardState) -> Saved:
        """Store one shard's archive.

        Every attempt begins with an empty file, since what an attempt left may be half a
        stream that parses (influxd's own client appends to it).

        Raises:
            ShardGoneAtSource: the server no longer has it.
            Stopped: `stop` was set.
            NoUsableCopy: no node that has it answers.
            ShardkeeperError: the last attempt's error, with what was tried in its notes.
        """
        retry = self._options.retry
        began = time.monotonic()
        if not state.copies:
            raise NoUsableCopy(
                state.trouble,
                hint="bring its owners back, then run the backup again",
            )
        for attempt in range(1, retry.attempts + 1):
            copy = state.copies[(attempt - 1) % len(state.copies)]
            if self._stop.is_set():
                raise Stopped("stopped before the backup was complete")
            try:
                with self._turn(copy.node):
                    stored = self._attempt(state, copy)
                break
            except StoreFailed:
                raise
            except (ArchiveCorrupt, TSMError, ShardkeeperError) as error:
                if self._stop.is_set():
                    raise Stopped("stopped before the backup was complete") from None
                if isinstance(error, RepositoryError) and not isinstance(error, ArchiveCorrupt):
                    raise
                if isinstance(error, PeerClosedEarly) and self._is_gone(state):
                    raise ShardGoneAtSource(f"shard {state.place.shard_id} is gone") from None
                heals = error.retryable or isinstance(error, (ArchiveCorrupt, TSMError))
                if not heals or attempt == retry.attempts:
                    error.add_note(f"attempt {attempt} of {retry.attempts}")
                    raise
                pause = retry.pause_s(attempt)
                self._retried(state.place.shard_id, error, attempt + 1, pause)
                self._stop.wait(pause)
        else:
            raise AssertionError("the loop ends by break or raise")
        seconds = time.monotonic() - began
        return Saved(state, self._entry(state, copy, stored, seconds), copy.node, seconds, attempt)

    def _turn(self, node: str) -> AbstractContextManager[None]:
        """Wait until the node may be read from; no node is read by more than its share."""
        share = self._options.per_node
        return nullcontext() if share is None else self._one_of(share, node)

    @contextmanager
    def _one_of(self, share: int, node: str) -> Generator[None]:
        with self._lock:
            gate = self._gates.setdefault(node, threading.Semaphore(share))
        while not gate.acquire(timeout=0.2):
            if self._stop.is_set():
                raise Stopped("stopped before the backup was complete")
        try:
            yield
        finally:
            gate.release()

    def close(self) -> None:
        for scratch in self._scratches:
            scratch.close()

    def _attempt(self, state: ShardState, copy: ShardCopy) -> StoredArchive:
        place = state.place
        buffer, scratch = self._own()
        with (
            self._source.open_shard(place.shard_id, node=copy.node) as stream,
            self._writer.shard(place.shard_id) as sink,
        ):
            passing("backup.connected")
            archive = ArchiveWriter(
                sink,
                inner_name=self._writer.shard_file(place.shard_id).removesuffix(".gz"),
                place=Place(place.database, place.policy, place.shard_id),
                level=self._options.level,
                checked=self._options.checked,
                proven=self._options.proven,
                scratch=scratch,
            )
            while n := stream.recv_into(buffer):
                archive.feed(buffer[:n])
                self.bytes_done += n
                passing("backup.mid-stream")
                if self._stop.is_set():
                    raise Stopped("stopped before the backup was complete")
            stored = archive.finish()
            self._refuse_if_emptied(place.shard_id, stored)
            return stored

    def _refuse_if_emptied(self, shard_id: ShardID, stored: StoredArchive) -> None:
        """An archive without files is right for a shard without files only.

        Raises:
            ArchiveCorrupt: the server said, and says again, that it has some.
        """
        before = self._facts.shards.get(shard_id)
        if stored.facts.files or before is None or not before.num_files:
            return
        now = self._source.facts()[0].shards.get(shard_id)
        if now is not None and now.num_files:
            raise ArchiveCorrupt(
                f"the archive of shard {shard_id} is empty, and the server says that the shard has "
                f"{now.num_files} TSM files",
                hint="look into the server's log, then run the backup again",
            )

    def _own(self) -> tuple[memoryview, Scratch]:
        """This thread's buffer and scratch space."""
        mine: tuple[memoryview, Scratch] | None = getattr(self._threads, "mine", None)
        if mine is None:
            mine = memoryview(bytearray(BUFFER_BYTES)), Scratch(self._scratch_dir)
            self._threads.mine = mine
            with self._lock:
                self._scratches.append(mine[1])
        return mine

    def _is_gone(self, state: ShardState) -> bool:
        """Whether the source says so; one that is just restarting says nothing yet."""
        try:
            return not self._source.has_shard(state.place.shard_id)
        except WireError:
            return False

    def _entry(
        self, state: ShardState, copy: ShardCopy, stored: StoredArchive, seconds: float
    ) -> ShardEntry:
        place, facts = state.place, stored.facts
        return ShardEntry(
            database=place.database,
            policy=place.policy,
            shard_id=place.shard_id,
            file_name=self._writer.shard_file(place.shard_id),
            size_bytes=facts.size_bytes,
            last_modified_ns=_later_than(state.previous, state.modified_ns),
            evidence=ShardEvidence(
                sha256=stored.sha256,
                stored_bytes=stored.stored_bytes,
                content=facts.content,
                checked=facts.checked,
                files=facts.files,
                series=facts.series,
                points=facts.points,
                min_time_ns=facts.min_time_ns,
                max_time_ns=facts.max_time_ns,
                tombstones=facts.tombstones,
                node=copy.node,
                read_at_ns=self._facts.clock_ns,
                modified_ns=state.modified_ns,
                seconds=seconds,
                group_start_ns=place.group.start_time_ns,
                group_end_ns=place.group.end_time_ns,
                owners=state.owners,
            ),
        )


def _later_than(previous: Archive | None, modified_ns: int | None) -> int:
    """The ordering key of a new entry: a cluster's time of last change, a server's 0.

    Among equal keys every reader takes the newest manifest's, so 0 keeps a directory right
    that `influxd backup -portable` writes into as well. An earlier entry with a greater key
    must be exceeded.
    """
    before = previous.entry.last_modified_ns if previous else 0
    return max(modified_ns or 0, before + 1 if before > 0 else 0)
