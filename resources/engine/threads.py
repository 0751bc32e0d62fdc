"""Run one function over many items in threads, and yield each outcome as it ends."""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

from resources.engine.spread import Spread, in_order
from resources.runtime.workers import WorkerGroup

Item = TypeVar("Item")
Result = TypeVar("Result")


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
