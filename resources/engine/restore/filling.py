"""Fill the shards of a restore, in batches that this process or several do.

All that decides anything is in the records of the batches (`resources.engine.restore.batch`). They
are in a stage of the repository, which is the restore's alone; in a temporary directory if nothing
can be stored there. See docs/decisions/0016-plan-batches-commit.md.

Held by tests/faults/test_restore_workers.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.source_address import Address
from resources.engine.events import Event, Progress, Run
from resources.engine.restore.batch import (
    BatchFilled,
    ClusterPlace,
    RestoreBatch,
    ServerPlace,
    ShardFilled,
    ToFill,
)
from resources.engine.restore.batch_upload import OnFilled, Receivers, fill_batch
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.step_run import JoinedRestore
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.sharing import Sized, cut, cut_for_steps, n_workers
from resources.errors import RestoreFailed, StoreFailed
from resources.model import ShardID
from resources.repository.batches import RunBatches
from resources.repository.repository import BackupRepository
from resources.repository.storage.opening import open_store

WORKER = "resources.engine.restore_worker"


class Place(Struct, frozen=True):
    """Where the shards are, for this process and for others.

    Attributes:
        receivers: the servers, as this process reaches them.
        on_record: the same, for the records.
        address: by which other processes reach them; None: they cannot.
        key: tells this restore from all others; a run that goes on with it has the same.
        lease: as `WorkerSpec.lease`.
    """

    receivers: Receivers
    on_record: ServerPlace | ClusterPlace
    address: Address | None
    key: str = ""
    lease: tuple[int, float] | None = None


class Filling:
    """The filling of all shards of a restore.

    Args:
        on_filled: of each shard that is in its place, for the record of the restore.
        idle: called once a second or so while nothing ends.
        n_before: how many shards of the plan were in their place before.
    """

    def __init__(
        self,
        checked: CheckedRestore,
        place: Place,
        *,
        on_filled: OnFilled,
        idle: Callable[[], object],
        n_before: int = 0,
    ) -> None:
        self._checked = checked
        self._place = place
        self._on_filled = on_filled
        self._idle = idle
        self._so_far = Progress(n_before, len(checked.plan.shards), 0)
        self._done: dict[ShardID, ShardFilled] = {}
        self._later: dict[ShardID, ToFill] = {}
        """Shards whose nodes did not answer, with what was done of them."""

    def fill(self, items: Sequence[ToFill]) -> list[RestoredShard]:
        """Fill shards; returns them in their order.

        Raises:
            ShardkeeperError: what the first shard to fail raises.
        """
        if items:
            with _records(self._checked.repository, self._place.key) as (batches, where):
                self._fill(batches, where, items)
        return [self._done[item.shard_id].restored(item) for item in items]

    def planned_for_steps(
        self, items: Sequence[ToFill], batch_bytes: int
    ) -> dict[str, RestoreBatch]:
        """Batches for other steps to do, by name; none if it is not worth their cost.

        Args:
            batch_bytes: what makes a step worth it.
        """
        return {
            name: self._batch(chosen, beside_others=True)
            for name, chosen in cut_for_steps(_sized(items), batch_bytes).items()
        }

    def collect_steps(self, joined: JoinedRestore) -> list[RestoredShard]:
        """What steps have done; what they left, since a node did not answer, is done here.

        Raises:
            RestoreFailed: a batch is not done.
            ShardkeeperError: what the first shard to fail raises.
            BaseException: why the restore is given up, if it is.
        """
        if joined.failed is not None:
            raise joined.failed
        batches, planned = joined.batches, joined.planned
        for name, batch in planned.items():
            self._collect(batches, name, batch, on_filled=self._on_filled)
        if self._later:
            self._in_one_batch(batches, "b1", list(self._later.values()))
        items = {item.shard_id: item for batch in planned.values() for item in batch.shards}
        ids = (shard.place.shard_id for shard in self._checked.plan.shards)
        return [self._done[i].restored(items[i]) for i in ids if i in items]

    def _fill(self, batches: RunBatches, where: str, items: Sequence[ToFill]) -> None:
        options, address = self._checked.options, self._place.address
        sized = _sized(items)
        count = n_workers(options.workers, options.parallel, sized)
        left = items
        if address is not None and count > 1:
            planned = {
                name: self._batch(chosen, beside_others=True) for name, chosen in cut(sized, count)
            }
            self._in_workers(batches, where, address, planned, count)
            left = list(self._later.values())
        if left:
            self._in_one_batch(batches, "b1", left)

    def _batch(self, items: Sequence[ToFill], *, beside_others: bool = False) -> RestoreBatch:
        contents = self._checked.contents
        return RestoreBatch(
            tuple(items),
            {item.shard_id: contents[item.shard_id] for item in items},
            self._checked.options,
            self._place.on_record,
            beside_others,
        )

    def _in_one_batch(self, batches: RunBatches, name: str, items: Sequence[ToFill]) -> None:
        batch = self._batch(items)
        batches.add(name, batch.encode())
        self._do(batches, name, batch)
        self._collect(batches, name, batch)

    def _do(self, batches: RunBatches, name: str, batch: RestoreBatch) -> None:
        """Do a batch in this process, unless it is done."""
        run, receivers = self._batch_run(), self._place.receivers
        with batches.claim(name, ()) as claimed, node_slots(batch.options.per_node) as slots:
            if claimed is not None:
                checked = batch.checked(self._checked.repository, run)
                done = fill_batch(receivers, checked, claimed, batch, slots, self._on_filled)
                claimed.finish(done.encode())

    def _batch_run(self) -> Run:
        """A run for one batch, whose progress is a part of this restore's."""
        before, run = self._so_far, self._checked.run

        def emit(event: Event) -> None:
            if isinstance(event, Progress):
                self._idle()
                n_bytes = before.bytes_done + event.bytes_done
                event = Progress(before.done + event.done, before.total, n_bytes)
                self._so_far = event
            run.emit(event)

        return Run(emit, run.stop)

    def _in_workers(
        self,
        batches: RunBatches,
        where: str,
        address: Address,
        planned: Mapping[str, RestoreBatch],
        count: int,
    ) -> None:
        """Have other processes do batches; what is left of them is not in `_done` then."""
        # Most restores have no use for these.
        from resources.engine.workers.lines import WorkerSpec
        from resources.engine.workers.worker_pool import working

        for name, batch in planned.items():
            batches.add(name, batch.encode())
        each = WorkerSpec(
            address,
            self._checked.repository.location,
            batches.stage_name,
            parallel=self._checked.options.parallel,
            per_node=self._checked.options.per_node,
            records=where,
            lease=self._place.lease,
        )
        left = dict(planned)

        def collect(name: str) -> None:
            self._collect(batches, name, left.pop(name), on_filled=self._on_filled)

        run = self._checked.run
        with working(run, WORKER, each, count, self._so_far, killing_silent=True) as pool:
            pool.batch_done, pool.idle = collect, self._idle
            pool.attend(lambda: all(map(batches.is_done, planned)))
        for name, batch in list(left.items()):
            if not batches.is_done(name):
                self._do(batches, name, batch)
            collect(name)

    def _collect(
        self,
        batches: RunBatches,
        name: str,
        batch: RestoreBatch,
        on_filled: OnFilled = lambda _item, _filled: None,
    ) -> None:
        """Read what is on record of a batch.

        Raises:
            RestoreFailed: nothing is.
            ManifestUnreadable: the record is damaged.
        """
        raw = batches.done(name)
        if raw is None:
            raise RestoreFailed(
                f"batch {name} of this restore was not done",
                hint="who else works in the backups' directory? Then run the restore again",
            )
        found = {one.shard_id: one for one in BatchFilled.decode(raw, name, batch.shards).shards}
        for item in batch.shards:
            one = found[item.shard_id]
            if one.away is None:
                on_filled(item, one)
                self._done[item.shard_id] = one
            else:
                self._later[item.shard_id] = replace(
                    item, kept=one.receipts, begun=frozenset(item.nodes)
                )


@contextmanager
def _records(repository: BackupRepository, key: str) -> Generator[tuple[RunBatches, str]]:
    """The records of a restore's batches, and the store that they are in, if not the repository."""
    with ExitStack() as stack:
        where, store = "", repository.store
        try:
            stage = store.stage_of_restore(key or os.urandom(8).hex())
        except StoreFailed:
            where = stack.enter_context(tempfile.TemporaryDirectory(prefix="shardkeeper-"))
            store = open_store(where)
            stack.callback(store.close)
            stage = store.stage_of_restore("0")
        stack.callback(stage.close)
        batches = RunBatches(store, stage, "", set())
        stack.callback(batches.close)
        yield batches, where


def _sized(items: Sequence[ToFill]) -> list[Sized[ToFill]]:
    return [Sized(item, item.nodes[0], item.size_bytes) for item in items]


@contextmanager
def node_slots(per_node: int | None) -> Generator[NodeSlots | None]:
    """A limit of connections to a node, for the threads of this process; None: there is none."""
    if per_node is None:
        yield None
    else:
        with tempfile.TemporaryFile() as file:
            yield NodeSlots(file.fileno(), per_node)
