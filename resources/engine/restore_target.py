"""What a restore goes to, made from what is connected to: the one place that asks of which kind.

Whatever differs between a single server, a cluster and a shard of either is behind
`resources.engine.restore.target.RestoreTarget`.
"""

from __future__ import annotations

from functools import partial

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.cluster_shard import ClusterShard
from resources.engine.cluster.cluster_target import ClusterTarget
from resources.engine.events import Run
from resources.engine.restore.existing_shard import ExistingShardTarget, ServerShard
from resources.engine.restore.server_target import ServerTarget
from resources.engine.restore.target import RestoreTarget
from resources.model import ShardID
from resources.repository.repository import BackupRepository


def restore_target(
    connection: Server | Cluster,
    repository: BackupRepository,
    run: Run,
    into_shard: ShardID | None = None,
) -> RestoreTarget:
    """A target for the restores of one run.

    Args:
        repository: what is restored from.
        into_shard: `-newshard`: the shard of it that takes the archive; None: new ones.
    """
    if isinstance(connection, Cluster):
        cluster = ClusterTarget(connection, repository, run)
        if into_shard is None:
            return cluster
        return ExistingShardTarget(cluster, partial(ClusterShard, connection))
    server = ServerTarget(connection, repository, run)
    if into_shard is None:
        return server
    return ExistingShardTarget(server, partial(ServerShard, connection))
