"""Shards of a node that is away come last, when every other shard is in its place.

A restore needs each copy on each of its owners. But a node that restarts or pauses delays its own
shards only: the worker that meets it postpones the shard. When everything else is done, the restore
waits for the node once, for all shards that the node needs. It checks first what had been sent of
a postponed shard.

Held by tests/faults/test_peers.py; on real clusters by tests/faults/peers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from resources.clients.peers import Peer
from resources.engine.await_nodes import MAX_RETURNS, await_nodes
from resources.engine.events import Run
from resources.engine.options import Retry
from resources.errors import ShardkeeperError
from resources.runtime.workers import Spread, every_one

Item = TypeVar("Item")


class Postponed(ShardkeeperError):
    """A node that a shard goes to does not answer just now: its turn comes again.

    Attributes:
        node: which one.
        cause: why it does not.
    """

    def __init__(self, node: str, cause: ShardkeeperError) -> None:
        super().__init__(cause.what, hint=cause.hint)
        self.node = node
        self.cause = cause


class Postponing(Generic[Item]):
    """The order of a run's uploads, and the waiting at its end.

    Args:
        peer: a data node by its address.
        nodes_of: those that an item goes to.
    """

    def __init__(
        self,
        peer: Callable[[str], Peer],
        nodes_of: Callable[[Item], Sequence[str]],
        run: Run,
    ) -> None:
        self._peer = peer
        self._nodes_of = nodes_of
        self._run = run
        self._returns = 0

    def in_turn(self, numbered: Sequence[tuple[int, Item]]) -> Spread[tuple[int, Item]]:
        """The items, so that workers do not all wait for one node."""
        return Spread(numbered, lambda one: self._nodes_of(one[1]), every_one(self._is_away))

    def await_nodes(self, later: Sequence[Postponed]) -> bool:
        """Wait for the nodes of these; whether there is one to be tried again.

        Raises:
            Stopped: the run was stopped meanwhile.
        """
        self._returns += 1
        if self._returns > MAX_RETURNS:
            return False
        nodes = [self._peer(node) for node in sorted({one.node for one in later})]
        return await_nodes(nodes, len(later), Retry().patience_s, self._run)

    def _is_away(self, node: str) -> bool:
        return self._peer(node).why_away is not None
