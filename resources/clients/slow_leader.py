"""Reads the metastore from another meta node if the leader is too slow to send it.

Small requests pass over a slow network, so the leader still reports its index; the other node's
copy must have reached it. Held by tests/resources/clients/test_meta_nodes.py; on real clusters by
tests/faults/peers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from resources.clients.address import HostPort
from resources.clients.meta_nodes import MetaNodes
from resources.errors import PeerTooSlow, PeerUnreachable

T = TypeVar("T")


def from_leader_or_beside(
    leader: HostPort,
    nodes: MetaNodes,
    *,
    read: Callable[[HostPort], T],
    index_of: Callable[[HostPort], int],
    read_after: Callable[[HostPort, int], T],
) -> T:
    """The leader's metastore, or an equally new copy if the leader is or was recently too slow.

    Args:
        read: reads a node's own copy.
        index_of: reads a node's index.
        read_after: reads a node's own copy once it is newer than an index.

    Raises:
        PeerTooSlow: the leader is too slow, and no other node has an equally new copy.
        WireError: a request to the leader fails.
    """
    slow = PeerTooSlow(f"{leader}: is too slow to send the metastore")
    if not nodes.is_slow(leader):
        try:
            return read(leader)
        except PeerTooSlow as error:
            slow = error
    others = [node for node in nodes.in_turn() if node != leader and not nodes.is_away(node)]
    if not others:
        raise slow
    after = max(index_of(leader) - 1, 0)
    for node in others:
        with suppress(PeerUnreachable), nodes.noting(node):
            return read_after(node, after)
    raise slow
