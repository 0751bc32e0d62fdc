"""Run one function over many items in threads, and hear of each as it ends."""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def running(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    parallel: int,
    name: str,
    every_s: float,
    give_up: Callable[[], None],
) -> Generator[Generator[tuple[Item, Future[Result]] | None]]:
    """Start `work` on all items, `parallel` at a time.

    The block gets a generator of (item, its future) in the order they end; it yields None
    when nothing ended for `every_s` seconds, so that the caller can say how far things are.
    Leaving the block waits for what is running and drops what has not begun. If anything is
    raised, an interruption too, `give_up` is called before: it must make what runs end soon.
    """
    ended: queue.SimpleQueue[tuple[Item, Future[Result]]] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix=name)

    def start(item: Item) -> None:
        future = pool.submit(work, item)
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
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix=name) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            give_up()
            raise
