"""The metastore of a leader that is too slow comes from another node that is as new."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resources.clients.address import HostPort
from resources.clients.meta_nodes import MetaNodes
from resources.clients.slow_leader import from_leader_or_beside
from resources.errors import PeerRefused, PeerTooSlow, PeerUnreachable

LEADER, SECOND, THIRD = (HostPort(f"meta-{i}", 8091) for i in (1, 2, 3))


def slow(node: HostPort) -> str:
    raise PeerTooSlow(f"{node} is slow")


def quick(node: HostPort) -> str:
    return f"read {node.host}"


class Beside:
    """The other nodes: those that are away raise, and what was asked is kept."""

    def __init__(self, *away: HostPort) -> None:
        self._away = away
        self.asked: list[tuple[str, int]] = []

    def read_after(self, node: HostPort, index: int) -> str:
        self.asked.append((node.host, index))
        if node in self._away:
            raise PeerUnreachable(f"{node} is away")
        return f"read {node.host}"


def metastore(
    nodes: MetaNodes, read: Callable[[HostPort], str], beside: Beside, index: int = 9
) -> str:
    return from_leader_or_beside(
        LEADER, nodes, read=read, index_of=lambda _: index, read_after=beside.read_after
    )


def three() -> MetaNodes:
    return MetaNodes([LEADER, SECOND, THIRD])


def test_a_leader_that_is_quick_enough_is_asked_alone() -> None:
    beside = Beside()
    assert metastore(three(), quick, beside) == "read meta-1"
    assert beside.asked == []


def test_another_node_is_asked_for_what_is_as_new_as_the_leaders() -> None:
    beside = Beside()
    assert metastore(three(), slow, beside) == "read meta-2"
    assert beside.asked == [("meta-2", 8)]  # newer than 8 is at least 9


def test_an_index_of_none_asks_for_anything() -> None:
    beside = Beside()
    metastore(three(), slow, beside, index=0)
    assert beside.asked == [("meta-2", 0)]


def test_a_node_that_is_away_is_passed_over() -> None:
    beside = Beside(SECOND)
    assert metastore(three(), slow, beside) == "read meta-3"


def test_without_another_node_the_leader_is_too_slow() -> None:
    with pytest.raises(PeerTooSlow):
        metastore(MetaNodes([LEADER]), slow, Beside())
    with pytest.raises(PeerTooSlow):
        metastore(three(), slow, Beside(SECOND, THIRD))


def test_a_leader_that_was_slow_a_moment_ago_is_not_asked_again() -> None:
    nodes = three()
    with pytest.raises(PeerTooSlow), nodes.noting(LEADER):
        slow(LEADER)
    assert metastore(nodes, quick, Beside()) == "read meta-2"


def test_any_other_error_of_the_leader_is_the_answer() -> None:
    def refuse(node: HostPort) -> str:
        raise PeerRefused(f"{node} refuses")

    with pytest.raises(PeerRefused):
        metastore(three(), refuse, Beside())
