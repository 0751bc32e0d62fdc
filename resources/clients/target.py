"""Target: the interface through which a restore writes to a single server or a cluster."""

from __future__ import annotations

from typing import Literal, Protocol

from resources.clients.http import InfluxHTTP
from resources.clients.source import ReplicaInventory, SourceFacts
from resources.model import Metastore, ShardInfo


class Target(Protocol):
    """The server or the cluster of a restore; safe to share between threads."""

    @property
    def kind(self) -> Literal["server", "cluster"]: ...

    @property
    def address(self) -> str:
        """Its name in messages."""
        ...

    def about(self) -> SourceFacts:
        """Version and clock, as far as the target reports them."""
        ...

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes and decoded."""
        ...

    def inventory(self, metastore: Metastore) -> ReplicaInventory:
        """List the shards on every node."""
        ...

    def nodes_of(self, shard: ShardInfo, metastore: Metastore) -> tuple[str, ...]:
        """The TCP addresses of the nodes that should have a replica of the shard."""
        ...

    def http_endpoints(self, metastore: Metastore | None = None) -> tuple[InfluxHTTP, ...]:
        """The HTTP APIs of all nodes, each once; empty if HTTP is not used.

        Args:
            metastore: names the nodes; None: it is read.

        Raises:
            WireError: the metastore cannot be read.
        """
        ...

    def abort(self) -> None:
        """Break off every request in progress, from any thread."""
        ...

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        ...
