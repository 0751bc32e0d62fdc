"""What a backup reads from: a single server or a cluster, behind one face."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from resources.clients.backup_directories import Leftovers
from resources.clients.peers import Crashes, Peer
from resources.clients.shard_stream import ShardStream
from resources.errors import WireError
from resources.model import Metastore, ShardID
from resources.protocol.server_vars import ShardStats


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a source says about itself at one moment."""

    version: str = ""
    """Empty if it did not say."""
    clock_ns: int | None = None
    """A server's own clock; file times inside its shards come from the same one."""
    started_ns: int | None = None
    """When its process started, by that clock; its counters began then."""
    shards: Mapping[ShardID, ShardStats] = field(default_factory=dict[ShardID, ShardStats])
    """A server's figures; empty for clusters, whose copies tell their own."""
    orphans: Mapping[ShardID, str] = field(default_factory=dict[ShardID, str])
    """Shards on a server's disk that its metastore does not know, with `database/policy`: nothing
    reads or writes them, and no backup can restore them."""
    uptime_s: int | None = None
    """How long its process runs, in whole seconds."""


@dataclass(frozen=True, slots=True)
class ShardCopy:
    """A copy of a shard on one node, as that node says."""

    node: str
    """TCP address."""
    size_bytes: int | None = None
    """Files and write-ahead log; None if the node does not say."""
    last_modified_ns: int | None = None
    is_at_rest: bool = False
    """Whether the node says that nothing of it is in memory and nothing is left to compact."""


@dataclass(frozen=True, slots=True)
class ReplicaInventory:
    """Which nodes really have which shards; a metastore also knows planned ones."""

    copies: Mapping[ShardID, tuple[ShardCopy, ...]]
    silent: Mapping[str, WireError] = field(default_factory=dict[str, WireError])
    """Nodes that did not answer, by TCP address."""
    broken: Mapping[ShardID, Mapping[str, str]] = field(
        default_factory=dict[ShardID, Mapping[str, str]]
    )
    """What nodes say is wrong with their copies of a shard, by TCP address."""


class Source(Protocol):
    """A server or a cluster that can be backed up; safe to share between threads."""

    @property
    def kind(self) -> Literal["server", "cluster"]: ...

    @property
    def address(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def leftovers(self) -> Leftovers:
        """What its release leaves behind when shards are read."""
        ...

    @property
    def crashes(self) -> Crashes:
        """Shards that bring servers down when they are read."""
        ...

    def peer(self, node: str) -> Peer:
        """Whether a node answers."""
        ...

    def facts(self, *, activity: bool = False) -> tuple[SourceFacts, WireError | None]:
        """What it says about itself, or nothing and the reason why.

        Args:
            activity: whether a server is to tell what was written to each shard, too.
        """
        ...

    def figures(self, node: str) -> SourceFacts:
        """What a node tells of its shards' caches and files now; nothing if it has no HTTP.

        Raises:
            WireError: it does not answer.
        """
        ...

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes, to be stored unchanged, and decoded."""
        ...

    def inventory(self, metastore: Metastore) -> ReplicaInventory:
        """Ask every node what it has."""
        ...

    def has_shard(self, shard_id: ShardID) -> bool:
        """Whether the shard is still there, as far as the source knows."""
        ...

    def open_shard(
        self, shard_id: ShardID, *, node: str, since_ns: int | None = None
    ) -> AbstractContextManager[ShardStream]:
        """Stream one node's copy; see `SnapshotterClient.open_shard`."""
        ...

    def abort(self) -> None:
        """Break off every request that is under way, from any thread."""
        ...

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        ...
