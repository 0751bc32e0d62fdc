"""Shards are cut into batches of one node each, by bytes, for as many workers as are of use."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import pytest

from resources.engine.workers import sharing
from resources.engine.workers.sharing import (
    BYTES_EACH,
    MAX_BYTES,
    Sized,
    cut,
    n_workers,
    node_of,
    shares,
)

GIB = 1 << 30


def plan_of(*sizes: tuple[str, int]) -> list[Sized[int]]:
    """Shards 1, 2 … of these nodes and sizes."""
    return [Sized(number, node, size) for number, (node, size) in enumerate(sizes, 1)]


def batches(plan: Sequence[Sized[int]], workers: int) -> dict[str, list[int]]:
    return dict(cut(plan, workers))


def test_a_batch_is_of_one_node_and_a_shard_in_one_batch() -> None:
    plan = plan_of(*[(f"data-{number % 3}:8088", number) for number in range(100)])
    found = batches(plan, 2)
    assert sorted(chain(*found.values())) == [*range(1, 101)]
    for name, shards in found.items():
        of = {(number - 1) % 3 for number in shards}
        assert len(of) == 1
        assert {node_of(other) for other in found if set(found[other]) & set(shards)} == {
            node_of(name)
        }
    assert len({node_of(name) for name in found}) == 3


def test_large_shards_are_batches_of_their_own_and_come_first() -> None:
    small = [("a:1", 1000)] * 8
    found = batches(plan_of(*small, ("a:1", 5 * GIB), ("b:1", 6 * GIB)), 2)
    assert [*found.values()][:2] == [[10], [9]]
    assert all(len(shards) == 1 for shards in [*found.values()][:2])


def test_no_batch_has_more_bytes_than_may_be_lost_with_its_worker() -> None:
    plan = plan_of(*[("a:1", GIB)] * 40)
    found = batches(plan, 1)
    assert max(map(len, found.values())) == MAX_BYTES // GIB


def test_few_shards_are_divided_among_the_workers() -> None:
    assert [*batches(plan_of(*[("a:1", 1)] * 3), 2).values()] == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("requested", "parallel", "sizes", "expected"),
    [
        (None, 8, [1] * 100, 1),
        (None, 8, [BYTES_EACH] * 3, 3),
        (None, 8, [BYTES_EACH] * 100, 4),
        (None, 2, [BYTES_EACH] * 100, 2),
        (1, 8, [BYTES_EACH] * 100, 1),
        (6, 8, [1] * 100, 6),
        (6, 8, [1] * 2, 2),
        (6, 8, [], 1),
        (6, 2, [1] * 100, 2),
    ],
)
def test_there_are_as_many_workers_as_have_something_to_do(
    monkeypatch: pytest.MonkeyPatch,
    requested: int | None,
    parallel: int,
    sizes: list[int],
    expected: int,
) -> None:
    monkeypatch.setattr(sharing, "_cores", lambda: 8)
    plan = plan_of(*[("a:1", size) for size in sizes])
    assert n_workers(requested, parallel, plan) == expected


def test_connections_are_shared_out_to_the_last() -> None:
    assert shares(8, 3) == [3, 3, 2]
    assert shares(2, 2) == [1, 1]
