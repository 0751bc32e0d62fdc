"""Threads that share work, none of which is lost when Ctrl-C interrupts the start of one.

`concurrent.futures` does not serve here. Its pool forgets a thread if Ctrl-C arrives during the
start, and that thread outlives the pool. Its work for each item also takes a tenth of the time of
a small shard.

The next item is one whose nodes are least busy (`Spread`). A connection to a hung node lasts until
its time-out; if all workers waited there, no other node's shards would make progress. Among equals
the given order decides. Items whose nodes do not answer come last.

Held by tests/resources/runtime/test_workers_spread.py; on real clusters by tests/faults/peers.py.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerGroup:
    """Threads that each run the same loop until it returns.

    Args:
        name: the prefix of the threads' names.
        loop: what each thread runs; it must not raise.
    """

    def __init__(self, name: str, loop: Callable[[], None]) -> None:
        self._name = name
        self._loop = loop
        self._turn = threading.Condition()
        self._started = 0
        self._inside = 0
        self._over = False

    @property
    def over(self) -> bool:
        """Whether `end` was called, so that loops should return soon."""
        return self._over

    def begin(self, most: int) -> None:
        """Start one more thread, unless there are `most`."""
        with self._turn:
            if self._over or self._started >= most:
                return
            self._started += 1
        name = f"{self._name}_{self._started - 1}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def end(self) -> None:
        """Let no further thread begin, and wait until the running ones have ended."""
        with self._turn:
            self._over = True
            self._turn.wait_for(lambda: not self._inside)

    def _run(self) -> None:
        with self._turn:
            if self._over:
                return
            self._inside += 1
        try:
            self._loop()
        finally:
            with self._turn:
                self._inside -= 1
                self._turn.notify_all()


Meets = Callable[[Sequence[str]], Sequence[str] | None]


class Spread(Generic[Item]):
    """Items in their order, except that busy nodes are avoided; safe between threads.

    Args:
        nodes_of: the nodes that have an item or will receive it.
        meets: the nodes that work on an item would occupy now; None if it must wait for nodes
            that do not answer.
    """

    def __init__(
        self, items: Iterable[Item], nodes_of: Callable[[Item], Sequence[str]], meets: Meets
    ) -> None:
        self._meets = meets
        self._mutex = threading.Lock()
        self._waiting: dict[tuple[str, ...], deque[tuple[int, Item]]] = {}
        self._busy: dict[str, int] = {}
        self._taken: dict[int, Sequence[str]] = {}
        self.n_items = 0
        for number, item in enumerate(items):
            self._waiting.setdefault(tuple(nodes_of(item)), deque()).append((number, item))
            self.n_items += 1

    def take(self) -> tuple[int, Item] | None:
        """The next item and its number, which `ended` takes; None: no item is left."""
        with self._mutex:
            if not self._waiting:
                return None
            met = {nodes: self._meets(nodes) for nodes in self._waiting}
            nodes = min(self._waiting, key=lambda nodes: self._rank(nodes, met[nodes]))
            number, item = self._waiting[nodes].popleft()
            if not self._waiting[nodes]:
                del self._waiting[nodes]
            self._taken[number] = kept = met[nodes] or ()
            for node in kept:
                self._busy[node] = self._busy.get(node, 0) + 1
            return number, item

    def ended(self, number: int) -> None:
        """The work on item `number` has ended."""
        with self._mutex:
            for node in self._taken.pop(number):
                self._busy[node] -= 1

    def _rank(self, nodes: tuple[str, ...], met: Sequence[str] | None) -> tuple[bool, int, int]:
        busy = max((self._busy.get(node, 0) for node in met or ()), default=0)
        return met is None, busy, self._waiting[nodes][0][0]


def in_order(items: Iterable[Item]) -> Spread[Item]:
    """A spread for items that no node limits."""
    return Spread(items, lambda _: (), lambda _: ())


def whichever_is_there(is_away: Callable[[str], bool]) -> Meets:
    """For items read from one node: the first in the list that answers."""

    def meets(nodes: Sequence[str]) -> Sequence[str] | None:
        return next(((node,) for node in nodes if not is_away(node)), None)

    return meets


def every_one(is_away: Callable[[str], bool]) -> Meets:
    """For items that are sent to all of their nodes."""

    def meets(nodes: Sequence[str]) -> Sequence[str] | None:
        return None if any(map(is_away, nodes)) else nodes

    return meets


class Outcome(Generic[Result]):
    """The outcome of one item: its result, or the exception that it raised."""

    __slots__ = ("_error", "_result")

    def __init__(self, result: Result | None, error: BaseException | None) -> None:
        self._result = result
        self._error = error

    def result(self) -> Result:
        """Return the result or raise the exception; may be called again."""
        if self._error is not None:
            raise self._error
        return cast(Result, self._result)


@contextmanager
def running(
    work: Callable[[Item], Result],
    items: Iterable[Item] | Spread[Item],
    *,
    parallel: int,
    name: str,
    every_s: float | None,
    give_up: Callable[[], None],
) -> Generator[Generator[tuple[Item, Outcome[Result]] | None]]:
    """Start `work` on all items, `parallel` at a time, in their order or in a `Spread`'s.

    The block gets a generator of (item, outcome) in the order they end. It yields None when
    nothing ended for `every_s` seconds, so that the caller can report progress. Leaving the
    block waits for running items and drops those that have not begun. If the block raises,
    an interruption included, `give_up` is called first: it must make running items end soon.
    """
    waiting = items if isinstance(items, Spread) else in_order(items)
    ended: queue.SimpleQueue[tuple[Item, Outcome[Result]]] = queue.SimpleQueue()
    n_items = waiting.n_items

    def one_after_the_other() -> None:
        while not workers.over and (taken := waiting.take()) is not None:
            number, item = taken
            outcome = _outcome(work, item)
            waiting.ended(number)
            ended.put((item, outcome))

    workers = WorkerGroup(name, one_after_the_other)

    def as_they_end(left: int) -> Generator[tuple[Item, Outcome[Result]] | None]:
        while left:
            try:
                yield ended.get(timeout=every_s)
                left -= 1
            except queue.Empty:
                yield None

    try:
        for _ in range(min(parallel, n_items)):
            workers.begin(parallel)
        yield as_they_end(n_items)
    except BaseException:
        give_up()
        raise
    finally:
        workers.end()


def _outcome(work: Callable[[Item], Result], item: Item) -> Outcome[Result]:
    try:
        return Outcome(work(item), None)
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        return Outcome(None, error)


def each_in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    parallel: int,
    name: str,
    give_up: Callable[[], None],
) -> list[Result]:
    """Results in the order of the items; the first error ends the run, as in `running`."""
    listed = list(items)
    results: dict[int, Result] = {}

    def one(place: int) -> Result:
        return work(listed[place])

    places = range(len(listed))
    with running(one, places, parallel=parallel, name=name, every_s=None, give_up=give_up) as ended:
        for each in ended:
            assert each is not None  # noqa: S101 - it waits without end
            place, outcome = each
            results[place] = outcome.result()
    return [results[place] for place in places]
