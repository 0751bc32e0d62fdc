"""Replicas without writes are compared by what their nodes report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy
from resources.engine.backup.idle_replicas import (
    MAX_REPORTED,
    Comparison,
    differing_copies,
    emit_differing,
)
from resources.engine.events import Event
from resources.errors import PeerUnreachable
from resources.model import ShardID
from resources.repository.formats.owner_facts import Holds, OwnerFacts
from tests import builders as b

STORE = b.metastore(nodes=(4, 5))
PLACE = b.place(1, 4, 5)
ONE = ShardID(1)
LARGE, SMALL = b.copy("data-4:8088", 500), b.copy("data-5:8088", 400)
EQUAL = b.copy("data-5:8088", 500)


class Nodes:
    """A source that reports this inventory."""

    def __init__(self, inventory: ReplicaInventory) -> None:
        self._inventory = inventory

    def inventory(self, metastore: object) -> ReplicaInventory:
        assert metastore is STORE
        return self._inventory


def reported(*copies: ShardCopy, silent: str = "") -> ReplicaInventory:
    away = {silent: PeerUnreachable("away")} if silent else {}
    return ReplicaInventory({ONE: copies}, away)


def holding(**holds: Holds) -> list[OwnerFacts]:
    return [
        OwnerFacts(f"data-{node[1:]}:8088", 0, 0, at_rest=True, seen_ns=0, holds=found)
        for node, found in holds.items()
    ]


def compared(
    before: ReplicaInventory,
    now: ReplicaInventory | None = None,
    alike: Mapping[ShardID, list[OwnerFacts]] | None = None,
) -> Comparison:
    source = cast("BackupSource", Nodes(now or before))
    return differing_copies(source, STORE, [PLACE], before, alike or {})


def test_replicas_of_equal_sizes_agree() -> None:
    assert compared(reported(LARGE, EQUAL)) == Comparison(1)


def test_replicas_of_different_sizes_differ_if_they_do_so_twice() -> None:
    assert compared(reported(LARGE, SMALL)).differing == {ONE: (LARGE, SMALL)}
    assert compared(reported(LARGE, SMALL), reported(LARGE, EQUAL)).differing == {}


def test_an_owner_without_the_shard_has_nothing_of_it() -> None:
    nothing = ShardCopy("data-5:8088", size_bytes=0, is_at_rest=True)
    assert compared(reported(LARGE)).differing == {ONE: (LARGE, nothing)}


@pytest.mark.parametrize(
    "before",
    [
        reported(LARGE, b.copy("data-5:8088", 400, at_rest=False)),
        reported(b.copy("data-4:8088", 500, at_rest=False), SMALL),
        reported(LARGE, silent="data-5:8088"),
    ],
    ids=["a cache is not written out", "nor the first one's", "an owner does not answer"],
)
def test_replicas_that_cannot_be_compared_do_not_differ(before: ReplicaInventory) -> None:
    assert compared(before) == Comparison(0)


def test_sizes_do_not_matter_once_all_were_read_and_hold_the_same_points() -> None:
    before = reported(LARGE, SMALL)
    assert compared(before, alike={ONE: holding(n4="same", n5="same")}).differing == {}
    less = compared(before, alike={ONE: holding(n4="same", n5="less")})
    assert less.differing
    assert less.whole == {ONE: "data-4:8088"}
    other = compared(before, alike={ONE: holding(n4="same", n5="other")})
    assert other.whole == {}


def warnings(found: Comparison) -> list[str]:
    heard: list[Event] = []
    emit_differing(found, emit=heard.append)
    return [str(event) for event in heard]


def test_a_warning_has_what_each_node_has_and_what_the_archive_has() -> None:
    nothing = b.copy("data-5:8088", 0)
    [text] = warnings(Comparison(1, {ONE: (LARGE, nothing)}, {ONE: "data-4:8088"}))
    assert "data-4:8088 has 500 bytes, data-5:8088 has nothing" in text
    assert "the archive has what data-4:8088 has" in text
    [unknown] = warnings(Comparison(1, {ONE: (LARGE, SMALL)}))
    assert "-from prefers a node" in unknown


def test_of_many_the_first_are_named_and_the_others_counted() -> None:
    many = {ShardID(i): (LARGE, SMALL) for i in range(MAX_REPORTED + 2)}
    texts = warnings(Comparison(99, many))
    assert len(texts) == MAX_REPORTED + 1
    assert "2 more shards" in texts[-1]
    assert len(warnings(Comparison(99, dict(list(many.items())[:MAX_REPORTED])))) == MAX_REPORTED
