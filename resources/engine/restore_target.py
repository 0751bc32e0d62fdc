"""What a restore goes to, made from what is connected to: the one place that asks of which kind.

Whatever differs between a single server, a cluster and a shard of either is behind
`resources.engine.restore.target.RestoreTarget`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.cluster_shard import ClusterShard
from resources.engine.cluster.cluster_target import ClusterTarget
from resources.engine.cluster.cluster_upload import ClusterNodes
from resources.engine.events import Run
from resources.engine.restore.batch_upload import Receivers
from resources.engine.restore.existing_shard import ExistingShardTarget, ServerShard
from resources.engine.restore.lease import sharing_lease, taken_again
from resources.engine.restore.server_target import ServerTarget
from resources.engine.restore.server_upload import OneServer
from resources.engine.restore.target import RestoreTarget
from resources.model import ShardID
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import Store


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


def receivers_of(connection: Server | Cluster, store: Store) -> Receivers:
    """The servers of a target, as a worker sends shards to them.

    Args:
        store: the one with the lock that says whether another run took the restore's place.
    """
    if isinstance(connection, Cluster):
        return ClusterNodes(connection)
    return OneServer(connection, store)


def lease_again_of(
    connection: Server | Cluster, number: int, run: Run
) -> AbstractContextManager[None]:
    """Take the lease of a restore into a cluster again, for a step that does a batch.

    Args:
        number: under which the restore has it.
        run: of the step, which is stopped once the lease is another restore's.

    Raises:
        TargetBusy: another run has taken it meanwhile, and renews it.
    """
    if not isinstance(connection, Cluster):
        return nullcontext()

    def lost() -> None:
        run.stop.set()
        connection.abort()

    return sharing_lease(connection.meta, taken_again(connection.meta, number, run), lost)


def sharing_lease_of(
    connection: Server | Cluster, lease: tuple[int, float] | None, lost: Callable[[], None]
) -> AbstractContextManager[None]:
    """Renew, as a worker, the lease that a restore into a cluster holds: `sharing_lease`."""
    if isinstance(connection, Cluster) and lease is not None:
        return sharing_lease(connection.meta, lease, lost)
    return nullcontext()
