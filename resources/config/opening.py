"""Opens the clusters and repositories of the configuration."""

from __future__ import annotations

from msgspec.structs import replace

from resources.clients.cluster import Cluster as OpenCluster
from resources.clients.connect import open_source
from resources.clients.server import Server
from resources.clients.source_address import Address
from resources.config.reading import Reading
from resources.config.values import Cluster
from resources.embedded.listener import HOST
from resources.embedded.ports import Ports
from resources.errors import PeerUnreachable
from resources.repository.repository import BackupRepository

NOT_RUNNING = "start it with make dev, or name your own clusters in shardkeeper.yaml"


def open_cluster(
    reading: Reading, name: str, *, silence_s: float | None = None
) -> Server | OpenCluster:
    """Open a configured cluster or server.

    Args:
        silence_s: an upper limit for the configured time-out.

    Raises:
        UsageError: there is no such cluster, its settings are invalid, or a secret is missing.
        ShardkeeperError: no server answers at the address, or a server of another kind.
    """
    cluster = reading.cluster(name)
    at = address_of(cluster)
    if silence_s is not None:
        at = replace(at, timeout_s=min(at.timeout_s, silence_s))
    try:
        return open_source(at)
    except PeerUnreachable as error:
        if cluster.embedded is None:
            raise
        raise PeerUnreachable(
            f"the embedded cluster {name} is not running: {error.what}", hint=NOT_RUNNING
        ) from None


def address_of(cluster: Cluster) -> Address:
    """The address of a cluster, with its secrets.

    Raises:
        UsageError: a secret is missing.
        PeerUnreachable: an embedded cluster was never started.
    """
    bind, host, http = cluster.bind, cluster.host, cluster.http
    if cluster.embedded is not None:
        ports = Ports.read(cluster.embedded)
        if ports is None:
            raise PeerUnreachable(
                f"no embedded cluster was ever started in {cluster.embedded}", hint=NOT_RUNNING
            )
        if ports.meta:
            bind = f"{HOST}:{ports.meta[0][0]}"
        else:
            http, host = (f"{HOST}:{port}" for port in ports.data[0])
    return Address(
        bind=bind,
        host=host,
        http=http,
        user=cluster.user,
        password=cluster.password.read() if cluster.password else "",
        auth_type=cluster.auth_type,
        secret=cluster.secret.read() if cluster.secret else "",
        tls=cluster.tls,
        data_tls=cluster.data_tls,
        verify_tls=cluster.verify_tls,
        ca_file=str(cluster.ca or ""),
        cert_file=str(cluster.cert or ""),
        key_file=str(cluster.key or ""),
        route=cluster.route,
        timeout_s=cluster.timeout,
        min_bytes_per_s=cluster.min_rate,
    )


def open_repository(reading: Reading, name: str) -> BackupRepository:
    """Open the repository of a cluster.

    Raises:
        UsageError: there is no such cluster, or it has no repository.
        RepositoryMissing: the directory does not exist, or is a file.
    """
    return BackupRepository.open(reading.repository(name).path)
