"""Upload many shards at once, and say how far that is."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from resources.engine.events import (
    PROGRESS_EVERY_S,
    Event,
    Progress,
    ShardRestored,
    ShardRetried,
    Tell,
)
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

    def tell(self, tell: Tell) -> None:
        while not self._waiting.empty():
            tell(self._waiting.get())


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
    tell: Tell,
) -> list[Result]:
    """Send all items, `parallel` at a time; returns what became of each, in their order.

    Args:
        abort: breaks off what is under way, from any thread.
        stop: set when anything fails or is interrupted, before `abort` is called.
        progress: how far things are when that many items were sent.
        news: what `send` has to tell meanwhile.
        proved: called with what became of an item, and with None once a second when nothing ends.
        event: what to tell of one that was sent; None tells nothing.
        tell: called from the calling thread.

    Raises: what the first one to fail raises.
    """

    def give_up() -> None:
        stop.set()
        abort()

    work = running(
        lambda numbered: send(numbered[1]),
        list(enumerate(items)),
        parallel=parallel,
        name="upload",
        every_s=PROGRESS_EVERY_S,
        give_up=give_up,
    )
    done: dict[int, Result] = {}
    with work as ended:
        for one in ended:
            news.tell(tell)
            if one is None:
                proved(None)
                tell(progress(len(done)))
                continue
            (number, item), outcome = one
            done[number] = outcome.result()
            proved(done[number])
            if event is not None:
                tell(event(item, done[number]))
    return [done[number] for number in range(len(items))]


def bytes_of(uploaders: Mapping[str, Uploader]) -> int:
    """What all of them have sent so far, in tar bytes."""
    return sum(uploader.bytes_done for uploader in uploaders.values())
