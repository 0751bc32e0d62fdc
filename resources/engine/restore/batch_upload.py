"""Fill the shards of one batch, with threads; any process can do it that reaches both sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol

from resources.clients.peers import Peer
from resources.clients.server import Server
from resources.engine.events import Progress, ShardRestored
from resources.engine.restore.batch import BatchFilled, RestoreBatch, ShardFilled, ToFill
from resources.engine.restore.check import CheckedArchives
from resources.engine.restore.postponed import Postponed, Postponing
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.target_replicas import TargetReplicas
from resources.engine.restore.upload import Uploader
from resources.engine.restore.uploading import Upload
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.records import StoredError
from resources.errors import WireError
from resources.model import ShardID
from resources.repository.batches import ClaimedBatch

OnFilled = Callable[[ToFill, ShardFilled], object]


class Receivers(Protocol):
    """The servers that shards are sent to; each kind of target has its own."""

    @property
    def nodes_may_be_away(self) -> bool:
        """Whether there are others to go on with while one does not answer."""
        ...

    def server(self, node: str) -> Server: ...

    def peer(self, node: str) -> Peer: ...

    def replicas(
        self, node: str, batch: RestoreBatch, check_may_send: Callable[[], None]
    ) -> TargetReplicas:
        """What may be done with the replicas of a batch on a node.

        Args:
            check_may_send: raises if this process must not change them any more.
        """
        ...

    def abort(self) -> None:
        """Break off what is under way, from any thread."""
        ...


def fill_batch(
    receivers: Receivers,
    checked: CheckedArchives,
    claimed: ClaimedBatch,
    batch: RestoreBatch,
    slots: NodeSlots | None,
    on_filled: OnFilled = lambda _item, _filled: None,
) -> BatchFilled:
    """Send every shard of a batch, and read it back; what an earlier worker sent is looked at.

    Args:
        checked: the archives of the batch; its run gets the events of each shard, and the progress
            of this batch.
        slots: limits the connections to a node; None: there is no such limit.
        on_filled: of each shard that is in its place, in the calling thread.

    Raises:
        ShardkeeperError: what the first shard to fail raises.
    """
    upload = BatchUpload(checked, batch, receivers, claimed, slots, on_filled)
    return BatchFilled(tuple(upload.send_all(batch.shards)))


class BatchUpload(Upload[ToFill, ShardFilled]):
    """Fills the shards of one batch."""

    def __init__(
        self,
        checked: CheckedArchives,
        batch: RestoreBatch,
        receivers: Receivers,
        claimed: ClaimedBatch,
        slots: NodeSlots | None,
        on_filled: OnFilled,
    ) -> None:
        super().__init__(checked, receivers.abort)
        self._batch = batch
        self._receivers = receivers
        self._claimed = claimed
        self._slots = slots
        self._on_filled = on_filled
        self._begun = {
            (one.new_id, node)
            for one in batch.shards
            for node in (one.nodes if claimed.again else one.begun)
        }
        self._done: dict[tuple[ShardID, str], Receipt] = {
            (one.new_id, node): receipt
            for one in batch.shards
            for node, receipt in one.kept.items()
        }
        ids = {one.shard_id: one.new_id for one in batch.shards}
        self._uploaders = {
            node: Uploader(
                receivers.server(node),
                checked,
                ids,
                receivers.replicas(node, batch, claimed.check_mine),
                self.news.retried,
            )
            for node in sorted({node for one in batch.shards for node in one.nodes})
        }

    def send(self, item: ToFill) -> ShardFilled:
        began = time.monotonic()
        away: StoredError | None = None
        for node in item.nodes:
            if (item.new_id, node) not in self._done:
                away = self._send_to(node, item)
            if away is not None:
                break
        there = {node: self._done.get((item.new_id, node)) for node in item.nodes}
        receipts = {node: receipt for node, receipt in there.items() if receipt is not None}
        return ShardFilled(item.shard_id, receipts, time.monotonic() - began, away)

    def _send_to(self, node: str, item: ToFill) -> StoredError | None:
        """Have a shard on a node; returns why it is left for the end, if it is.

        Raises:
            Postponed: it comes again in this batch.
        """
        key, stop = (item.new_id, node), self.checked.run.stop
        turn = nullcontext() if self._slots is None else self._slots.one(node, stop)
        try:
            with turn:
                begun = key in self._begun
                self._done[key] = self._uploaders[node].upload(item.restore, begun=begun)[0]
        except WireError as error:
            if not self._is_away(node) or stop.is_set():
                raise
            self._begun.add(key)
            if not self._batch.beside_others:
                raise Postponed(node, error) from None
            return StoredError.of(error)
        return None

    def _is_away(self, node: str) -> bool:
        receivers = self._receivers
        return receivers.nodes_may_be_away and receivers.peer(node).why_away is not None

    def progress(self, n_sent: int) -> Progress:
        sent = sum(uploader.bytes_done for uploader in self._uploaders.values())
        return Progress(n_sent, len(self._batch.shards), sent)

    def ended(self, item: ToFill, result: ShardFilled) -> ShardRestored | None:
        if result.away is not None:
            return None
        self._on_filled(item, result)
        return result.restored(item).event(item.nodes)

    def postponing(self) -> Postponing[ToFill] | None:
        if not self._receivers.nodes_may_be_away:
            return None
        return Postponing(self._receivers.peer, _left, self.checked.run)


def _left(item: ToFill) -> Sequence[str]:
    return item.nodes
