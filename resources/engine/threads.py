"""Run one function over many items in threads, and hear of each as it ends."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Gate(Generic[Item, Result]):
    """Every call of `work` goes through here, so that none is left over or begins too late.

    A pool does not know, and so does not wait for, a thread in whose start it was interrupted.
    """

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self._work = work
        self._turn = threading.Condition()
        self._inside = 0
        self._shut = False

    def enter(self, item: Item) -> Result:
        with self._turn:
            if self._shut:
                raise CancelledError
            self._inside += 1
        try:
            return self._work(item)
        finally:
            with self._turn:
                self._inside -= 1
                self._turn.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait for those who are."""
        with self._turn:
            self._shut = True
            self._turn.wait_for(lambda: not self._inside)


@contextmanager
def running(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    parallel: int,
    name: str,
    every_s: float | None,
    give_up: Callable[[], None],
) -> Generator[Generator[tuple[Item, Future[Result]] | None]]:
    """Start `work` on all items, `parallel` at a time.

    The block gets a generator of (item, its future) in the order they end; it yields None
    when nothing ended for `every_s` seconds, so that the caller can say how far things are.
    Leaving the block waits for what is running and drops what has not begun. If anything is
    raised, an interruption too, `give_up` is called before: it must make what runs end soon.
    """
    ended: queue.SimpleQueue[tuple[Item, Future[Result]]] = queue.SimpleQueue()
    gate = _Gate(work)
    pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix=name)

    def start(item: Item) -> None:
        future = pool.submit(gate.enter, item)
        future.add_done_callback(lambda done: ended.put((item, done)))

    def as_they_end(left: int) -> Generator[tuple[Item, Future[Result]] | None]:
        while left:
            try:
                yield ended.get(timeout=every_s)
                left -= 1
            except queue.Empty:
                yield None

    try:
        started = 0
        for item in items:
            start(item)
            started += 1
        yield as_they_end(started)
    except BaseException:
        give_up()
        raise
    finally:
        gate.shut()
        pool.shutdown(wait=True, cancel_futures=True)


def each_in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    parallel: int,
    name: str,
    give_up: Callable[[], None],
) -> list[Result]:
    """Results in the order of the items; the first error ends it, as `running` says."""
    numbered = list(enumerate(items))
    results: dict[int, Result] = {}

    def one(numbered: tuple[int, Item]) -> Result:
        return work(numbered[1])

    with running(
        one, numbered, parallel=parallel, name=name, every_s=None, give_up=give_up
    ) as ended:
        for each in ended:
            assert each is not None  # noqa: S101 - it waits without end
            (i, _), done = each
            results[i] = done.result()
    return [results[i] for i, _ in numbered]
