"""Copy the shards of one batch, with threads; any process can do it that reaches both sides."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import closing

from resources.clients.source import BackupSource
from resources.engine.backup.batch import BackupBatch, BatchDone, ShardOutcome
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.copy_shard import (
    NodesAway,
    ReadAgain,
    Saved,
    ShardCopier,
    ShardGoneAtSource,
)
from resources.engine.backup.damaged import describe_archive
from resources.engine.events import (
    PROGRESS_EVERY_S,
    Event,
    Progress,
    Run,
    ShardDamaged,
    ShardFailed,
    ShardGone,
    ShardReadAgain,
    ShardSaved,
    Warned,
)
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.records import StoredError
from resources.errors import ShardkeeperError, SourceChanged, Stopped, StoreFailed, counted
from resources.repository.batches import ClaimedBatch
from resources.repository.formats.details import FailedShard, ShardDetails
from resources.repository.repository import BackupRepository
from resources.runtime.workers import Outcome, Spread, running, whichever_is_there


def copy_batch(
    source: BackupSource,
    repository: BackupRepository,
    claimed: ClaimedBatch,
    batch: BackupBatch,
    run: Run,
    slots: NodeSlots | None = None,
) -> BatchDone:
    """Copy the shards of a batch; a shard that fails does not stop the others.

    Args:
        run: gets the events of each shard, and the progress of this batch.
        slots: limits the connections to a node beside other processes; None: there are none.

    Raises:
        ShardkeeperError: the repository fails, the source is another one, or `run` was stopped.
    """
    for shard_id, times in {**dict.fromkeys(claimed.suspected, 1), **batch.suspects}.items():
        if shard_id not in source.crashes.counts:
            source.crashes.suspect(shard_id, times)
    retries: queue.SimpleQueue[Event] = queue.SimpleQueue()
    retrying = Run(retries.put, run.stop)
    copier = ShardCopier(source, repository, claimed, batch, retrying, slots)
    with closing(copier):
        outcomes = _copy_each(source, copier, batch, run, retries)
    return BatchDone.of(outcomes, source)


def _copy_each(
    source: BackupSource,
    copier: ShardCopier,
    batch: BackupBatch,
    run: Run,
    retries: queue.SimpleQueue[Event],
) -> list[ShardOutcome]:
    outcomes: list[ShardOutcome] = []
    n_done = 0

    def give_up() -> None:
        run.stop.set()
        source.abort()

    work = running(
        copier.copy,
        Spread(batch.states, nodes_of, whichever_is_there(copier.is_away)),
        parallel=batch.options.parallel,
        name="pull",
        every_s=PROGRESS_EVERY_S,
        give_up=give_up,
    )
    try:
        with work as ended:
            for one in ended:
                while not retries.empty():
                    run.emit(retries.get())
                if one is None:
                    run.emit(Progress(n_done, len(batch.states), copier.bytes_done))
                    continue
                outcomes.append(_outcome(*one))
                n_done += outcomes[-1].kind != "away"
                for event in _events(one[0], outcomes[-1]):
                    run.emit(event)
    finally:
        source.resume()
    return outcomes


def nodes_of(state: ShardState) -> Sequence[str]:
    """The nodes that have a shard, best first."""
    return [copy.node for copy in state.copies]


def _outcome(state: ShardState, outcome: Outcome[Saved | ReadAgain]) -> ShardOutcome:
    """What became of a shard.

    Raises:
        StoreFailed, Stopped, SourceChanged: no other shard can be copied either.
    """
    shard_id = state.place.shard_id
    try:
        found = outcome.result()
    except ShardGoneAtSource:
        return ShardOutcome(shard_id, "gone")
    except (StoreFailed, Stopped, SourceChanged):
        raise
    except NodesAway as away:
        return ShardOutcome(shard_id, "away", error=StoredError.of(away.cause))
    except ShardkeeperError as error:
        return ShardOutcome(shard_id, "failed", error=StoredError.of(error))
    if isinstance(found, ReadAgain):
        return ShardOutcome(shard_id, "read again", proven=found.proven)
    return ShardOutcome(
        shard_id,
        "saved",
        found.entry,
        found.node,
        found.seconds,
        found.attempts,
        found.damaged_elsewhere,
    )


def _events(state: ShardState, outcome: ShardOutcome) -> Iterator[Event]:
    """What is reported of a shard when it has ended."""
    if outcome.kind == "gone":
        yield ShardGone(state.place)
    elif outcome.kind == "failed" and outcome.error is not None:
        yield ShardFailed(outcome.shard_id, str(outcome.error.error()))
    elif outcome.kind == "read again":
        yield ShardReadAgain(state.place)
        yield from damage_event(damage_of(state, state.details))
    elif outcome.entry is not None:
        details = outcome.entry.details
        yield ShardSaved(outcome.node, outcome.entry, outcome.seconds)
        yield from gap_event(gap_of(state))
        yield from damage_event(damage_of(state, details))
        for line in outcome.damaged_elsewhere:
            yield Warned(f"{line}; the archive is made of what {outcome.node} has")
        if details is not None and details.tombstones:
            yield Warned(
                f"shard {outcome.shard_id}: "
                f"{counted(details.tombstones, 'delete is', 'deletes are')} "
                "still pending on the server; our restore applies them, the original "
                "tools bring those points back"
            )


def gap_of(state: ShardState) -> FailedShard | None:
    """The failure of a shard whose archive does not have points that a replica has."""
    return FailedShard(state.place.shard_id, state.gaps) if state.gaps else None


def damage_of(state: ShardState, details: ShardDetails | None) -> FailedShard | None:
    """The failure of a shard whose archive is damaged; of every run while it is the newest."""
    why = describe_archive(details)
    return FailedShard(state.place.shard_id, why) if why else None


def gap_event(gap: FailedShard | None) -> Iterator[Event]:
    if gap is not None:
        yield ShardFailed(gap.shard_id, gap.why)


def damage_event(damage: FailedShard | None) -> Iterator[Event]:
    if damage is not None:
        yield ShardDamaged(damage.shard_id, damage.why)
