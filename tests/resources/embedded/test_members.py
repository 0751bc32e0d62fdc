"""The dev cluster asked by the recorded requests of a real cluster's own programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.protocol.tar import MemberData, TarWalker
from tests.fixtures.wire.members import capture
from tests.resources.embedded.asking import say

HEARD = Path(capture.__file__).parent


def asked(name: str) -> bytes:
    return (HEARD / f"{name}.asked").read_bytes()


def recorded(name: str) -> bytes:
    return (HEARD / f"{name}.said").read_bytes()


def content(tar: bytes) -> bytes:
    """The files of a tar, without what is its server's: times and users."""
    walker = TarWalker()
    pieces = [p.data.tobytes() for p in walker.feed(memoryview(tar)) if isinstance(p, MemberData)]
    walker.finish()
    return b"".join(pieces)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """As large as the recorded one, with the same points, its database made by a real node."""
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as running:
        reply = say(running.meta[0].http_addr, asked("create-database"), half_close=True)
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        running.write("telegraf", capture.LINES)
        yield running


def test_a_dev_cluster_serves_a_real_clusters_programs(cluster: EmbeddedCluster) -> None:
    first, *_, last = (node.tcp_addr for node in cluster.data)
    assert say(first, asked("database-info")) == recorded("database-info")
    for name in ("shard-backup", "backup-shard"):
        assert content(say(first, asked(name))) == content(recorded(name))
    assert say(last, asked("remove-shard")) == recorded("remove-shard")
    statements = say(first, asked("statements"), wait_bytes=len(recorded("statements")))
    assert statements == recorded("statements")
    assert cluster.query("SHOW MEASUREMENTS", database="telegraf", at=0)["results"][0].keys() == {
        "statement_id"
    }


def test_an_import_of_the_originals_is_the_trap_that_it_is(cluster: EmbeddedCluster) -> None:
    first = cluster.data[0].tcp_addr
    assert say(first, asked("metastore-update")) == recorded("metastore-update")
    assert say(first, asked("shard-update"), half_close=True) == recorded("shard-update")
    copies = [p.shard for p in cluster.group.metastore.places() if p.database == "copy"]
    assert [(shard.id, shard.owners) for shard in copies] == [(2, ())]
    assert {2} == {i for i in cluster.data[0].store.shards() if i != 1}
