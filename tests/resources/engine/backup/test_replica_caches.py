"""Which replicas are proven to be written out by what their nodes report before and after."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import pytest

import resources.engine.backup.replica_caches as module
from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.replica_caches import Replica, Unproven, unproven
from resources.errors import PeerUnreachable
from resources.model import ShardID
from resources.protocol.server_vars import ShardStats
from tests import builders as b

ONE, TWO = (ShardID(1), "a"), (ShardID(2), "a")
AT_REST = b.stats()
IN_MEMORY = b.stats(cache=b.cache(memory_bytes=10))


class Nodes:
    """A source whose nodes report the next of their figures each time; None: no answer."""

    def __init__(self, **reports: list[Mapping[int, ShardStats] | None]) -> None:
        self._reports = reports

    def figures(self, node: str) -> SourceFacts:
        reports = self._reports[node]
        now = reports.pop(0) if len(reports) > 1 else reports[0]
        if now is None:
            raise PeerUnreachable(f"{node} is away")
        return SourceFacts(started_ns=7, shards={ShardID(i): s for i, s in now.items()})


def checked(
    nodes: Nodes, *replicas: Replica, answers: Collection[Replica] = ()
) -> tuple[Unproven, int]:
    """What is not proven, and how often replicas were written out."""
    asked = 0

    def write_out(_: Collection[Replica]) -> Collection[Replica]:
        nonlocal asked
        asked += 1
        return answers

    return unproven(cast("BackupSource", nodes), replicas, write_out), asked


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", -1.0)


def test_a_replica_without_anything_in_memory_needs_no_request() -> None:
    assert checked(Nodes(a=[{1: AT_REST}]), ONE) == (Unproven(), 0)


def test_a_cache_that_is_gone_after_the_request_was_written_out() -> None:
    assert checked(Nodes(a=[{1: IN_MEMORY}, {1: AT_REST}]), ONE) == (Unproven(), 1)


def test_a_cache_that_stays_is_not_proven() -> None:
    found, _ = checked(Nodes(a=[{1: IN_MEMORY, 2: AT_REST}]), ONE, TWO)
    assert found.busy == {ONE}
    assert not found.unknown


def test_of_a_node_that_reports_no_figures_nothing_is_known() -> None:
    found, _ = checked(Nodes(a=[{}]), ONE, TWO)
    assert found == Unproven(frozenset(), frozenset({ONE, TWO}), frozenset({"a"}))


def test_a_node_that_stops_answering_is_busy_and_not_unknown() -> None:
    found, _ = checked(Nodes(a=[{1: IN_MEMORY}, None]), ONE)
    assert found.busy == {ONE}
    assert not found.mute


def test_a_cache_that_grows_again_after_an_answered_request_holds_later_points_only() -> None:
    found, asked = checked(Nodes(a=[{1: IN_MEMORY}]), ONE, answers=[ONE])
    assert (found, asked) == (Unproven(), 1)


def test_while_a_snapshot_is_being_written_nothing_is_proven() -> None:
    writing = b.stats(cache=b.cache(memory_bytes=10, snapshot_bytes=5))
    found, _ = checked(Nodes(a=[{1: writing}]), ONE, answers=[ONE])
    assert found.busy == {ONE}
