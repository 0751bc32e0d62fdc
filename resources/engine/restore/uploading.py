"""Upload many shards at once, and say how far that is."""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeAlias, TypeVar

from resources.engine.events import (
    PROGRESS_EVERY_S,
    Emit,
    Event,
    Progress,
    ShardRestored,
    ShardRetried,
)
from resources.engine.restore.check import CheckedArchives
from resources.engine.restore.postponed import Postponed, Postponing
from resources.errors import ShardkeeperError
from resources.model import ShardID
from resources.runtime.workers import Outcome, running

Item = TypeVar("Item")
Result = TypeVar("Result")

Numbered: TypeAlias = tuple[int, Item]
"""An item, and its place among all."""


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


class Upload(ABC, Generic[Item, Result]):
    """Sends all items of a restore, several at once; each kind of target says what an item is.

    Attributes:
        news: what `send` has to tell meanwhile.
    """

    def __init__(self, checked: CheckedArchives, abort: Callable[[], None]) -> None:
        """`abort` breaks off what is under way, from any thread."""
        self.checked = checked
        self.news = News()
        self._abort = abort

    @abstractmethod
    def send(self, item: Item) -> Result:
        """Have one in its place, read back; called in threads."""

    @abstractmethod
    def progress(self, n_sent: int) -> Progress:
        """How far things are when that many items were sent."""

    def ended(self, item: Item, result: Result) -> ShardRestored | None:
        """An item is in its place; returns what to tell of it. Called in the calling thread."""
        return None

    def nothing_ended(self) -> None:
        """Called in the calling thread, once a second when nothing ends."""

    def postponing(self) -> Postponing[Item] | None:
        """In which order, and what to wait for at the end; None: as they come."""
        return None

    def send_all(self, items: Sequence[Item]) -> list[Result]:
        """Send all items; returns what became of each, in their order.

        Raises:
            ShardkeeperError: what the first one to fail raises.
        """
        done: dict[int, Result] = {}
        turn = list(enumerate(items))
        postponing = self.postponing()
        while turn:
            later: list[tuple[Numbered[Item], Postponed]] = []
            with self._sending(turn, postponing) as ended:
                for one in ended:
                    self.news.emit(self.checked.run.emit)
                    if one is None:
                        self.nothing_ended()
                        self.checked.run.emit(self.progress(len(done)))
                        continue
                    (number, item), outcome = one
                    try:
                        done[number] = outcome.result()
                    except Postponed as postponed:
                        later.append(((number, item), postponed))
                        continue
                    event = self.ended(item, done[number])
                    if event is not None:
                        self.checked.run.emit(event)
            if later and (
                postponing is None or not postponing.await_nodes([why for _, why in later])
            ):
                raise later[0][1].cause
            turn = [numbered for numbered, _ in later]
        return [done[number] for number in range(len(items))]

    def _sending(
        self, turn: Sequence[Numbered[Item]], postponing: Postponing[Item] | None
    ) -> AbstractContextManager[Generator[tuple[Numbered[Item], Outcome[Result]] | None]]:
        def give_up() -> None:
            self.checked.run.stop.set()
            self._abort()

        def send(numbered: Numbered[Item]) -> Result:
            return self.send(numbered[1])

        return running(
            send,
            turn if postponing is None else postponing.in_turn(turn),
            parallel=self.checked.options.parallel,
            name="upload",
            every_s=PROGRESS_EVERY_S,
            give_up=give_up,
        )
