"""Compares two serialized metastores by their meaning.

Their bytes may differ: servers write a user's grants in any order, and each meta node takes the
deletion time of a shard group from its own clock.

Source: influxdb-cluster services/meta/data.go, UserInfo.marshal and DeleteShardGroup.
"""

from __future__ import annotations

from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import parse_strictly


def comparable(raw: bytes, *, own_clocks: bool = False, timeless: bool = False) -> bytes:
    """Bytes that are equal for metastores of equal meaning; unknown fields count.

    Args:
        own_clocks: whether two meta nodes are compared, so that deletion times do not count.
        timeless: whether to ignore term and index.

    Raises:
        BadReply: `raw` is not a metastore.
    """
    data = parse_strictly(pb.Data, raw, "metastore")
    for user in data.Users:
        user.Privileges.sort(key=lambda grant: (grant.Database, grant.Privilege))
    if own_clocks:
        for db in data.Databases:
            for rp in db.RetentionPolicies:
                for group in rp.ShardGroups:
                    group.DeletedAt = int(bool(group.DeletedAt))
    if timeless:
        data.Term = data.Index = 0
    return data.SerializeToString(deterministic=True)
