"""The dev cluster asked what a real one was asked: the same bytes but for ports and times."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.protocol.commands import PruneShardGroups
from resources.protocol.meta import decode_metastore
from tests.fixtures.wire.cluster import capture

REAL = Path(capture.__file__).parent
NAMES = sorted(path.name for path in REAL.iterdir() if path.suffix not in (".py", ".md", ".pyc"))
NAMES = [name for name in NAMES if not name.startswith("__")]
FIRST_INDEX = 9
"""Of the recorded cluster when it was asked first."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """What a dev cluster of the same size answers to the script that made the recordings."""
    here = tmp_path_factory.mktemp("said")
    with EmbeddedCluster(here / "cluster", meta_nodes=3, data_nodes=2) as cluster:
        while cluster.group.metastore.index < FIRST_INDEX:
            cluster.group.execute(PruneShardGroups())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(capture, "HERE", here)
            leader, follower = cluster.meta[0].http_addr, cluster.meta[1].http_addr
            patch.setattr(sys, "argv", ["", leader, follower, cluster.data[0].tcp_addr])
            capture.main()
    return {name: (here / name).read_bytes() for name in NAMES}


def body(reply: bytes) -> bytes:
    return reply.partition(b"\r\n\r\n")[2]


def comparable(name: str, reply: bytes, members: bytes) -> list[bytes]:
    """Lines of a reply, with names instead of addresses and without what time brings."""
    recorded = json.loads(body(members))
    for kind in ("data", "meta"):
        for node in recorded[kind]:
            for key in ("tcpAddr", "httpAddr", "addr"):
                if key in node:
                    label = f"{kind}{node['id']}.{key}"
                    reply = reply.replace(node[key].encode(), label.encode())
    port = re.compile(rb'"tcpBind":":[0-9]+"')
    reply = port.sub(b'"tcpBind":":port"', reply)
    reply = re.sub(rb"2026-[0-9-]+T[0-9:.]+Z", b"now", reply)
    reply = re.sub(rb"(?i)(request-id|date|content-length): .*\r", rb"\1: *\r", reply)
    if name.endswith("-redirect.http"):
        # A real follower is a moment behind.
        reply = re.sub(rb"Metaindex: [0-9]+", b"Metaindex: *", reply)
    head, _, rest = reply.partition(b"\r\n\r\n")
    return [*sorted(head.split(b"\r\n")), rest]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("snapshot.http", "list-shards")])
def test_a_dev_cluster_says_what_a_real_one_reported(
    recorded: Mapping[str, bytes], name: str
) -> None:
    ours = comparable(name, recorded[name], recorded["show-cluster.http"])
    real = (REAL / name).read_bytes()
    assert ours == comparable(name, real, (REAL / "show-cluster.http").read_bytes())


def test_a_list_of_shards_has_the_real_one_s_keys_and_kinds(recorded: Mapping[str, bytes]) -> None:
    ours, real = (
        raw[11:] for raw in (recorded["list-shards"], (REAL / "list-shards").read_bytes())
    )
    [(id_, one)], [(real_id, other)] = json.loads(ours).items(), json.loads(real).items()
    assert (id_, one["id"], one["state"], one["err"]) == (real_id, 4, other["state"], "")
    assert [(k, type(v)) for k, v in one.items()] == [(k, type(v)) for k, v in other.items()]


def test_a_snapshot_is_the_real_one_but_for_cluster_id_and_addresses(
    recorded: Mapping[str, bytes],
) -> None:
    ours = decode_metastore(body(recorded["snapshot.http"]))
    real = decode_metastore(body((REAL / "snapshot.http").read_bytes()))
    assert ours.databases == real.databases
    assert (ours.index, ours.max_node_id, ours.max_shard_id) == (12, 5, 1)
    assert [node.id for node in (*ours.meta_nodes, *ours.data_nodes)] == [1, 2, 3, 4, 5]
