"""Run a backup: copy what changed, check it, and commit it with its manifest."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.source import BackupSource
from resources.clients.source_address import Address
from resources.engine.await_nodes import MAX_RETURNS, await_nodes
from resources.engine.backup.batch import BackupBatch, BatchDone, ShardOutcome
from resources.engine.backup.batch_plan import batch_of, sized
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.copy_shard import ReadAgain, Saved
from resources.engine.backup.copying import (
    copy_batch,
    damage_event,
    damage_of,
    gap_event,
    gap_of,
    nodes_of,
)
from resources.engine.backup.damaged import NEXT_STEP
from resources.engine.backup.plan import BackupPlan, plan_backup
from resources.engine.events import Event, MetaSaved, Progress, Run, ShardFailed, Warned
from resources.engine.lock_events import emit_left, emit_waiting
from resources.engine.options import BackupOptions
from resources.engine.selection import INTO_ANOTHER, NO_ARCHIVE, not_there
from resources.engine.workers.sharing import cut, n_workers
from resources.errors import (
    BackupIncomplete,
    BackupPartial,
    PlanError,
    ShardkeeperError,
    UsageError,
    counted,
    named_few,
)
from resources.model import Metastore, ShardLocation, ShardPlace
from resources.repository.formats.details import BackupDetails, FailedShard, SourceInfo
from resources.repository.formats.manifest import Manifest, MetaEntry
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository, BackupWriter
from resources.version import VERSION

WORKER = "resources.engine.backup.worker"
MAX_COPIED = 150_000
"""Shards of one backup: a manifest has about a kilobyte for each, and readers have a limit."""


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
    options = possible(options, repository)
    on_wait = emit_waiting(run.emit)
    with repository.begin(command=command, wait_s=options.lock_wait_s, on_wait=on_wait) as writer:
        emit_left(writer.left, run.emit)
        begun = begin_backup(source, repository, writer, options, run, cache)
        begun.copy()
        manifest = begun.commit()
    return begun.report(manifest, time.monotonic() - began)


def begin_backup(
    source: BackupSource,
    repository: BackupRepository,
    writer: BackupWriter,
    options: BackupOptions,
    run: Run,
    cache: ManifestCache | None = None,
) -> BegunBackup:
    """Plan a backup, and store the metastore.

    Raises:
        PlanError: there is more to copy than one manifest can name.
    """
    plan = plan_backup(source, repository, options, emit=run.emit, cache=cache)
    if len(plan.to_copy) > MAX_COPIED:
        raise PlanError(
            f"{counted(len(plan.to_copy), 'shard is', 'shards are')} to be copied, and one "
            f"backup has at most {MAX_COPIED}",
            hint="back up a part first, by -db, -rp, -start or -end; the next backup of everything "
            "copies only what is left",
        )
    meta, meta_sha256 = writer.put_meta(plan.meta, plan.metastore.max_node_id)
    run.emit(MetaSaved(meta.size_bytes))
    result = Copies(plan, run)
    for state in plan.unchanged:
        for event in (*gap_event(gap_of(state)), *damage_event(damage_of(state, state.details))):
            run.emit(event)
    for missing in plan.unserved:
        run.emit(ShardFailed(missing.shard_id, missing.why))
    return BegunBackup(source, repository, writer, plan, options, result, meta, meta_sha256)


class Copies:
    """The outcomes of the planned copies; and what is wrong with unchanged shards, in every run."""

    def __init__(self, plan: BackupPlan, run: Run) -> None:
        self.run = run
        self.emit = run.emit
        self.total = len(plan.to_copy)
        self.done = 0
        self.bytes_done = 0
        self.saved: list[Saved] = []
        self.gone: list[ShardPlace] = []
        self.failed: list[FailedShard] = list(plan.unserved)
        self.damaged: list[FailedShard] = []
        self.read_again: list[ReadAgain] = []
        self.first_error: ShardkeeperError | None = None
        for state in plan.unchanged:
            self._note(gap_of(state), damage_of(state, state.details))

    @property
    def as_before(self) -> tuple[ShardState, ...]:
        """Shards that were read again and equal their archives, as unchanged ones."""
        return tuple(replace(r.state, reason="unchanged", news="") for r in self.read_again)

    def batch_run(self) -> Run:
        """A run for the copying of one batch, whose progress is a part of this one's."""
        done, bytes_done = self.done, self.bytes_done

        def emit(event: Event) -> None:
            if isinstance(event, Progress):
                self.bytes_done = bytes_done + event.bytes_done
                event = Progress(done + event.done, self.total, self.bytes_done)
            self.emit(event)

        return Run(emit, self.run.stop)

    def add(self, batch: BackupBatch, done: BatchDone) -> list[ShardOutcome]:
        """Add what a batch did, which it has reported; returns what is to be tried again."""
        states = {state.place.shard_id: state for state in batch.states}
        later = [one for one in done.outcomes if one.kind == "away"]
        self.done += len(done.outcomes) - len(later)
        for one in done.outcomes:
            self._add(states[one.shard_id], one)
        return later

    def _add(self, state: ShardState, one: ShardOutcome) -> None:
        if one.kind == "gone":
            self.gone.append(state.place)
        elif one.kind == "failed" and one.error is not None:
            self._fail(state, one.error.error())
        elif one.proven is not None:
            self.read_again.append(ReadAgain(state, one.proven))
            self._note(None, damage_of(state, state.details))
        elif one.entry is not None:
            seconds, attempts = one.seconds, one.attempts
            self.saved.append(
                Saved(state, one.entry, one.node, seconds, attempts, one.damaged_elsewhere)
            )
            self._note(gap_of(state), damage_of(state, one.entry.details))

    def give_up(self, state: ShardState, error: ShardkeeperError) -> None:
        """Add a shard of which no node has answered."""
        self._fail(state, error)
        self.emit(ShardFailed(state.place.shard_id, str(error)))

    def _fail(self, state: ShardState, error: ShardkeeperError) -> None:
        self.first_error = self.first_error or error
        self.failed.append(FailedShard(state.place.shard_id, str(error)))

    def _note(self, gap: FailedShard | None, damage: FailedShard | None) -> None:
        """Record a shard whose archive does not have all points, or is damaged."""
        if gap is not None:
            self.failed.append(gap)
        if damage is not None:
            self.failed.append(damage)
            self.damaged.append(damage)


def possible(options: BackupOptions, repository: BackupRepository) -> BackupOptions:
    """With one process, where several cannot store a run's archives.

    Raises:
        UsageError: several were asked for.
    """
    if repository.store.takes_workers:
        return options
    if options.workers is not None and options.workers > 1:
        raise UsageError(
            f"{repository.location}: several processes cannot store the archives of one run in a "
            "bucket",
            hint="leave -workers out: one process copies with as many threads as -parallel says",
        )
    return replace(options, workers=1)


class BegunBackup(Struct, frozen=True):
    """A backup that is planned: its shards are copied, in batches, and then it is committed."""

    source: BackupSource
    repository: BackupRepository
    writer: BackupWriter
    plan: BackupPlan
    options: BackupOptions
    result: Copies
    meta: MetaEntry
    meta_sha256: str

    def commit(self) -> Manifest:
        """Make the backup exist.

        Raises:
            ShardkeeperError: nothing could be copied, or the repository fails.
        """
        require_useful(self.plan, self.result)
        manifest = _manifest(self, _details(self))
        self.writer.commit(manifest)
        return manifest

    def report(self, manifest: Manifest, seconds: float) -> BackupReport:
        """The report of the backup that was committed with this manifest."""
        result = self.result
        return BackupReport(
            manifest_file=self.writer.name.manifest_file,
            manifest=manifest,
            saved=tuple(result.saved),
            unchanged=(*self.plan.unchanged, *result.as_before),
            gone=tuple(result.gone),
            failed=tuple(result.failed),
            seconds=seconds,
            metastore=self.plan.metastore,
            damaged=tuple(result.damaged),
        )

    def copy(self) -> None:
        """Copy all shards; those whose nodes do not answer come last, and are tried again."""
        self.copy_rest(self._copy_once(0, self.plan.to_copy))

    def copy_rest(self, later: list[Away]) -> None:
        """Try those again whose nodes did not answer, until they do or patience ends."""
        turn = 1
        while turn <= MAX_RETURNS and self._are_back(later):
            turn, later = turn + 1, self._copy_once(turn, [state for state, _ in later])
        for state, error in later:
            self.result.give_up(state, error)
        if message := self.source.leftovers.message():
            self.result.emit(Warned(message))

    def _copy_once(self, turn: int, states: Sequence[ShardState]) -> list[Away]:
        """Copy shards, those that are read alone last; returns those of which no node answers."""
        suspects = self.source.crashes.counts
        together = [state for state in states if state.place.shard_id not in suspects]
        address = self.source.reached_by
        work = sized(self.plan, together)
        count = n_workers(self.options.workers, self.options.parallel, work)
        if address is None or count == 1:
            return self.in_one_batch(f"b{turn}", states) if states else []
        alone = [state for state in states if state.place.shard_id in suspects]
        later = self._in_workers(address, cut(work, count, turn), count)
        return later + (self.in_one_batch(f"b{turn}", alone) if alone else [])

    def in_one_batch(self, name: str, states: Sequence[ShardState]) -> list[Away]:
        """Copy shards in this process; returns those of which no node answers."""
        batch = batch_of(self.plan, states, self.options, self.source.crashes)
        self.writer.batches.add(name, batch.encode())
        self._do(name, batch)
        return self.collect({name: batch})

    def _do(self, name: str, batch: BackupBatch) -> None:
        """Do a batch in this process, unless it is done."""
        with self.writer.batches.claim(name, batch.shards) as claimed:
            if claimed is not None:
                run = self.result.batch_run()
                done = copy_batch(self.source, self.repository, claimed, batch, run)
                claimed.finish(done.encode())

    def _in_workers(
        self, address: Address, cuts: Iterable[tuple[str, Sequence[ShardState]]], count: int
    ) -> list[Away]:
        """Have other processes do batches; returns the shards of which no node answers."""
        # Most runs have no use for these.
        from resources.engine.workers.lines import WorkerSpec
        from resources.engine.workers.worker_pool import working

        batches = self.writer.batches
        planned = {
            name: batch_of(self.plan, chosen, self.options, self.source.crashes, beside_others=True)
            for name, chosen in cuts
        }
        for name, batch in planned.items():
            batches.expect(batch.shards)
            batches.add(name, batch.encode())
        each = WorkerSpec(
            address,
            self.repository.location,
            batches.stage_name,
            str(self.writer.name),
            parallel=self.options.parallel,
            per_node=self.options.per_node,
        )
        before = Progress(self.result.done, self.result.total, self.result.bytes_done)
        with working(self.result.run, WORKER, each, count, before) as pool:
            pool.attend(lambda: all(map(batches.is_done, planned)))
        left = {name: batch for name, batch in planned.items() if not batches.is_done(name)}
        later = self.collect({n: batch for n, batch in planned.items() if n not in left})
        for name, batch in left.items():
            self._do(name, batch)
        return later + self.collect(left)

    def collect(self, planned: Mapping[str, BackupBatch]) -> list[Away]:
        """Read what is on record of batches; returns shards of which no node answered.

        Raises:
            BackupIncomplete: nothing is on record of one.
            ManifestUnreadable: the record of one is damaged.
        """
        later: list[Away] = []
        for name, batch in planned.items():
            raw = self.writer.batches.done(name)
            if raw is None:
                raise BackupIncomplete(
                    f"batch {name} of {self.writer.name} was not done; nothing was committed",
                    hint="who else works in that directory? Then run the backup again",
                )
            done = BatchDone.decode(raw, name, batch, str(self.writer.name))
            done.note_in(self.source)
            later += _with_errors(batch.states, self.result.add(batch, done))
        self.plan.left_alone.note(emit=self.result.emit)
        return later

    def _are_back(self, later: Sequence[Away]) -> bool:
        """Wait for nodes that do not answer; returns whether any is back."""
        if not later:
            return False
        nodes = sorted({node for state, _ in later for node in nodes_of(state)})
        peers = [self.source.peer(node) for node in nodes]
        return await_nodes(peers, len(later), self.options.retry.patience_s, self.result.run)


Away: TypeAlias = tuple[ShardState, ShardkeeperError]
"""A shard of which no node answers, and the error of the last one."""


def _with_errors(
    states: Sequence[ShardState], outcomes: Sequence[ShardOutcome]
) -> Iterator[tuple[ShardState, ShardkeeperError]]:
    """Shards of which no node answers, in the order of the outcomes."""
    known = {state.place.shard_id: state for state in states}
    for one in outcomes:
        if one.error is not None:
            yield known[one.shard_id], one.error.error()


def require_useful(plan: BackupPlan, result: Copies) -> None:
    """A run in which every copy failed is a failed run, not an empty backup."""
    if result.saved or result.read_again:
        return
    if result.first_error is not None:
        raise result.first_error
    if plan.unserved and not plan.unchanged:
        first = plan.unserved[0]
        raise BackupPartial(f"shard {first.shard_id}: {first.why}", hint="nothing was saved")


def _details(begun: BegunBackup) -> BackupDetails:
    """How the backup came about."""
    plan, result, source = begun.plan, begun.result, begun.source
    return BackupDetails(
        tool_version=VERSION,
        strategy=begun.options.strategy,
        started_at_ns=plan.facts.clock_ns or time.time_ns(),
        source=SourceInfo(
            kind=source.kind,
            address=source.address,
            version=plan.facts.version,
            cluster_id=plan.metastore.cluster_id,
            started_ns=plan.facts.started_ns,
            clocks=plan.clocks,
        ),
        meta_sha256=begun.meta_sha256,
        unchanged=tuple(
            state.place.shard_id for state in (*plan.unchanged, *result.as_before) if not state.gaps
        ),
        failed=tuple(result.failed),
        proven_again=tuple(r.proven for r in result.read_again),
        era=str(begun.writer.name) if plan.era.begins else plan.era.continues,
    )


def _manifest(begun: BegunBackup, details: BackupDetails) -> Manifest:
    result, options = begun.result, begun.options
    order = {state.place.shard_id: place for place, state in enumerate(begun.plan.states)}
    return Manifest(
        meta=begun.meta,
        files=tuple(sorted((s.entry for s in result.saved), key=lambda e: order[e.shard_id])),
        limits=options.limits,
        limited=options.limited or len(result.failed) > len(result.damaged),
        details=details,
    )
