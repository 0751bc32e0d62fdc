"""Upload many shards at once, and say how far that is."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from resources.engine.events import (
    PROGRESS_EVERY_S,
    Emit,
    Event,
    Progress,
    ShardRestored,
    ShardRetried,
)
from resources.engine.restore.postponed import Postponed, Postponing
from resources.engine.restore.upload import Uploader
from resources.engine.threads import running
from resources.errors import ShardkeeperError
from resources.model import ShardID

Item = TypeVar("Item")
Result = TypeVar("Result")


class News:
    """What threads have to tell, until the calling thread does."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def retried(
        self, shard_id: ShardID, error: ShardkeeperError, attempt: int, pause_s: float
    ) -> None:
        self._waiting.put(ShardRetried(shard_id, str(error), attempt, pause_s))

    def emit(self, emit: Emit) -> None:
        while not self._waiting.empty():
            emit(self._waiting.get())


def upload_all(
    send: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    abort: Callable[[], None],
    parallel: int,
    stop: threading.Event,
    progress: Callable[[int], Progress],
    news: News,
    proved: Callable[[Result | None], None] = lambda _: None,
    event: Callable[[Item, Result], ShardRestored] | None = None,
    postponing: Postponing[Item] | None = None,
    emit: Emit,
) -> list[Result]:
    """Send all items, `parallel` at a time; returns what became of each, in their order.

    Args:
        abort: breaks off what is under way, from any thread.
        stop: set when anything fails or is interrupted, before `abort` is called.
        progress: how far things are when that many items were sent.
        news: what `send` has to tell meanwhile.
        proved: called with what became of an item, and with None once a second when nothing ends.
        event: what to tell of one that was sent; None tells nothing.
        postponing: in which order, and what to wait for at the end; None: as they come.
        emit: called from the calling thread.

    Raises: what the first one to fail raises.
    """

    def give_up() -> None:
        stop.set()
        abort()

    done: dict[int, Result] = {}
    turn = list(enumerate(items))
    while turn:
        later: list[tuple[tuple[int, Item], Postponed]] = []
        work = running(
            lambda numbered: send(numbered[1]),
            turn if postponing is None else postponing.in_turn(turn),
            parallel=parallel,
            name="upload",
            every_s=PROGRESS_EVERY_S,
            give_up=give_up,
        )
        with work as ended:
            for one in ended:
                news.emit(emit)
                if one is None:
                    proved(None)
                    emit(progress(len(done)))
                    continue
                numbered, outcome = one
                try:
                    done[numbered[0]] = result = outcome.result()
                except Postponed as postponed:
                    later.append((numbered, postponed))
                    continue
                proved(result)
                if event is not None:
                    emit(event(numbered[1], result))
        if later and (postponing is None or not postponing.await_nodes([why for _, why in later])):
            raise later[0][1].cause
        turn = [numbered for numbered, _ in later]
    return [done[number] for number in range(len(items))]


def bytes_of(uploaders: Mapping[str, Uploader]) -> int:
    """What all of them have sent so far, in tar bytes."""
    return sum(uploader.bytes_done for uploader in uploaders.values())
