"""The tar archive of a shard, as a server sends it."""

from __future__ import annotations

from resources.clients.connection import Buffer, Connection
from resources.errors import BadReply, PeerClosedEarly
from resources.protocol.snapshotter_replies import what_answered_instead
from resources.protocol.stream import HEAD_BYTES, LOG_HINT


class ShardStream:
    """The unchecked tar archive of a shard, as it arrives."""

    def __init__(self, connection: Connection, phase: str) -> None:
        self._connection = connection
        self._head = memoryview(self._first_bytes())
        if not self._head:
            raise PeerClosedEarly(
                f"{connection.address}: empty reply while {phase}",
                hint=f"no such shard, or it is busy; {LOG_HINT}",
            )
        who = what_answered_instead(bytes(self._head))
        if who:
            raise BadReply(f"{connection.address}: not a snapshotter", hint=who)

    def recv_into(self, buffer: Buffer) -> int:
        """Read what has arrived into `buffer`, at least a byte; returns 0 at the end.

        The stream may end anywhere: its reader checks whether the archive is complete.
        """
        if not self._head:
            n_bytes = self._connection.recv_into(buffer)
            if n_bytes == 0:
                self._connection.finished()
            return n_bytes
        view = memoryview(buffer).cast("B")
        n_bytes = min(len(view), len(self._head))
        view[:n_bytes] = self._head[:n_bytes]
        self._head = self._head[n_bytes:]
        return n_bytes

    def _first_bytes(self) -> bytes:
        """Read enough of the stream to distinguish a tar member from another protocol."""
        head = bytearray(HEAD_BYTES)
        n_bytes = 0
        while n_bytes < len(head):
            got = self._connection.recv_into(memoryview(head)[n_bytes:])
            if got == 0:
                break
            n_bytes += got
        return bytes(head[:n_bytes])
