"""The cluster's own monitoring, `_internal`: a restore of everything drops its points.

The original drops the database, and its nodes begin it anew. Nodes of influxdb-cluster make
theirs once in their life: if it were dropped, none would store anything until it is restarted.
So the shards go, and database, policies and grants stay; the next point makes a shard.

Source: influxdb-cluster monitor/service.go, createInternalStorage.
"""

from __future__ import annotations

from resources.clients.cluster import Cluster
from resources.engine.cluster.metastore_reading import confirmed_reading, databases_of
from resources.engine.cluster.rollback import persistently
from resources.engine.events import Emit, InternalEmptied, Warned
from resources.errors import WireError, counted
from resources.model import INTERNAL_DATABASE, Metastore, ShardID, ShardPlace
from resources.protocol.commands import DeleteShardGroup


def note_internal(now: Metastore) -> list[str]:
    """One line, if the cluster has points of that kind."""
    n = len(_places(now))
    if not n:
        return []
    return [
        f"{counted(n, 'shard')} of {INTERNAL_DATABASE} in this cluster will be dropped when all is "
        "restored, as the original does; its monitoring begins anew"
    ]


def empty_internal(cluster: Cluster, *, emit: Emit) -> None:
    """Drop the shards of `_internal`, on every node's disk too.

    What fails is reported, and undoes nothing.
    """
    try:
        now = confirmed_reading(cluster, about=databases_of([INTERNAL_DATABASE])).metastore
        places = _places(now)
        if not places:
            return
        for policy, group_id in sorted({(place.policy, place.group.id) for place in places}):
            persistently(cluster, DeleteShardGroup(INTERNAL_DATABASE, policy, group_id))
        ids = {place.shard_id for place in places}
        for node in now.data_nodes:
            _remove(cluster, node.tcp_addr, ids)
    except WireError as error:
        emit(
            Warned(
                f"{INTERNAL_DATABASE} could not be emptied ({error.what}); all else is restored, "
                "and its old points do no harm"
            )
        )
    else:
        emit(InternalEmptied(len(places)))


def _remove(cluster: Cluster, node: str, ids: set[ShardID]) -> None:
    client = cluster.coordinator(node)
    for shard_id in sorted(client.list_shards().keys() & ids):
        client.remove_shard(shard_id)


def _places(now: Metastore) -> list[ShardPlace]:
    return [place for place in now.places() if place.database == INTERNAL_DATABASE]
