"""Threads that belong together, however their start was interrupted."""

from __future__ import annotations

import queue
import threading

import pytest

from resources.runtime.workers import WorkerGroup


def test_no_more_begin_than_there_may_be_and_the_end_waits_for_all() -> None:
    go, began, ended = threading.Event(), queue.SimpleQueue[None](), list[str]()

    def loop() -> None:
        began.put(None)
        assert go.wait(timeout=5)
        ended.append(threading.current_thread().name)

    workers = WorkerGroup("one", loop)
    for _ in range(5):
        workers.begin(2)
    for _ in range(2):
        began.get(timeout=5)
    assert began.empty()
    go.set()
    workers.end()
    assert sorted(ended) == ["one_0", "one_1"]


def test_whoever_comes_after_the_end_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    late, run = threading.Event(), threading.Thread.run
    threads, ran = list[threading.Thread](), list[int]()

    def delayed(thread: threading.Thread) -> None:
        threads.append(thread)
        assert late.wait(timeout=5)
        run(thread)

    monkeypatch.setattr(threading.Thread, "run", delayed)
    workers = WorkerGroup("late", lambda: ran.append(1))
    workers.begin(1)
    workers.end()
    workers.begin(2)
    late.set()
    [thread] = threads
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert ran == []
