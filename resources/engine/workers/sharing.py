"""How the work of a run is divided: into batches, and among processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

Item = TypeVar("Item")

MAX_SHARDS = 200
MIN_BYTES, MAX_BYTES = 64 << 20, 4 << 30
"""Of the shards of one batch; a larger shard is a batch of its own."""
MAX_STEPS = 500
"""Of one run; a user interface shows each."""
EACH_BYTES = 4 << 20
"""What a shard costs beside its bytes: what is copied in the same time."""
BATCHES_EACH = 4
"""For each worker: with fewer, one of them would be at work when the others have ended."""
BYTES_EACH = 256 << 20
"""What a worker must have to do, to be worth the half second in which its process starts."""
CORES_EACH = 2
"""Threads check and compress outside of the interpreter, so one process keeps about two busy."""


class Sized(Struct, Generic[Item], frozen=True):
    """Something to do, how many bytes that is, and the node that does it with us."""

    item: Item
    node: str
    size_bytes: int


def n_workers(requested: int | None, parallel: int, sized: Sequence[Sized[Item]]) -> int:
    """How many processes do all of that, each by a connection at least; 1: the one that plans.

    Args:
        requested: None: by cores and by what there is to do.
    """
    if requested is None:
        size = sum(one.size_bytes for one in sized)
        requested = min(_cores() // CORES_EACH, size // BYTES_EACH)
    return max(1, min(requested, parallel, len(sized)))


def shares(total: int, n: int) -> list[int]:
    """A number in `n` parts that are as equal as can be."""
    return [total // n + (number < total % n) for number in range(n)]


def cut(
    sized: Iterable[Sized[Item]], workers: int, turn: int = 0
) -> Iterator[tuple[str, list[Item]]]:
    """Batches and their names, the largest first; each of items of one node.

    Args:
        turn: tells these batches from those before, some items of which come again.
    """
    by_node = _by_node(sized)
    total = sum(one.size_bytes for of_node in by_node for one in of_node)
    limit = min(MAX_BYTES, max(MIN_BYTES, total // (workers * BATCHES_EACH)))
    most = [min(MAX_SHARDS, 1 + len(items) // (workers * BATCHES_EACH)) for items in by_node]
    return _named(
        (
            (size, node, items)
            for node, of_node in enumerate(by_node)
            for size, items in _full(of_node, limit, most[node])
        ),
        turn,
    )


def cut_for_steps(sized: Iterable[Sized[Item]], batch_bytes: int) -> dict[str, list[Item]]:
    """As `cut`, for batches that are steps, each of which costs seconds; none if one is enough.

    Args:
        batch_bytes: what makes a step worth its cost.
    """
    by_node = _by_node(sized)
    total = sum(one.size_bytes + EACH_BYTES for of_node in by_node for one in of_node)
    limit = max(batch_bytes, total // MAX_STEPS)
    found = dict(
        _named(
            (size, node, items)
            for node, of_node in enumerate(by_node)
            for size, items in _full(of_node, limit, 1 + limit // EACH_BYTES)
        )
    )
    return found if total >= 2 * batch_bytes and len(found) > 1 else {}


def _by_node(sized: Iterable[Sized[Item]]) -> list[list[Sized[Item]]]:
    by_node: dict[str, list[Sized[Item]]] = {}
    for one in sized:
        by_node.setdefault(one.node, []).append(one)
    return list(by_node.values())


def _named(
    found: Iterable[tuple[int, int, list[Item]]], turn: int = 0
) -> Iterator[tuple[str, list[Item]]]:
    """Batches by their names, from their sizes, the number of their node, and their items."""
    for number, (_, node, items) in enumerate(sorted(found, key=lambda batch: -batch[0])):
        yield f"b{turn}{number:05}n{node}", items


def node_of(batch: str) -> str:
    """What tells batches of one node from those of others."""
    return batch.partition("n")[2]


def in_turn(batches: Mapping[str, str], number: int) -> list[str]:
    """The batches that are not done, in the order in which a worker tries to claim them.

    Free ones come first, those of nodes with the fewest workers before others, and large ones
    before small ones. Claimed ones follow: their workers may have died.

    Args:
        batches: the state of each, in the order of their size.
        number: of the worker; several that begin at once begin with different batches.
    """
    busy: dict[str, int] = {}
    for name, state in batches.items():
        if state == "claimed":
            busy[node_of(name)] = busy.get(node_of(name), 0) + 1
    free = [name for name, state in batches.items() if state == "free"]
    free.sort(key=lambda name: busy.get(node_of(name), 0))
    at = number % len(free) if free and not busy else 0
    return free[at:] + free[:at] + [name for name, state in batches.items() if state == "claimed"]


def _full(sized: Sequence[Sized[Item]], limit: int, most: int) -> Iterator[tuple[int, list[Item]]]:
    """Items of one node in batches, the largest first."""
    items: list[Item] = []
    filled = 0
    for one in sorted(sized, key=lambda one: -one.size_bytes):
        if items and (filled + one.size_bytes > limit or len(items) >= most):
            yield filled, items
            items, filled = [], 0
        items.append(one.item)
        filled += one.size_bytes
    if items:
        yield filled, items


def _cores() -> int:
    return len(os.sched_getaffinity(0))
