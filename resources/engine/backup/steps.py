"""A backup in three kinds of steps, each of which may be a process of its own on another host.

    plan      takes the lock, plans, stores the metastore; a small backup ends here
    batch     does one batch; several steps at once, each again if its process died
    commit    reads what the batches did, copies what is left, writes the manifest last

Nothing passes between them but the run's key and the names of batches: all else is on record in the
run's stage. Between the steps the lock is the run's, and each step renews it.
docs/decisions/0017-a-run-in-steps.md says why; held by tests/resources/engine/backup/test_steps.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.batch import BackupBatch, BatchDone
from resources.engine.backup.batch_plan import batch_of, sized
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.copying import copy_batch
from resources.engine.backup.idle_replicas import Comparison
from resources.engine.backup.plan import BackupPlan, Era
from resources.engine.backup.run import (
    BackupReport,
    BegunBackup,
    Copies,
    begin_backup,
    possible,
    require_useful,
)
from resources.engine.backup.skipped_shards import LeftAlone
from resources.engine.events import Run, Warned
from resources.engine.lock_events import emit_left, emit_waiting
from resources.engine.options import BackupOptions
from resources.engine.workers.records import decode_record, encode_record
from resources.engine.workers.sharing import cut_for_steps
from resources.engine.workers.steps import BatchStep, StepSettings, batch_steps, parse_step
from resources.errors import (
    BatchTaken,
    LockLost,
    ShardkeeperError,
)
from resources.model import Metastore, ShardID, ShardPlace
from resources.repository.formats.details import FailedShard
from resources.repository.formats.manifest import Manifest, MetaEntry
from resources.repository.formats.proof import Clocks
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository, BackupWriter

POLL_S = 1.0
MAX_PLAN_BYTES = 128 << 20
"""A larger plan is carried out where it was made."""


class BackupInSteps(Struct, frozen=True):
    """A backup that is planned, and left to other steps.

    Attributes:
        backup: its name.
        key: by which the step that commits finds the run.
        batches: the largest first.
    """

    backup: str
    key: str
    batches: tuple[BatchStep, ...]


class PlanRecord(Struct, frozen=True):
    """What the step that commits has to know of the plan; shards to copy are in the batches."""

    meta: MetaEntry
    meta_sha256: str
    metastore: Metastore
    options: BackupOptions
    facts: SourceFacts
    address: str
    first: Mapping[str, SourceFacts]
    order: tuple[ShardID, ...]
    unchanged: tuple[ShardState, ...]
    alone: tuple[ShardState, ...]
    """To be copied by the step that commits, as they may bring their server down."""
    unserved: tuple[FailedShard, ...]
    absent: tuple[ShardPlace, ...]
    suspects: Mapping[ShardID, int]
    clocks: Clocks | None
    era: Era
    batches: tuple[str, ...]

    @classmethod
    def of(
        cls, begun: BegunBackup, alone: Sequence[ShardState], batches: Iterable[str]
    ) -> PlanRecord:
        """The record of a plan."""
        plan = begun.plan
        return cls(
            begun.meta,
            begun.meta_sha256,
            plan.metastore,
            begun.options,
            plan.facts,
            plan.address,
            plan.first,
            tuple(state.place.shard_id for state in plan.states),
            plan.unchanged,
            tuple(alone),
            plan.unserved,
            plan.absent,
            dict(begun.source.crashes.counts),
            plan.clocks,
            plan.era,
            tuple(batches),
        )

    def encode(self) -> bytes:
        """The record.

        Raises:
            BadReply: a server reported a number that no record can hold.
        """
        return encode_record(self)

    @classmethod
    def decode(cls, raw: bytes) -> PlanRecord:
        """Read the record.

        Raises:
            ManifestUnreadable: it is none.
        """
        return decode_record(raw, cls, "the plan on record")

    def begun(
        self,
        source: BackupSource,
        repository: BackupRepository,
        writer: BackupWriter,
        batches: Mapping[str, BackupBatch],
        run: Run,
    ) -> BegunBackup:
        """The backup that was begun, for the step that commits it."""
        for shard_id, times in self.suspects.items():
            source.crashes.suspect(shard_id, times)
        source.recall(self.facts.version, self.first)
        copied = [state for batch in batches.values() for state in batch.states]
        known = {s.place.shard_id: s for s in (*self.unchanged, *self.alone, *copied)}
        plan = BackupPlan(
            b"",
            self.metastore,
            self.facts,
            tuple(known[shard_id] for shard_id in self.order),
            self.absent,
            self.unserved,
            Comparison(),
            self.address,
            LeftAlone(source, repository.store, self.metastore.cluster_id),
            self.clocks,
            self.first,
            self.era,
        )
        result = Copies(plan, run)
        return BegunBackup(
            source, repository, writer, plan, self.options, result, self.meta, self.meta_sha256
        )


def plan_step(
    source: BackupSource,
    repository: BackupRepository,
    options: BackupOptions,
    run: Run,
    settings: StepSettings,
    cache: ManifestCache | None = None,
) -> BackupReport | BackupInSteps:
    """Plan a backup, and carry it out if it is small.

    Raises:
        ShardkeeperError: nothing was committed; earlier backups are unchanged.
    """
    began = time.monotonic()
    options = possible(options, repository)
    wait_s, on_wait = options.lock_wait_s, emit_waiting(run.emit)
    with repository.begin(command=settings.command, wait_s=wait_s, on_wait=on_wait) as writer:
        emit_left(writer.left, run.emit)
        begun = begin_backup(source, repository, writer, options, run, cache)
        left = _hand_over(begun, settings)
        if left is not None:
            return left
        begun.copy()
        manifest = begun.commit()
    return begun.report(manifest, time.monotonic() - began)


def _hand_over(begun: BegunBackup, settings: StepSettings) -> BackupInSteps | None:
    """Leave the backup to other steps; None: it is small, or the store does not have it."""
    if not settings.batch_bytes or not begun.repository.store.takes_workers:
        return None
    plan, writer, crashes = begun.plan, begun.writer, begun.source.crashes
    alone = [s for s in plan.to_copy if s.place.shard_id in crashes.counts]
    together = [s for s in plan.to_copy if s.place.shard_id not in crashes.counts]
    planned = cut_for_steps(sized(plan, together), settings.batch_bytes)
    if not planned:
        return None
    record = PlanRecord.of(begun, alone, planned).encode()
    if len(record) > MAX_PLAN_BYTES:
        begun.result.emit(
            Warned("the plan is too large to be left to other steps; this one carries it out")
        )
        return None
    for name, states in planned.items():
        batch = batch_of(plan, states, begun.options, crashes, beside_others=True)
        writer.batches.expect(batch.shards)
        writer.batches.add(name, batch.encode())
    key = writer.hand_over(record, settings.gap_s)
    return BackupInSteps(
        str(writer.name),
        key,
        batch_steps(planned, key, _size),
    )


def _size(state: ShardState) -> int:
    return state.copies[0].size_bytes or 0 if state.copies else 0


def batch_step(
    source: BackupSource,
    repository: BackupRepository,
    step: str,
    settings: StepSettings,
    run: Run,
) -> BatchDone:
    """Do one batch, unless it is done; wait for another process that does it.

    Args:
        step: its name, as `plan_step` gave it.

    Raises:
        UsageError: there is no such step.
        ShardkeeperError: the batch is not done; it may be done again.
    """
    name, key = parse_step(step)
    with repository.take_part(key, settings.gap_s, settings.command) as batches:
        batch = BackupBatch.decode(batches.todo(name), name)
        source.recall(batch.version, batch.first)
        while (raw := batches.done(name)) is None:
            run.check("the batch was done")
            try:
                with batches.claim(name, batch.shards) as claimed:
                    if claimed is not None:
                        done = copy_batch(source, repository, claimed, batch, run)
                        claimed.finish(done.encode())
                        return done
            except BatchTaken as error:
                run.emit(Warned(str(error)))
                run = Run(run.emit)
            run.stop.wait(POLL_S)
        return BatchDone.decode(raw, name, batch, batches.backup)


def commit_step(
    source: BackupSource,
    repository: BackupRepository,
    backup: str,
    key: str,
    settings: StepSettings,
    run: Run,
) -> BackupReport | None:
    """Commit a backup whose batches are done; None: that was done before.

    Args:
        backup: its name.
        key: of the run.

    Raises:
        ShardkeeperError: nothing was committed. It may be tried again, until another run takes
            the place of this one.
    """
    began = time.monotonic()
    try:
        with repository.finish(key, settings.gap_s, settings.command) as writer:
            if writer.committed:
                return None
            begun = _read_back(source, repository, writer, run)
            manifest = _commit(begun)
    except LockLost:
        if _is_committed(repository, backup):
            return None
        raise
    return begun.report(manifest, time.monotonic() - began)


def _read_back(
    source: BackupSource, repository: BackupRepository, writer: BackupWriter, run: Run
) -> BegunBackup:
    """The backup as its batches have left it, with what they have not done."""
    batches = writer.batches
    record = PlanRecord.decode(batches.plan())
    planned = {name: BackupBatch.decode(batches.todo(name), name) for name in record.batches}
    begun = record.begun(source, repository, writer, planned, run)
    later = begun.collect(planned)
    if record.alone:
        later += begun.in_one_batch("b0", record.alone)
    begun.copy_rest(later)
    return begun


def _commit(begun: BegunBackup) -> Manifest:
    try:
        require_useful(begun.plan, begun.result)
    except ShardkeeperError as error:  # another attempt would end the same way
        begun.writer.discard(error)
        raise
    return begun.commit()


def _is_committed(repository: BackupRepository, backup: str) -> bool:
    return f"{backup}.manifest" in repository.store.names(f"{backup}.")
