"""The next shard is one whose nodes are the least busy; those of a node that is away come last."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from resources.runtime.workers import Spread, every_one, in_order, running, whichever_is_there

A, B, C = "a", "b", "c"


def taken(spread: Spread[str], n: int) -> list[str]:
    found = [spread.take() for _ in range(n)]
    return [one[1] for one in found if one is not None]


def nodes_of(item: str) -> Sequence[str]:
    return item[:-1]  # "ab1": on a and b


def test_without_nodes_the_order_is_kept() -> None:
    assert taken(in_order(["x", "y", "z"]), 4) == ["x", "y", "z"]


def test_a_busy_node_is_passed_over() -> None:
    spread = Spread(["a1", "a2", "b1", "a3", "b2"], nodes_of, every_one(lambda _: False))
    first = spread.take()
    assert first == (0, "a1")
    assert taken(spread, 1) == ["b1"]
    spread.ended(0)
    assert taken(spread, 3) == ["a2", "a3", "b2"]


def test_what_goes_to_all_its_nodes_is_as_busy_as_the_busiest() -> None:
    spread = Spread(["ab1", "bc1", "ca1", "c1"], nodes_of, every_one(lambda _: False))
    assert taken(spread, 4) == ["ab1", "c1", "bc1", "ca1"]


def test_what_one_node_can_give_is_as_busy_as_the_first_that_is_there() -> None:
    away = {A}
    spread = Spread(
        ["ab1", "b1", "ca1", "a1", "ab2"], nodes_of, whichever_is_there(away.__contains__)
    )
    assert taken(spread, 3) == ["ab1", "ca1", "b1"]  # of b, c, b
    assert taken(spread, 2) == ["ab2", "a1"]  # no worker has the last one
    assert spread.take() is None


def test_what_needs_a_node_that_is_away_comes_last() -> None:
    away: set[str] = set()
    spread = Spread(["ab1", "ab2", "bc1", "bc2"], nodes_of, every_one(away.__contains__))
    assert taken(spread, 1) == ["ab1"]
    away.add(A)
    assert taken(spread, 3) == ["bc1", "bc2", "ab2"]


def test_a_node_that_stands_still_keeps_one_worker_only() -> None:
    others = [f"{node}{i}" for i in range(20) for node in (B, C)]
    everything = [one for i in range(20) for one in (f"{A}{i}", f"{B}{i}", f"{C}{i}")]
    left, goes_on = set(others), threading.Event()
    in_time: list[bool] = []

    def work(item: str) -> None:
        if item[0] == A:
            in_time.append(goes_on.wait(timeout=10))
            return
        left.discard(item)
        if not left:
            goes_on.set()

    spread = Spread(everything, nodes_of, every_one(lambda _: False))
    with running(work, spread, parallel=2, name="test", every_s=None, give_up=goes_on.set) as ended:
        for one in ended:
            assert one is not None
            one[1].result()
    assert in_time == [True] * 20
