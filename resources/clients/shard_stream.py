"""The tar archive of a shard, as it comes from a server."""

from __future__ import annotations

from resources.clients.connection import Buffer, Connection
from resources.errors import BadReply, PeerClosedEarly
from resources.protocol.snapshotter_replies import what_answered_instead
from resources.protocol.stream import HEAD_BYTES, LOG_HINT


class ShardStream:
    """The tar archive of a shard, as it arrives; nothing in it has been looked at."""

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
        """Fill `buffer` with what has arrived, at least a byte; 0 is the end of the stream.

        The end may come anywhere: whether the archive was complete, its reader must say.
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
        """Enough of the stream to tell a tar member from another protocol."""
        head = bytearray(HEAD_BYTES)
        n_bytes = 0
        while n_bytes < len(head):
            got = self._connection.recv_into(memoryview(head)[n_bytes:])
            if got == 0:
                break
            n_bytes += got
        return bytes(head[:n_bytes])
