"""Whether two serialized metastores say the same.

Bytes alone do not tell: servers write a user's grants in any order, and two meta nodes that
marked a shard group as deleted each looked at their own clock.

Source: influxdb-cluster services/meta/data.go, UserInfo.marshal and DeleteShardGroup.
"""

from __future__ import annotations

from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import parse_strictly


def comparable(raw: bytes, *, own_clocks: bool = False, timeless: bool = False) -> bytes:
    """Bytes that are equal for metastores that say the same; what no field explains counts too.

    Args:
        own_clocks: two meta nodes are compared, so *when* a group was deleted does not count.
        timeless: term and index do not count.

    Raises:
        BadReply: `raw` is no metastore.
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
