"""What a restore may do to a replica that holds a part of its archive, to send it again.

A server writes an upload over files of the same names, and leaves the others. So an archive may be
sent over what an earlier attempt has left of it, and over nothing else: a file with a client's
points may have the name of one that is sent. A cluster's replica can also be removed and created
anew.

Source: influxdb tsdb/engine/tsm1/engine.go, overlay; tried on 1.6.7, 1.8, 1.12 and a cluster by
tests/faults/cut_off.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from resources.clients.server import Server
from resources.engine.restore.leftovers import holds_more
from resources.engine.restore.read_back import SentFile
from resources.model import ShardID
from resources.repository.formats.details import FileID


class TargetReplicas(Protocol):
    """The replicas on one server of the target."""

    def has(self, shard_id: ShardID) -> bool:
        """Whether the replica is there at all.

        Raises:
            WireError: a node does not answer, or refuses.
        """
        ...

    def is_away(self) -> bool:
        """Whether the server does not answer at all, and its shards come again later."""
        ...

    def check_may_send(self) -> None:
        """Called right before each upload; what it raises keeps it from being sent."""
        ...

    def make_ready(
        self, shard_id: ShardID, files: Sequence[SentFile], ours: Collection[FileID]
    ) -> str:
        """Have a replica take its archive once more; returns why it must stay as it is, or nothing.

        Args:
            files: what it holds.
            ours: those that attempts of ours may have left there.

        Raises:
            WireError: a node does not answer, or refuses.
        """
        ...


class ServerReplicas:
    """Those of a single server: nothing can be taken away, so they are sent over.

    Args:
        started_ns: when the server had started, as it said before the shards were created.
        check_may_send: see `TargetReplicas`.
    """

    def __init__(
        self,
        server: Server,
        started_ns: int | None,
        check_may_send: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = server
        self._started_ns = started_ns
        self._check_may_send = check_may_send

    def has(self, shard_id: ShardID) -> bool:
        return self._server.has_shard(shard_id)

    def is_away(self) -> bool:
        return False  # there is no other to go on with

    def check_may_send(self) -> None:
        self._check_may_send()

    def make_ready(
        self, shard_id: ShardID, files: Sequence[SentFile], ours: Collection[FileID]
    ) -> str:
        if {file.id for file in files} <= set(ours):
            return ""
        # The server may have rewritten them; it counts what others write.
        return holds_more(self._server, self._started_ns, {shard_id: ours})
