"""Choose the next of many shards, so that workers do not all wait for one node.

A connection to a hung node lasts until its time-out. If all workers waited there, no other node's
shards would make progress. So the next shard is one whose nodes are least busy; among equals the
given order decides. Shards whose nodes do not answer come last.

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
