"""Threads that ask a node at the same time share an answer that is new to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.completeness import Sample
from resources.engine.backup.written_out import Samples, sample_of
from resources.errors import PeerUnreachable
from resources.model import ShardID
from resources.protocol.server_vars import ShardStats
from tests import builders as b

ONE = ShardID(1)


def facts(shards: Mapping[ShardID, ShardStats], started_ns: int | None = 7) -> SourceFacts:
    return SourceFacts(clock_ns=1, started_ns=started_ns, shards=shards)


def test_a_sample_is_a_shards_figures_and_the_start_of_its_process() -> None:
    assert sample_of(facts({ONE: b.stats()}), ONE) == Sample(7, b.stats())


@pytest.mark.parametrize(
    "reported",
    [
        None,
        facts({}),
        facts({ShardID(2): b.stats()}),
        facts({ONE: b.stats()}, started_ns=None),
        facts({ONE: b.stats(cache=None)}),
    ],
    ids=["nothing", "no shards", "another shard", "no start", "no cache"],
)
def test_a_node_that_does_not_report_enough_gives_no_sample(reported: SourceFacts | None) -> None:
    assert sample_of(reported, ONE) is None


class Node:
    """A source whose answers are numbered; it may be away, and may be asked while it answers."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    def figures(self, node: str) -> SourceFacts:
        self.asked += 1
        if self.away:
            raise PeerUnreachable(f"{node} is away")
        return SourceFacts(clock_ns=self.asked)


def test_each_call_gets_an_answer_that_was_asked_for_after_it_began() -> None:
    node = Node()
    samples = Samples(cast("BackupSource", node))
    assert [samples.fresh("a").clock_ns for _ in range(3)] == [1, 2, 3]


def test_nodes_do_not_share_answers() -> None:
    node = Node()
    samples = Samples(cast("BackupSource", node))
    assert samples.fresh("a").clock_ns == 1
    assert samples.fresh("b").clock_ns == 2


def test_an_answer_that_failed_is_not_handed_out_later() -> None:
    node = Node()
    samples = Samples(cast("BackupSource", node))
    samples.fresh("a")
    node.away = True
    for _ in range(2):
        with pytest.raises(PeerUnreachable):
            samples.fresh("a")
    node.away = False
    assert samples.fresh("a").clock_ns == 4
