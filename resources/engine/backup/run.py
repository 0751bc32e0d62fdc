"""Run a backup: copy what changed, check it, and commit it with its manifest."""

from __future__ import annotations

import queue
import time
from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.source import Source as BackupSource
from resources.engine.await_nodes import MAX_RETURNS, await_nodes
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.damaged import NEXT_STEP, describe_archive
from resources.engine.backup.download import (
    NodesAway,
    ReadAgain,
    Saved,
    ShardDownloader,
    ShardGoneAtSource,
)
from resources.engine.backup.gone_files import GoneFiles
from resources.engine.backup.plan import BackupPlan, plan_backup
from resources.engine.events import (
    PROGRESS_EVERY_S,
    Event,
    MetaSaved,
    Progress,
    Run,
    ShardDamaged,
    ShardFailed,
    ShardGone,
    ShardReadAgain,
    ShardRetried,
    ShardSaved,
    Warned,
)
from resources.engine.lock_events import emit_left, emit_waiting
from resources.engine.options import BackupOptions
from resources.engine.selection import INTO_ANOTHER, NO_ARCHIVE, not_there
from resources.errors import (
    BackupPartial,
    ShardkeeperError,
    SourceChanged,
    Stopped,
    StoreFailed,
    counted,
    named_few,
)
from resources.model import Metastore, ShardLocation, ShardPlace
from resources.repository.formats.details import (
    BackupDetails,
    FailedShard,
    ShardDetails,
    Source,
)
from resources.repository.formats.manifest import Manifest, MetaEntry
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository, BackupWriter
from resources.runtime.workers import Outcome, Spread, running, whichever_is_there
from resources.version import VERSION


def _which(shards: Sequence[FailedShard]) -> str:
    several = len(shards) > 1
    return f" ({named_few(failed.shard_id for failed in shards)})" if several else ""


class BackupReport(Struct, frozen=True):
    """The result of a backup; it is incomplete if `failed` is not empty."""

    manifest_file: str
    manifest: Manifest
    saved: tuple[Saved, ...]
    unchanged: tuple[ShardState, ...]
    gone: tuple[ShardPlace, ...]
    failed: tuple[FailedShard, ...]
    seconds: float
    metastore: Metastore
    """As read and stored."""
    damaged: tuple[FailedShard, ...] = ()
    """Those of `failed` that are saved in their damaged state."""

    @property
    def bytes_transferred(self) -> int:
        """Metastore and tar bytes, as the original counts them."""
        return self.manifest.meta.size_bytes + sum(s.entry.size_bytes for s in self.saved)

    def check_complete(self) -> None:
        """Require that no shard failed.

        Raises:
            BackupPartial: a shard failed, or is damaged at its source.
        """
        if self.failed and len(self.failed) == len(self.damaged):
            first = self.damaged[0]
            raise BackupPartial(
                f"{counted(len(self.damaged), 'shard is', 'shards are')} damaged at the source"
                f"{_which(self.damaged)}; everything that is whole is saved; the first is shard "
                f"{first.shard_id}, {first.why}",
                hint=NEXT_STEP,
            )
        if self.failed:
            first = self.failed[0]
            again = any(NO_ARCHIVE not in failed.why for failed in self.failed)
            next_step = (
                "run the backup again, it copies only what is left" if again else INTO_ANOTHER
            )
            all_ = f"of {counted(len(self.failed) + len(self.saved), 'shard')}"
            raise BackupPartial(
                f"{counted(len(self.failed), f'{all_} was', f'{all_} were')} not saved"
                f"{_which(self.failed)}; the first is shard {first.shard_id}: {first.why}",
                hint=f"everything else is saved and restorable; {next_step}",
            )

    def check_covers(self, shards: Collection[ShardLocation]) -> None:
        """Require that the source had all of these shards, each in its place.

        Raises:
            NothingMatches: one was not there.
        """
        states = (*(s.state.place for s in self.saved), *(s.place for s in self.unchanged))
        seen = {place.shard_id for place in states} | {f.shard_id for f in self.failed}
        there = list(self.metastore.places())
        known = {ShardLocation.of(place) for place in there}
        missing = [one for one in shards if one.shard_id not in seen or one not in known]
        if missing:
            raise not_there(missing, there, "; the others are saved")


def back_up(
    source: BackupSource,
    repository: BackupRepository,
    options: BackupOptions,
    run: Run,
    *,
    command: str = "backup",
    cache: ManifestCache | None = None,
) -> BackupReport:
    """Back up a source into a repository.

    A shard that cannot be read does not stop the others: the backup is committed without it, its
    manifest lists the failure, and `BackupReport.check_complete` raises. If nothing could be
    saved, or the repository fails, nothing is committed.

    Args:
        run: if it is stopped, nothing is committed.

    Raises:
        ShardkeeperError: nothing was committed; earlier backups are unchanged.
    """
    began = time.monotonic()
    on_wait = emit_waiting(run.emit)
    with repository.begin(command=command, wait_s=options.lock_wait_s, on_wait=on_wait) as writer:
        emit_left(writer.left, run.emit)
        plan = plan_backup(source, repository, options, emit=run.emit, cache=cache)
        meta, meta_sha256 = writer.put_meta(plan.meta, plan.metastore.max_node_id)
        run.emit(MetaSaved(meta.size_bytes))
        result = _Copies(plan, run)
        for state in plan.unchanged:
            result.note_gap(state)
            result.note_damage(state, state.previous.entry.details if state.previous else None)
        for missing in plan.unserved:
            run.emit(ShardFailed(missing.shard_id, missing.why))
        _copy(source, repository, writer, plan, options, result)
        _require_useful(plan, result)
        manifest = _manifest(source, plan, options, meta, meta_sha256, result, str(writer.name))
        manifest_file = writer.commit(manifest)
    return BackupReport(
        manifest_file=manifest_file,
        manifest=manifest,
        saved=tuple(result.saved),
        unchanged=(*plan.unchanged, *result.as_before),
        gone=tuple(result.gone),
        failed=tuple(result.failed),
        seconds=time.monotonic() - began,
        metastore=plan.metastore,
        damaged=tuple(result.damaged),
    )


class _Copies:
    """The outcomes of the planned copies."""

    def __init__(self, plan: BackupPlan, run: Run) -> None:
        self.run = run
        self.emit = run.emit
        self.total = len(plan.to_copy)
        self.saved: list[Saved] = []
        self.gone: list[ShardPlace] = []
        self.failed: list[FailedShard] = list(plan.unserved)
        self.damaged: list[FailedShard] = []
        self.unrestorable = len(plan.unserved)
        self.read_again: list[ReadAgain] = []
        self.first_error: ShardkeeperError | None = None

    @property
    def as_before(self) -> tuple[ShardState, ...]:
        """Shards that were read again and equal their archives, as unchanged ones."""
        return tuple(replace(r.state, reason="unchanged", news="") for r in self.read_again)

    def add(self, state: ShardState, outcome: Outcome[Saved | ReadAgain]) -> None:
        try:
            saved = outcome.result()
        except ShardGoneAtSource:
            self.gone.append(state.place)
            self.emit(ShardGone(state.place))
        except (StoreFailed, Stopped, NodesAway, SourceChanged):
            raise
        except ShardkeeperError as error:
            self.fail(state, error)
        else:
            if isinstance(saved, ReadAgain):
                self.read_again.append(saved)
                self.emit(ShardReadAgain(state.place))
                previous = state.previous
                self.note_damage(state, previous.entry.details if previous else None)
                return
            self.saved.append(saved)
            self.emit(ShardSaved(saved.node, saved.entry, saved.seconds))
            self.note_gap(saved.state)
            details = saved.entry.details
            self.note_damage(saved.state, details)
            for line in saved.damaged_elsewhere:
                self.emit(Warned(f"{line}; the archive is made of what {saved.node} has"))
            if details is not None and details.tombstones:
                self.emit(
                    Warned(
                        f"shard {state.place.shard_id}: "
                        f"{counted(details.tombstones, 'delete is', 'deletes are')} "
                        "still pending on the server; our restore applies them, the original "
                        "tools bring those points back"
                    )
                )

    def fail(self, state: ShardState, error: ShardkeeperError) -> None:
        self.first_error = self.first_error or error
        self.failed.append(FailedShard(state.place.shard_id, str(error)))
        self.emit(ShardFailed(state.place.shard_id, str(error)))

    def note_gap(self, state: ShardState) -> None:
        """Record as failed a shard whose archive does not have points that a replica has."""
        if state.gaps:
            self.unrestorable += 1
            self.failed.append(FailedShard(state.place.shard_id, state.gaps))
            self.emit(ShardFailed(state.place.shard_id, state.gaps))

    def note_damage(self, state: ShardState, details: ShardDetails | None) -> None:
        """Record a damaged archive, in every run while it is the newest."""
        why = describe_archive(details)
        if why:
            self.unrestorable += 1
            found = FailedShard(state.place.shard_id, why)
            self.failed.append(found)
            self.damaged.append(found)
            self.emit(ShardDamaged(state.place.shard_id, why))

    @property
    def done(self) -> int:
        copied = len(self.saved) + len(self.read_again) + len(self.gone)
        return copied + len(self.failed) - self.unrestorable


def _copy(
    source: BackupSource,
    repository: BackupRepository,
    writer: BackupWriter,
    plan: BackupPlan,
    options: BackupOptions,
    result: _Copies,
) -> None:
    """Copy all shards; those whose nodes do not answer come last, and are tried once more."""
    retries: queue.SimpleQueue[Event] = queue.SimpleQueue()
    downloader = ShardDownloader(
        source,
        writer,
        GoneFiles(source, repository),
        plan.clocks,
        plan.first,
        plan.era.floors,
        options,
        scratch_dir=repository.scratch_dir,
        stop=result.run.stop,
        retried=lambda shard_id, error, attempt, pause: retries.put(
            ShardRetried(shard_id, str(error), attempt, pause)
        ),
    )
    try:
        later = _copy_each(source, downloader, plan.to_copy, options, result, retries)
        plan.left_alone.note(emit=result.emit)
        for _ in range(MAX_RETURNS):
            if not later or not _await_nodes(source, later, options, result.run):
                break
            states = [state for state, _ in later]
            later = _copy_each(source, downloader, states, options, result, retries)
            plan.left_alone.note(emit=result.emit)
        for state, away in later:
            result.fail(state, away.cause)
        if message := source.leftovers.message():
            result.emit(Warned(message))
    finally:
        downloader.close()


def _copy_each(
    source: BackupSource,
    downloader: ShardDownloader,
    states: Sequence[ShardState],
    options: BackupOptions,
    result: _Copies,
    retries: queue.SimpleQueue[Event],
) -> list[tuple[ShardState, NodesAway]]:
    """Copy shards; returns those of which no node answers."""
    later: list[tuple[ShardState, NodesAway]] = []

    def give_up() -> None:
        result.run.stop.set()
        source.abort()

    work = running(
        downloader.download,
        Spread(states, _nodes_of, whichever_is_there(downloader.is_away)),
        parallel=options.parallel,
        name="pull",
        every_s=PROGRESS_EVERY_S,
        give_up=give_up,
    )
    try:
        with work as ended:
            for one in ended:
                while not retries.empty():
                    result.emit(retries.get())
                if one is None:
                    result.emit(Progress(result.done, result.total, downloader.bytes_done))
                    continue
                try:
                    result.add(one[0], one[1])
                except NodesAway as away:
                    later.append((one[0], away))
    finally:
        source.resume()
    return later


def _nodes_of(state: ShardState) -> Sequence[str]:
    return [copy.node for copy in state.copies]


def _await_nodes(
    source: BackupSource,
    later: Sequence[tuple[ShardState, NodesAway]],
    options: BackupOptions,
    run: Run,
) -> bool:
    """Wait for nodes that do not answer; returns whether any is back."""
    nodes = sorted({node for state, _ in later for node in _nodes_of(state)})
    peers = [source.peer(node) for node in nodes]
    return await_nodes(peers, len(later), options.retry.patience_s, run)


def _require_useful(plan: BackupPlan, result: _Copies) -> None:
    """A run in which every copy failed is a failed run, not an empty backup."""
    if result.saved or result.read_again:
        return
    if result.first_error is not None:
        raise result.first_error
    if plan.unserved and not plan.unchanged:
        first = plan.unserved[0]
        raise BackupPartial(f"shard {first.shard_id}: {first.why}", hint="nothing was saved")


def _manifest(
    source: BackupSource,
    plan: BackupPlan,
    options: BackupOptions,
    meta: MetaEntry,
    meta_sha256: str,
    result: _Copies,
    name: str,
) -> Manifest:
    order = {state.place.shard_id: place for place, state in enumerate(plan.states)}
    return Manifest(
        meta=meta,
        files=tuple(sorted((s.entry for s in result.saved), key=lambda e: order[e.shard_id])),
        limits=options.limits,
        limited=options.limited or len(result.failed) > len(result.damaged),
        details=BackupDetails(
            tool_version=VERSION,
            strategy=options.strategy,
            started_at_ns=plan.facts.clock_ns or time.time_ns(),
            source=Source(
                kind=source.kind,
                address=source.address,
                version=plan.facts.version,
                cluster_id=plan.metastore.cluster_id,
                started_ns=plan.facts.started_ns,
                clocks=plan.clocks,
            ),
            meta_sha256=meta_sha256,
            unchanged=tuple(
                state.place.shard_id
                for state in (*plan.unchanged, *result.as_before)
                if not state.gaps
            ),
            failed=tuple(result.failed),
            proven_again=tuple(r.proven for r in result.read_again),
            era=name if plan.era.begins else plan.era.continues,
        ),
    )
