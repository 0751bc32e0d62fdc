"""Which of many shards is next, so that workers do not all wait for one node.

A node that stands still keeps whoever talks to it for a time-out. Were all workers there, nobody
would go on with the other nodes' shards. So the next shard is one whose nodes are the least busy,
and in the order given among those; shards of a node that is known to be away come last.

Held by tests/resources/engine/test_spread.py; on real clusters by tests/faults/peers.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

Meets = Callable[[Sequence[str]], Sequence[str] | None]


class Spread(Generic[Item]):
    """Items in their order, but for those that would meet a busy node; safe between threads.

    Args:
        nodes_of: the nodes that have an item, or are to have it.
        meets: which of them it keeps busy now; None if it cannot be done while some are away.
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
        """The next one with its number, for `ended`; None: there is none any more."""
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
        """Nobody works at the item of that number any more."""
        with self._mutex:
            for node in self._taken.pop(number):
                self._busy[node] -= 1

    def _rank(self, nodes: tuple[str, ...], met: Sequence[str] | None) -> tuple[bool, int, int]:
        busy = max((self._busy.get(node, 0) for node in met or ()), default=0)
        return met is None, busy, self._waiting[nodes][0][0]


def in_order(items: Iterable[Item]) -> Spread[Item]:
    """Where nodes do not matter."""
    return Spread(items, lambda _: (), lambda _: ())


def whichever_is_there(is_away: Callable[[str], bool]) -> Meets:
    """For what is read from one node, the first in its list that is there."""

    def meets(nodes: Sequence[str]) -> Sequence[str] | None:
        return next(((node,) for node in nodes if not is_away(node)), None)

    return meets


def every_one(is_away: Callable[[str], bool]) -> Meets:
    """For what goes to all of its nodes."""

    def meets(nodes: Sequence[str]) -> Sequence[str] | None:
        return None if any(map(is_away, nodes)) else nodes

    return meets
