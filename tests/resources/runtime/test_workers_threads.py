"""Work in threads ends when its block does, whenever it is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from resources.runtime.workers import each_in_threads


def test_results_are_in_the_order_of_the_items() -> None:
    both = threading.Barrier(2)

    def work(item: int) -> int:
        both.wait(timeout=5)
        return item * item

    found = each_in_threads(work, range(6), parallel=2, name="test", give_up=lambda: None)
    assert found == [0, 1, 4, 9, 16, 25]


def test_the_first_error_ends_it() -> None:
    given_up = threading.Event()

    def work(item: int) -> None:
        if item == 1:
            raise ValueError("no")
        assert given_up.wait(timeout=5)

    with pytest.raises(ValueError, match="no"):
        each_in_threads(work, range(9), parallel=2, name="test", give_up=given_up.set)


def interrupt_the_second_start(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]
) -> None:
    """As Ctrl-C does it: the second thread of a pool runs, and its pool does not know it."""
    start, begun = threading.Thread.start, list[threading.Thread]()

    def interrupted(thread: threading.Thread) -> None:
        begun.append(thread)
        start(thread)
        if len(begun) == 2:
            before()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)


def test_a_thread_that_its_pool_lost_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, given_up, slow = threading.Event(), threading.Event(), threading.Event()
    ended: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            inside.set()
        assert given_up.wait(timeout=5)
        if item == 1:
            slow.wait(timeout=0.2)  # a caller that does not wait is gone by then
        ended.append(item)

    interrupt_the_second_start(monkeypatch, lambda: inside.wait(timeout=5))
    with pytest.raises(KeyboardInterrupt):
        each_in_threads(work, range(2), parallel=2, name="test", give_up=given_up.set)
    assert sorted(ended) == [0, 1]


def test_a_thread_that_comes_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    late, given_up = threading.Event(), threading.Event()
    run, lost, began = threading.Thread.run, list[threading.Thread](), list[int]()

    def delayed(thread: threading.Thread) -> None:
        if thread.name == "test_1":
            lost.append(thread)
            assert late.wait(timeout=5)
        run(thread)

    def work(item: int) -> None:
        began.append(item)
        assert given_up.wait(timeout=5)

    monkeypatch.setattr(threading.Thread, "run", delayed)
    interrupt_the_second_start(monkeypatch, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        each_in_threads(work, range(2), parallel=2, name="test", give_up=given_up.set)
    late.set()
    lost[0].join(timeout=5)
    assert not lost[0].is_alive()
    assert began == [0]
