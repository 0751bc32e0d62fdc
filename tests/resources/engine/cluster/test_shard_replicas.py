"""Under which replication factor a cluster makes as many shards as a backup has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.embedded.meta.shard_groups import shard_count
from resources.engine.cluster.shard_replicas import factor_for
from resources.protocol import meta_pb2 as pb


def policy(replica_n: int, *shards_of_groups: int) -> pb.RetentionPolicyInfo:
    rp = pb.RetentionPolicyInfo(ReplicaN=replica_n)
    for n in shards_of_groups:
        group = rp.ShardGroups.add()
        for _ in range(n):
            group.Shards.add()
    return rp


@pytest.mark.parametrize(
    ("replica_n", "groups", "nodes", "factor"),
    [
        (2, (), 3, 2),  # nothing to make
        (2, (3,), 3, 2),  # three nodes, two copies: three shards
        (3, (1, 1), 3, 3),
        (1, (1,), 3, 3),  # one shard on three nodes needs three copies
        (2, (2,), 4, 2),
        (3, (2,), 4, 2),
        (1, (5,), 5, 1),
        (1, (2,), 3, None),
        (1, (1, 3), 3, None),  # groups of different sizes
        (9, (1,), 3, 9),  # more copies than nodes are as many as there are nodes
        (0, (3,), 3, 0),
    ],
)
def test_the_factor_gives_the_number_of_shards(
    replica_n: int, groups: tuple[int, ...], nodes: int, factor: int | None
) -> None:
    assert factor_for(policy(replica_n, *groups), nodes) == factor


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 8))
def test_a_factor_that_is_found_makes_that_many_shards(
    replica_n: int, shards: int, nodes: int
) -> None:
    factor = factor_for(policy(replica_n, shards), nodes)
    if factor is not None:
        assert shard_count(min(factor, nodes), nodes) == shards
    else:
        assert all(shard_count(n, nodes) != shards for n in range(1, nodes + 1))
