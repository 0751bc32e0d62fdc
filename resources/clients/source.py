"""Source: the interface through which a backup reads a single server or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from msgspec import Struct, field

from resources.clients.backup_directories import Leftovers
from resources.clients.peers import Crashes, Peer
from resources.clients.snapshotter import ShardStream
from resources.clients.source_address import Address
from resources.errors import WireError
from resources.model import Metastore, ShardID
from resources.protocol.server_vars import ShardStats


class SourceFacts(Struct, frozen=True):
    """The facts that a source reports about itself at one moment."""

    version: str = ""
    """Empty if the source did not report it."""
    clock_ns: int | None = None
    """A server's own clock; file times inside its shards come from the same one."""
    started_ns: int | None = None
    """The start of its process, by that clock; its counters began then."""
    shards: Mapping[ShardID, ShardStats] = field(default_factory=dict[ShardID, ShardStats])
    """A server's figures; empty for clusters, where each node reports its own."""
    orphans: Mapping[ShardID, str] = field(default_factory=dict[ShardID, str])
    """Shards on a server's disk that are not in its metastore, with `database/policy`. Nothing
    reads or writes them, and no backup can restore them."""
    uptime_s: int | None = None
    """The age of its process, in whole seconds."""


class ShardCopy(Struct, frozen=True):
    """A replica of a shard on one node, as that node reports it."""

    node: str
    """TCP address."""
    size_bytes: int | None = None
    """The size of files and WAL; None if the node does not report it."""
    last_modified_ns: int | None = None
    is_at_rest: bool = False
    """Whether the node reports an empty cache and no compaction left to do."""


class ReplicaInventory(Struct, frozen=True):
    """The shards that exist on each node; a metastore also lists planned ones."""

    copies: Mapping[ShardID, tuple[ShardCopy, ...]]
    silent: Mapping[str, WireError] = field(default_factory=dict[str, WireError])
    """Nodes that did not answer, by TCP address."""
    broken: Mapping[ShardID, Mapping[str, str]] = field(
        default_factory=dict[ShardID, Mapping[str, str]]
    )
    """The faults that nodes report of their replicas of a shard, by TCP address."""


class BackupSource(Protocol):
    """A server or a cluster to back up; safe to share between threads."""

    @property
    def kind(self) -> Literal["server", "cluster"]: ...

    @property
    def address(self) -> str:
        """Its name in messages."""
        ...

    @property
    def reached_by(self) -> Address | None:
        """The address by which another process opens the same source; None: it has none."""
        ...

    @property
    def leftovers(self) -> Leftovers:
        """The directories that its release leaves behind when shards are read."""
        ...

    @property
    def crashes(self) -> Crashes:
        """Shards that bring servers down when they are read."""
        ...

    def peer(self, node: str) -> Peer:
        """The availability of a node."""
        ...

    def facts(self, *, activity: bool = False) -> tuple[SourceFacts, WireError | None]:
        """The facts that the source reports about itself; if there are none, also the error.

        Args:
            activity: whether to read a server's counters of writes to each shard, too.
        """
        ...

    def recall(self, version: str, first: Mapping[str, SourceFacts]) -> None:
        """Know what another process of the same run has learned of the source.

        Args:
            version: as in its facts.
            first: what its nodes reported, by address.
        """
        ...

    def figures(self, node: str) -> SourceFacts:
        """A node's present figures of its shards' caches and files; empty without HTTP.

        Raises:
            WireError: the node does not answer.
        """
        ...

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes, to be stored unchanged, and decoded."""
        ...

    def inventory(self, metastore: Metastore) -> ReplicaInventory:
        """List the shards on every node."""
        ...

    def has_shard(self, shard_id: ShardID) -> bool:
        """Whether the source still has the shard."""
        ...

    def open_shard(
        self, shard_id: ShardID, *, node: str, since_ns: int | None = None
    ) -> AbstractContextManager[ShardStream]:
        """Stream one node's replica; see `SnapshotterClient.open_shard`."""
        ...

    def abort(self) -> None:
        """Break off every request in progress, from any thread."""
        ...

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        ...
