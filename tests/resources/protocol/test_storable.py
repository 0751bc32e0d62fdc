"""Metadata that a cluster would not survive is not sent."""

from __future__ import annotations

import pytest

from resources.errors import PlanError
from resources.model import Metastore
from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import encode_metastore
from resources.protocol.storable import check_storable
from tests import builders as b


def cluster(*groups: tuple[int, int, int], **changed: object) -> Metastore:
    """Groups of (group id, shard id, owner) on data nodes 4 and 5."""
    made = tuple(b.group(g, b.shard(s, owner)) for g, s, owner in groups)
    database = b.database("db", b.policy("rp", *made))
    return b.metastore(*(changed.pop("databases", (database,))), nodes=(4, 5), **changed)  # type: ignore[misc]


def test_metadata_whose_numbers_fit_is_sent() -> None:
    check_storable(encode_metastore(cluster((1, 1, 4), (99, 99, 5))))
    check_storable(encode_metastore(cluster()))


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        (cluster(meta_nodes=()), "names no meta node"),
        (cluster(data_nodes=(b.node(4), b.node(4))), "has a data node twice"),
        (cluster(databases=(b.database("a"), b.database("a"))), "has a database twice"),
        (cluster((1, 1, 4), (2, 1, 4)), "has a shard ID twice"),
        (cluster((1, 1, 4), (1, 2, 4)), "has a shard group ID twice"),
        (cluster((1, 1, 6)), "has owners that are not data nodes"),
        (cluster((1, 100, 4)), "has a shard ID beyond the highest"),
        (cluster((100, 1, 4)), "has a group ID beyond the highest"),
        (cluster(max_node_id=4), "has a node ID beyond the highest"),
        (cluster(max_node_id=5, meta_nodes=(b.meta_node(6),)), "has a node ID beyond the highest"),
    ],
)
def test_the_first_reason_is_named(store: Metastore, complaint: str) -> None:
    with pytest.raises(PlanError, match=f"metadata to be set {complaint}"):
        check_storable(encode_metastore(store))


def test_shards_of_a_deleted_group_still_hold_their_numbers() -> None:
    deleted = b.group(1, b.shard(7, 66), deleted_at_ns=1)
    live = b.group(2, b.shard(7, 4))
    store = b.metastore(b.database("db", b.policy("rp", deleted, live)), nodes=(4,))
    with pytest.raises(PlanError, match="has a shard ID twice"):
        check_storable(encode_metastore(store))


def test_owners_of_deleted_groups_may_be_gone() -> None:
    deleted = b.group(1, b.shard(7, 66), deleted_at_ns=1)
    check_storable(
        encode_metastore(b.metastore(b.database("db", b.policy("rp", deleted)), nodes=(4,)))
    )


def test_nodes_as_releases_before_0_10_wrote_them_are_refused() -> None:
    legacy = pb.Data()
    node = legacy.Nodes.add()
    node.ID, node.Addr, node.TCPAddr = 4, "h:8086", "h:8088"
    with pytest.raises(PlanError, match=r"the form of releases before 0\.10"):
        check_storable(encode_metastore(cluster()) + legacy.SerializePartialToString())


def test_bytes_that_are_no_metastore_are_refused() -> None:
    with pytest.raises(PlanError, match="metadata to be set: "):
        check_storable(b"\xff\xff")
