"""Copy one shard: have it written out, download it, verify it, describe it; failures are retried.

An archive counts only if it holds everything that was acknowledged before the run began, as far as
its node reports; see `completeness`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.peers import all_away
from resources.clients.source import BackupSource, ShardCopy
from resources.engine.backup.batch import BackupBatch
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.completeness import Sample, Written, figures, missing_files
from resources.engine.backup.damaged import (
    REFUSED,
    Choice,
    DamagedCopy,
    confirm_damage,
    require_all_there,
    require_something_sound,
    with_whole_ones,
)
from resources.engine.backup.download import Download, ShardDownloader
from resources.engine.backup.gone_files import GoneFiles
from resources.engine.backup.identity import describe_divergence, diverged
from resources.engine.backup.second_read import read_again, second_read
from resources.engine.backup.written_out import WriteOut
from resources.engine.events import Run, ShardRetried
from resources.engine.workers.node_slots import NodeSlots
from resources.errors import (
    ArchiveCorrupt,
    CompletenessUnknown,
    NotWrittenOut,
    NoUsableCopy,
    PeerClosedEarly,
    RepositoryError,
    ShardkeeperError,
    Stopped,
    StoreFailed,
    TSMError,
    WireError,
)
from resources.model import ShardID
from resources.repository.archives.archive import StoredArchive
from resources.repository.backup_set import Archive
from resources.repository.batches import ClaimedBatch
from resources.repository.formats.details import FileFacts, ShardDetails
from resources.repository.formats.manifest import ShardEntry
from resources.repository.formats.proof import Clocks, Proof, ProvenAgain
from resources.repository.repository import BackupRepository


class ShardGoneAtSource(ShardkeeperError):
    """The shard expired or was dropped after the plan was made."""


class NodesAway(ShardkeeperError):
    """No node that has the shard answers at the moment; the shard is tried again later.

    Attributes:
        cause: the error of the last node.
    """

    def __init__(self, cause: ShardkeeperError) -> None:
        super().__init__(cause.what, hint=cause.hint)
        self.cause = cause


class Suspected(NodesAway):
    """A server went down while the shard was read; it is read alone, when no other process reads.

    Nothing but the end of all other batches makes that sure, on however many hosts they are done.
    """


class ReadAgain(Struct, frozen=True):
    """A shard that was read whole and equals its archive."""

    state: ShardState
    proven: ProvenAgain


class _AsBefore(Exception):
    """The stream equals the newest archive."""


class Saved(Struct, frozen=True):
    """A stored shard."""

    state: ShardState
    entry: ShardEntry
    node: str
    seconds: float
    attempts: int
    damaged_elsewhere: tuple[str, ...] = ()
    """The damage of its other replicas, a line each."""


class ShardCopier:
    """Copies shards; one instance serves all threads of a batch.

    Args:
        claimed: where the archives go.
        batch: what was known of its shards before the run began.
        run: emits `ShardRetried` from any thread; if it is stopped, downloads end.
        slots: the share of each node, if other processes read from it, too.
    """

    def __init__(
        self,
        source: BackupSource,
        repository: BackupRepository,
        claimed: ClaimedBatch,
        batch: BackupBatch,
        run: Run,
        slots: NodeSlots | None = None,
    ) -> None:
        self._source = source
        self._batch = claimed
        self._gone = GoneFiles(source, repository)
        self._clocks = batch.clocks
        self._beside_others = batch.beside_others
        self._floors = batch.floors
        self._options = batch.options
        self._stop = run.stop
        self._emit = run.emit
        self._slots = slots
        self._lock = threading.Lock()
        self._gates: dict[str, threading.Semaphore] = {}
        self._write_out = WriteOut(source, batch.first, run.stop)
        self._downloader = ShardDownloader(
            source, claimed, batch.options, repository.scratch_dir, run.stop
        )

    @property
    def bytes_done(self) -> int:
        """Of tar streams that were downloaded, those of failed attempts too."""
        return self._downloader.bytes_done

    def close(self) -> None:
        self._downloader.close()

    def copy(self, state: ShardState) -> Saved | ReadAgain:
        """Store one shard's archive, unless the newest archive holds the same.

        Every attempt starts with an empty file, because a failed attempt may leave half a
        stream that parses (influxd's own client appends to it).

        Raises:
            ShardGoneAtSource: the server no longer has it.
            Stopped: `stop` was set.
            NoUsableCopy: no node that has it answered when the run began.
            NodesAway: no node that has it answers any more, or it is to be read alone.
            ShardkeeperError: the last attempt's error; its notes list the attempts.
        """
        if self._is_suspected(state):
            raise self._suspected(state)
        retry = self._options.retry
        began = time.monotonic()
        written: Written | None = None
        if not state.copies:
            raise NoUsableCopy(
                state.trouble,
                hint="bring its owners back, then run the backup again",
            )
        choice, attempt = Choice(state.copies), 1
        while True:
            copy = choice.copy(attempt, self.is_away)
            if self._stop.is_set():
                raise Stopped("stopped before the backup was complete")
            try:
                with self._turn(copy.node):
                    written = self._written_out(state, copy)
                    stored = self._attempt(state, copy, written, choice)
                break
            except _AsBefore:
                return self._read_again(state, written)
            except (StoreFailed, Stopped):
                raise
            except DamagedCopy:
                continue  # now another replica is chosen
            except ShardkeeperError as error:
                if self._is_suspected(state) and not self._stop.is_set():
                    self._batch.suspect(state.place.shard_id)
                    raise self._suspected(state) from error
                if self._heals(state, error, attempt):
                    # Another node has it.
                    pause = 0.0 if self.is_away(copy.node) else retry.pause_s(attempt)
                    attempt += 1
                    self._emit(ShardRetried(state.place.shard_id, str(error), attempt, pause))
                    self._stop.wait(pause)
                elif not choice.fall_back():
                    raise
        seconds = time.monotonic() - began
        entry = shard_entry(
            state,
            stored,
            ShardReading(copy.node, self._clocks, written, seconds),
            file_name=self._batch.shard_file(state.place.shard_id),
            floor_ns=self._floors.get(state.place.shard_id, 0),
        )
        return Saved(state, entry, copy.node, seconds, attempt, choice.others(copy.node))

    def _heals(self, state: ShardState, error: ShardkeeperError, attempt: int) -> bool:
        """Whether another attempt may succeed.

        Raises:
            Stopped: `stop` was set.
            ShardGoneAtSource: the server no longer has it.
            NodesAway: no node that has it answers any more.
            RepositoryError: the repository fails, so no attempt can succeed.
        """
        if self._stop.is_set():
            raise Stopped("stopped before the backup was complete") from None
        if isinstance(error, RepositoryError) and not isinstance(error, ArchiveCorrupt):
            raise error
        if isinstance(error, (WireError, ArchiveCorrupt)) and self._all_away(state):
            raise NodesAway(error) from None
        if isinstance(error, PeerClosedEarly) and self._is_gone(state):
            raise ShardGoneAtSource(f"shard {state.place.shard_id} is gone") from None
        elsewhere = isinstance(error, (NotWrittenOut, CompletenessUnknown))
        heals = error.retryable or isinstance(error, (ArchiveCorrupt, TSMError))
        heals = heals or (elsewhere and attempt < len(state.copies))
        if heals and attempt >= self._options.retry.attempts:
            error.add_note(f"attempt {attempt} of {self._options.retry.attempts}")
            if isinstance(error, TSMError):
                error.hint = error.hint or REFUSED
            return False
        return heals

    def is_away(self, node: str) -> bool:
        """Whether the node did not answer the last request."""
        return self._source.peer(node).why_away is not None

    def _is_suspected(self, state: ShardState) -> bool:
        """Whether it must be read alone, which cannot be while other processes read."""
        return self._beside_others and state.place.shard_id in self._source.crashes.counts

    def _suspected(self, state: ShardState) -> Suspected:
        shard_id = state.place.shard_id
        where = self._source.crashes.where.get(shard_id, "its server")
        return Suspected(
            PeerClosedEarly(
                f"{where} went down while shard {shard_id} was read",
                hint="the server's log says why; run the backup again",
            )
        )

    def _all_away(self, state: ShardState) -> bool:
        return all_away(self._source.peer(copy.node) for copy in state.copies)

    def _turn(self, node: str) -> AbstractContextManager[None]:
        """Wait until a connection to the node is free, within the node's share."""
        if self._slots is not None:
            return self._slots.one(node, self._stop)
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

    def _written_out(self, state: ShardState, copy: ShardCopy) -> Written | None:
        """Make the node write the copy's cache to files; None if it reports no figures.

        Raises:
            NotWrittenOut: the node did not write it.
            CompletenessUnknown: completeness is unknown, and `require_complete` is set.
            Stopped: `stop` was set.
            WireError: the node does not answer.
        """
        written = self._write_out.before_reading(state.place.shard_id, copy.node)
        if written is None and self._options.require_complete:
            raise CompletenessUnknown(
                f"it is not known whether an archive of shard {state.place.shard_id} would be "
                f"complete: {copy.node} does not report over HTTP what it has in memory; -http "
                "names its address, -user and -pwd-file the credentials",
            )
        return written

    def _attempt(
        self, state: ShardState, copy: ShardCopy, written: Written | None, choice: Choice
    ) -> StoredArchive:
        """Download the shard and verify what came; if anything is raised, nothing is kept.

        Raises:
            _AsBefore: the newest archive holds the same.
            DamagedCopy: another replica is to be read first.
            ShardkeeperError: from the download, or because a check failed.
        """
        shard_id = state.place.shard_id
        with self._downloader.archive(state.place, copy.node) as download:
            stored = download.stored
            self._require_same_history(state, stored)
            if written is not None:
                self._require_all_files(shard_id, copy, stored, written.sample)
            if proof_of(self._clocks, written) is not None and _is_as_before(state, stored):
                raise _AsBefore
            if damaged := stored.facts.damaged:
                require_something_sound(shard_id, copy.node, stored.facts.files)
                choice.require_best(shard_id, copy.node, damaged)
                confirm_damage(self._source, shard_id, copy.node, damaged, download.buffer)
            twice = self._came_twice(state, copy, download)
            return replace(stored, read_twice=twice, gone=self._lost(state, copy, stored, written))

    def _came_twice(self, state: ShardState, copy: ShardCopy, download: Download) -> bool:
        """Read new files once more, within the limit; returns whether all came twice the same."""
        new = second_read(download.stored.facts.files, download.modified_s, state.details)
        return read_again(
            self._source,
            state.place.shard_id,
            copy.node,
            new,
            limit_bytes=self._options.read_twice_bytes,
            buffer=download.buffer,
        )

    def _lost(
        self, state: ShardState, copy: ShardCopy, stored: StoredArchive, written: Written | None
    ) -> tuple[FileFacts, ...]:
        """Files of earlier archives that the source lost, unless that is accepted."""
        if state.previous is None or self._options.damaged == "accept":
            return ()
        sample = written.sample if written else None
        gone = self._gone.found(state, copy.node, stored.facts.files, sample)
        if self._options.damaged == "refuse":
            require_all_there(state.place.shard_id, copy.node, gone)
        return gone

    def _require_same_history(self, state: ShardState, stored: StoredArchive) -> None:
        """Require that a single server's shard continues its archive.

        Raises:
            SourceChanged: it does not.
        """
        details = state.details
        if details is None or self._source.kind != "server":
            return
        file = diverged(details, stored.facts.files)
        if file:
            raise describe_divergence(state.place.shard_id, self._source.address, file)

    def _require_all_files(
        self, shard_id: ShardID, copy: ShardCopy, stored: StoredArchive, before: Sample
    ) -> None:
        """Require all files: a file that a server leaves out of a stream leaves no trace there.

        Raises:
            ArchiveCorrupt: the node reported twice that the shard has other files.
            WireError: the node no longer reports figures.
        """
        files = stored.facts.files
        if not missing_files(files, before, before):
            return
        after = self._write_out.after_reading(shard_id, copy.node)
        what = missing_files(files, before, after) if after is not None else ""
        if what:
            raise ArchiveCorrupt(
                f"the archive of shard {shard_id} is incomplete: {what}",
                hint="read the server's log, then run the backup again",
            )

    def _is_gone(self, state: ShardState) -> bool:
        """Whether the source reports it gone; False while the source restarts."""
        try:
            return not self._source.has_shard(state.place.shard_id)
        except WireError:
            return False

    def _read_again(self, state: ShardState, written: Written | None) -> ReadAgain:
        proof, details = proof_of(self._clocks, written), state.details
        assert proof is not None  # noqa: S101 - else it would be stored
        assert details is not None  # noqa: S101
        return ReadAgain(state, ProvenAgain(state.place.shard_id, details.content, proof))


def _is_as_before(state: ShardState, stored: StoredArchive) -> bool:
    """Whether the newest archive holds exactly these files."""
    details = state.details
    return (
        state.reason == "changed"
        and details is not None
        and details.content == stored.facts.content
    )


class ShardReading(Struct, frozen=True):
    """How a shard was read."""

    node: str
    clocks: Clocks | None
    """The source's clock before anything was read, and ours; None if it does not report one."""
    written: Written | None
    """The proof that the archive holds everything acknowledged before; None: there is none."""
    seconds: float


def proof_of(clocks: Clocks | None, written: Written | None) -> Proof | None:
    """What holds while the shard does not change; None if that is not known."""
    now = figures(written.sample) if written and written.at_rest else None
    return Proof(clocks, now) if now and clocks else None


def shard_entry(
    state: ShardState, stored: StoredArchive, read: ShardReading, *, file_name: str, floor_ns: int
) -> ShardEntry:
    """The entry of a shard's archive.

    Args:
        floor_ns: the ordering key of the shard's archive in an earlier era; 0: none.
    """
    place, facts = state.place, stored.facts
    return ShardEntry(
        database=place.database,
        policy=place.policy,
        shard_id=place.shard_id,
        file_name=file_name,
        size_bytes=facts.size_bytes,
        last_modified_ns=_later_than(state.previous, state.modified_ns, floor_ns),
        details=ShardDetails(
            sha256=stored.sha256,
            stored_bytes=stored.stored_bytes,
            content=facts.content,
            checked=facts.checked,
            files=with_whole_ones(facts.files, state.previous),
            series=facts.series,
            points=facts.points,
            min_time_ns=facts.min_time_ns,
            max_time_ns=facts.max_time_ns,
            tombstones=facts.tombstones,
            node=read.node,
            read_at_ns=read.clocks.server_ns if read.clocks else None,
            modified_ns=state.modified_ns,
            seconds=read.seconds,
            group_start_ns=place.group.start_time_ns,
            group_end_ns=place.group.end_time_ns,
            gone=stored.gone,
            read_twice=stored.read_twice,
            owners=state.owners,
            complete="unknown" if read.written is None else "proven",
            proof=proof_of(read.clocks, read.written),
        ),
    )


def _later_than(previous: Archive | None, modified_ns: int | None, floor_ns: int) -> int:
    """The ordering key of a new entry: a cluster's time of last change, 0 for a server.

    Among equal keys every reader takes the newest manifest's entry, so with 0 a directory stays
    correct that `influxd backup -portable` writes into as well. An earlier entry with a greater
    key must be exceeded.
    """
    before = previous.entry.last_modified_ns if previous else floor_ns
    return max(modified_ns or 0, before + 1 if before > 0 else 0)
