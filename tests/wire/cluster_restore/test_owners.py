"""Shards get their owners, several at once, and waiting clients learn how far that is."""

from __future__ import annotations

import pytest

from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.cluster import rollback
from resources.engine.cluster.rollback import give_owners
from resources.engine.events import Event, OwnersGiven
from resources.model import NodeID, ShardID
from tests.resources.clients.peer import closed_port
from tests.wire.cluster_restore.scenario import fill, metastore


def test_every_shard_gets_every_owner_and_a_second_time_changes_nothing(
    target: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(target, "telegraf", replication=1)
    nodes = {node.id for node in metastore(target).data_nodes}
    owners = [
        (place.shard_id, node) for place in metastore(target).places() for node in sorted(nodes)
    ]
    assert len(owners) > rollback.COMMANDS_AT_ONCE
    monkeypatch.setattr(rollback, "PROGRESS_EVERY_S", 0.0)
    events: list[Event] = []
    for _ in range(2):
        give_owners(Cluster(MetaClient(target.meta[0].http_addr)), owners, emit=events.append)
        places = metastore(target).places()
        found = {p.shard_id: [owner.node_id for owner in p.shard.owners] for p in places}
        assert all(sorted(ids) == sorted(nodes) for ids in found.values()), found
    assert events[-1] == OwnersGiven(len(owners), len(owners))
    assert "copies given to their owners" in str(events[-1])


def test_who_interrupts_it_need_not_wait_until_meta_nodes_answer_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollback, "PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr(rollback, "PAUSE_S", 3600.0)  # between attempts

    def interrupt(_: Event) -> None:
        raise KeyboardInterrupt

    nobody = Cluster(MetaClient(closed_port()))
    with pytest.raises(KeyboardInterrupt):
        give_owners(nobody, [(ShardID(1), NodeID(1))], emit=interrupt)
