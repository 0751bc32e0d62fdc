"""Metastores of any shape, and parts to make them of."""

from __future__ import annotations

from hypothesis import strategies as st

from resources.model import (
    ContinuousQueryInfo,
    DatabaseInfo,
    Metastore,
    NodeID,
    NodeInfo,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
    ShardOwner,
    SubscriptionInfo,
    UserInfo,
    UserPrivilege,
)

WEEK_NS = 604_800_000_000_000
DAY_NS = 86_400_000_000_000


int64s = st.integers(-(2**63), 2**63 - 1)
uint64s = st.integers(0, 2**64 - 1)
unset_or = st.none() | int64s.filter(bool)
texts = st.text(max_size=8)


def tuples(of: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(of, max_size=2).map(tuple)


shards = st.builds(
    ShardInfo, uint64s.map(ShardID), tuples(st.builds(ShardOwner, uint64s.map(NodeID)))
)
groups = st.builds(
    ShardGroupInfo,
    uint64s.map(ShardGroupID),
    int64s,
    int64s,
    deleted_at_ns=unset_or,
    truncated_at_ns=unset_or,
    shards=tuples(shards),
)
policies = st.builds(
    RetentionPolicyInfo,
    texts,
    int64s,
    int64s,
    st.integers(0, 2**32 - 1),
    tuples(groups),
    tuples(st.builds(SubscriptionInfo, texts, texts, tuples(texts))),
)
databases = st.builds(
    DatabaseInfo,
    texts,
    texts,
    tuples(policies),
    tuples(st.builds(ContinuousQueryInfo, texts, texts)),
)
nodes = st.builds(NodeInfo, uint64s.map(NodeID), texts, texts)
privileges = st.builds(UserPrivilege, texts, st.integers(-(2**31), 2**31 - 1))
users = st.builds(UserInfo, texts, texts, st.booleans(), tuples(privileges))
metastores = st.builds(
    Metastore,
    term=uint64s,
    index=uint64s,
    cluster_id=uint64s,
    databases=tuples(databases),
    users=tuples(users),
    data_nodes=tuples(nodes),
    meta_nodes=tuples(nodes),
    max_node_id=uint64s,
    max_shard_group_id=uint64s,
    max_shard_id=uint64s,
)


def group(group_id: int, start_s: int, end_s: int) -> ShardGroupInfo:
    """As a single server keeps it: one shard of the same number, without owners."""
    return ShardGroupInfo(
        ShardGroupID(group_id),
        start_s * 10**9,
        end_s * 10**9,
        deleted_at_ns=None,
        truncated_at_ns=None,
        shards=(ShardInfo(ShardID(group_id)),),
    )
