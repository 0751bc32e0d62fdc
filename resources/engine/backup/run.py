"""Carry a backup out: copy what changed, check it, and commit it with its manifest."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from resources.clients.source import Source as BackupSource
from resources.engine.await_nodes import MOST_RETURNS, await_nodes
from resources.engine.backup.changes import ShardState
from resources.engine.backup.damaged import NEXT_STEP, said_of_archive
from resources.engine.backup.plan import BackupPlan, plan_backup
from resources.engine.backup.pull import NodesAway, Puller, ReadAgain, Saved, ShardGoneAtSource
from resources.engine.backup.set_aside import INTO_ANOTHER, NO_ARCHIVE
from resources.engine.events import (
    PROGRESS_EVERY_S,
    Event,
    MetaSaved,
    Progress,
    ShardDamaged,
    ShardFailed,
    ShardGone,
    ShardReadAgain,
    ShardRetried,
    ShardSaved,
    Tell,
    Warned,
)
from resources.engine.lock_news import tell_left, tell_watched
from resources.engine.options import BackupOptions
from resources.engine.selection import not_there
from resources.engine.spread import Spread, whichever_is_there
from resources.engine.threads import Outcome, running
from resources.errors import (
    BackupPartial,
    ShardkeeperError,
    SourceChanged,
    Stopped,
    StoreFailed,
)
from resources.model import Metastore, ShardLocation, ShardPlace
from resources.repository.evidence import (
    BackupEvidence,
    FailedShard,
    ShardEvidence,
    Source,
)
from resources.repository.manifest import Manifest, MetaEntry
from resources.repository.repository import BackupRepository, BackupWriter
from resources.version import VERSION


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup did. `failed` is not empty when it is only a part of what was asked."""

    manifest_file: str
    manifest: Manifest
    saved: tuple[Saved, ...]
    unchanged: tuple[ShardState, ...]
    gone: tuple[ShardPlace, ...]
    failed: tuple[FailedShard, ...]
    seconds: float
    metastore: Metastore
    """As it was read and stored."""
    damaged: tuple[FailedShard, ...] = ()
    """Of the failed ones, those that are saved as they are, damaged."""

    @property
    def bytes_transferred(self) -> int:
        """Metastore and tar bytes, as the original counts them."""
        return self.manifest.meta.size_bytes + sum(s.entry.size_bytes for s in self.saved)

    def check_complete(self) -> None:
        """Raise BackupPartial if shards failed."""
        if self.failed and len(self.failed) == len(self.damaged):
            first = self.damaged[0]
            raise BackupPartial(
                f"{len(self.damaged)} shards are damaged at their source; everything that is "
                f"whole is saved; the first is shard {first.shard_id}, {first.why}",
                hint=NEXT_STEP,
            )
        if self.failed:
            first = self.failed[0]
            again = any(NO_ARCHIVE not in failed.why for failed in self.failed)
            next_step = (
                "run the backup again, it copies only what is left" if again else INTO_ANOTHER
            )
            raise BackupPartial(
                f"{len(self.failed)} of {len(self.failed) + len(self.saved)} shards were not "
                f"saved; the first is shard {first.shard_id}: {first.why}",
                hint=f"everything else is saved and restorable; {next_step}",
            )

    def check_covers(self, shards: Collection[ShardLocation]) -> None:
        """Raise NothingMatches if one of these shards was not at the source, in this place."""
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
    *,
    tell: Tell,
    command: str = "backup",
    stop: threading.Event | None = None,
) -> BackupReport:
    """Back up a server into a repository.

    A shard that cannot be read does not hold up the others: the backup is committed without
    it, says so in its manifest, and `BackupReport.check_complete` raises. If nothing at all
    could be saved, or the repository fails, nothing is committed.

    Args:
        tell: called with events, always from the calling thread.
        stop: set it to end early; nothing is committed then.

    Raises:
        ShardkeeperError: nothing was committed; earlier backups are as they were.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    watching = tell_watched(tell)
    with repository.begin(command=command, wait_s=options.lock_wait_s, watching=watching) as writer:
        tell_left(writer.left, tell)
        plan = plan_backup(source, repository, options, tell=tell)
        meta, meta_sha256 = writer.put_meta(plan.meta, plan.metastore.max_node_id)
        tell(MetaSaved(meta.size_bytes))
        result = _Copies(plan, tell)
        for state in plan.unchanged:
            result.note_lack(state)
            result.note_damage(state, state.previous.entry.evidence if state.previous else None)
        for missing in plan.unserved:
            tell(ShardFailed(missing.shard_id, missing.why))
        _copy(source, repository, writer, plan, options, result, stop)
        _refuse_if_useless(plan, result)
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
    """What became of each planned copy."""

    def __init__(self, plan: BackupPlan, tell: Tell) -> None:
        self.tell = tell
        self.total = len(plan.to_copy)
        self.saved: list[Saved] = []
        self.gone: list[ShardPlace] = []
        self.failed: list[FailedShard] = list(plan.unserved)
        self.damaged: list[FailedShard] = []
        self.lacking = len(plan.unserved)
        self.read_again: list[ReadAgain] = []
        self.first_error: ShardkeeperError | None = None

    @property
    def as_before(self) -> tuple[ShardState, ...]:
        """Those that were read again, as what they turned out to be."""
        return tuple(replace(r.state, reason="unchanged", news="") for r in self.read_again)

    def add(self, state: ShardState, outcome: Outcome[Saved | ReadAgain]) -> None:
        try:
            saved = outcome.result()
        except ShardGoneAtSource:
            self.gone.append(state.place)
            self.tell(ShardGone(state.place))
        except (StoreFailed, Stopped, NodesAway, SourceChanged):
            raise
        except ShardkeeperError as error:
            self.fail(state, error)
        else:
            if isinstance(saved, ReadAgain):
                self.read_again.append(saved)
                self.tell(ShardReadAgain(state.place))
                previous = state.previous
                self.note_damage(state, previous.entry.evidence if previous else None)
                return
            self.saved.append(saved)
            self.tell(ShardSaved(saved.node, saved.entry, saved.seconds))
            self.note_lack(saved.state)
            evidence = saved.entry.evidence
            self.note_damage(saved.state, evidence)
            for line in saved.damaged_elsewhere:
                self.tell(Warned(f"{line}; the archive is made of what {saved.node} has"))
            if evidence is not None and evidence.tombstones:
                self.tell(
                    Warned(
                        f"shard {state.place.shard_id}: {evidence.tombstones} deleted ranges are "
                        "still pending on the server; our restore applies them, the original "
                        "tools bring those points back"
                    )
                )

    def fail(self, state: ShardState, error: ShardkeeperError) -> None:
        self.first_error = self.first_error or error
        self.failed.append(FailedShard(state.place.shard_id, str(error)))
        self.tell(ShardFailed(state.place.shard_id, str(error)))

    def note_lack(self, state: ShardState) -> None:
        """An archive without points that another replica has is kept, and is not all."""
        if state.lacks:
            self.lacking += 1
            self.failed.append(FailedShard(state.place.shard_id, state.lacks))
            self.tell(ShardFailed(state.place.shard_id, state.lacks))

    def note_damage(self, state: ShardState, evidence: ShardEvidence | None) -> None:
        """A damaged archive is kept, and named each time while it is the newest."""
        why = said_of_archive(evidence)
        if why:
            self.lacking += 1
            found = FailedShard(state.place.shard_id, why)
            self.failed.append(found)
            self.damaged.append(found)
            self.tell(ShardDamaged(state.place.shard_id, why))

    @property
    def done(self) -> int:
        copied = len(self.saved) + len(self.read_again) + len(self.gone)
        return copied + len(self.failed) - self.lacking


def _copy(
    source: BackupSource,
    repository: BackupRepository,
    writer: BackupWriter,
    plan: BackupPlan,
    options: BackupOptions,
    result: _Copies,
    stop: threading.Event,
) -> None:
    """Copy everything; what only nodes have that do not answer comes last, and once more."""
    retries: queue.SimpleQueue[Event] = queue.SimpleQueue()
    puller = Puller(
        source,
        writer,
        plan.clocks,
        plan.first,
        plan.era.floors,
        options,
        scratch_dir=repository.scratch_dir,
        stop=stop,
        retried=lambda shard_id, error, attempt, pause: retries.put(
            ShardRetried(shard_id, str(error), attempt, pause)
        ),
    )
    try:
        later = _copy_each(source, puller, plan.to_copy, options, result, retries, stop)
        plan.left_alone.note(tell=result.tell)
        for _ in range(MOST_RETURNS):
            if not later or not _await_nodes(source, later, options, result.tell, stop):
                break
            states = [state for state, _ in later]
            later = _copy_each(source, puller, states, options, result, retries, stop)
            plan.left_alone.note(tell=result.tell)
        for state, away in later:
            result.fail(state, away.cause)
        if said := source.leftovers.said():
            result.tell(Warned(said))
    finally:
        puller.close()


def _copy_each(
    source: BackupSource,
    puller: Puller,
    states: Sequence[ShardState],
    options: BackupOptions,
    result: _Copies,
    retries: queue.SimpleQueue[Event],
    stop: threading.Event,
) -> list[tuple[ShardState, NodesAway]]:
    """Returns those that no node that answers has."""
    later: list[tuple[ShardState, NodesAway]] = []

    def give_up() -> None:
        stop.set()
        source.abort()

    work = running(
        puller.pull,
        Spread(states, _nodes_of, whichever_is_there(puller.is_away)),
        parallel=options.parallel,
        name="pull",
        every_s=PROGRESS_EVERY_S,
        give_up=give_up,
    )
    try:
        with work as ended:
            for one in ended:
                while not retries.empty():
                    result.tell(retries.get())
                if one is None:
                    result.tell(Progress(result.done, result.total, puller.bytes_done))
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
    tell: Tell,
    stop: threading.Event,
) -> bool:
    """Wait for nodes that do not answer; whether any is back."""
    nodes = sorted({node for state, _ in later for node in _nodes_of(state)})
    peers = [source.peer(node) for node in nodes]
    return await_nodes(peers, len(later), options.retry.patience_s, tell=tell, stop=stop)


def _refuse_if_useless(plan: BackupPlan, result: _Copies) -> None:
    """A run in which every copy failed is a failed run, not a backup of nothing."""
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
        evidence=BackupEvidence(
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
                if not state.lacks
            ),
            failed=tuple(result.failed),
            proven_again=tuple(r.proven for r in result.read_again),
            era=name if plan.era.begins else plan.era.continues,
        ),
    )
