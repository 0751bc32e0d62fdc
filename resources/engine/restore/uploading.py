"""Upload many shards at once, and say how far that is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from resources.engine.events import PROGRESS_EVERY_S, Progress, ShardRestored, Tell
from resources.engine.restore.upload import Uploader
from resources.engine.threads import running

Item = TypeVar("Item")
Result = TypeVar("Result")


def upload_all(
    send: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    abort: Callable[[], None],
    parallel: int,
    stop: threading.Event,
    progress: Callable[[int], Progress],
    event: Callable[[Item, Result], ShardRestored] | None = None,
    tell: Tell,
) -> list[Result]:
    """Send all items, `parallel` at a time; returns what became of each, in their order.

    Args:
        abort: breaks off what is under way, from any thread.
        stop: set when anything fails or is interrupted, before `abort` is called.
        progress: how far things are when that many items were sent.
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
            if one is None:
                tell(progress(len(done)))
                continue
            (number, item), outcome = one
            done[number] = outcome.result()
            if event is not None:
                tell(event(item, done[number]))
    return [done[number] for number in range(len(items))]


def bytes_of(uploaders: Mapping[str, Uploader]) -> int:
    """What all of them have sent so far, in tar bytes."""
    return sum(uploader.bytes_done for uploader in uploaders.values())
