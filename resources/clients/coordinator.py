"""CoordinatorClient: requests that change one data node's own disk (port 8088).

The service has no authentication. Every request has a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from resources.clients.address import NO_MAP, AddressMap, split_host_port
from resources.clients.connection import Connection, StallLimit
from resources.clients.cut_again import asked_again
from resources.clients.peers import Peer
from resources.clients.source_address import MIN_BYTES_PER_S
from resources.errors import PeerClosedEarly, PeerRefused, PeerUnreachable, UnknownOutcome
from resources.model import ShardID
from resources.protocol import coordinator as wire
from resources.protocol.coordinator import MessageType
from resources.protocol.meta_api import OwnerStatus
from resources.protocol.stream import Parsing, StreamReader

if TYPE_CHECKING:
    from ssl import SSLContext

T = TypeVar("T")

COORDINATOR_PORT = 8088
IDLE_TIMEOUT_S = 60.0
STATEMENT_TIMEOUT_S = 600.0
"""How long a node may take for a DROP or DELETE before it answers."""


class CoordinatorClient:
    """The client of one data node's coordinator; safe to share between threads.

    Args:
        tcp_addr: host:port, 8088 if the port is left out.
        timeout_s: how long the node may be silent.
        min_bytes_per_s: its minimum rate; see `StallLimit`.
        tls: how to encrypt; `None` if the node's port does not speak TLS.
        before_change: called right before each change; an exception from it prevents the change.
        route: the reachable addresses.
        peer: the node's availability; None: not tracked.
    """

    def __init__(
        self,
        tcp_addr: str,
        *,
        timeout_s: float = IDLE_TIMEOUT_S,
        tls: SSLContext | None = None,
        before_change: Callable[[], None] = lambda: None,
        route: AddressMap = NO_MAP,
        min_bytes_per_s: int = MIN_BYTES_PER_S,
        peer: Peer | None = None,
    ) -> None:
        self._address = split_host_port(tcp_addr, default_port=COORDINATOR_PORT)
        self._stall_limit = StallLimit(timeout_s, min_bytes_per_s)
        self._tls = tls
        self._before_change = before_change
        self._route = route
        self._exchange = peer.exchange if peer is not None else nullcontext

    def __repr__(self) -> str:
        return f"CoordinatorClient({self.tcp_addr!r})"

    @property
    def tcp_addr(self) -> str:
        """host:port, as every error shows it."""
        return str(self._address)

    def list_shards(self) -> Mapping[ShardID, OwnerStatus]:
        """List all shards on the node's disk, also those that are in no metastore.

        Raises:
            PeerRefused, PeerUnreachable, PeerClosedEarly, BadReply: the request fails.
        """
        listed = self._ask(wire.ListShards(), wire.shard_list, "listing shards")
        if listed.err:
            raise self._refused("listing shards", listed.err)
        return listed.shards

    def create_shard(self, shard_id: ShardID, database: str, policy: str) -> OwnerStatus:
        """Create one shard, as `create_shards` does; returns its status on the node."""
        return self.create_shards([(shard_id, database, policy)])[shard_id]

    def create_shards(
        self, wanted: Iterable[tuple[ShardID, str, str]]
    ) -> Mapping[ShardID, OwnerStatus]:
        """Create empty shards, keep those that exist, and check that the node lists them.

        Neither names nor IDs need be in the metastore; the caller makes sure that the IDs are
        free. A node lists all of its shards, so one list after the last creation is enough.

        Args:
            wanted: ID, database and policy of each; read one by one, so it may raise.

        Returns:
            All shards on the node's disk.

        Raises:
            PeerRefused: the node refused, or does not list a shard that it reported as created.
            UnsafeName: no server accepts the names; no request was sent for that shard.
            PeerUnreachable, PeerClosedEarly, BadReply: the request fails.
        """
        made: list[ShardID] = []
        for shard_id, database, policy in wanted:
            phase = f"creating shard {shard_id}"
            self._before_change()
            reply = self._ask(
                wire.WriteShard(shard_id, database, policy),
                partial(wire.code_reply, asked=MessageType.WRITE_SHARD),
                phase,
            )
            if reply.code != 0:
                raise self._refused(phase, reply.message)
            made.append(shard_id)
        # The node also reports success when it created nothing.
        there = self.list_shards()
        for shard_id in made:
            if shard_id not in there:
                raise self._refused(
                    f"creating shard {shard_id}",
                    "the node reported success and does not list the shard",
                )
        return there

    def remove_shard(self, shard_id: ShardID) -> bool:
        """Delete a shard's files on this node; the metastore does not change.

        Returns:
            Whether the node had the shard.

        Raises:
            PeerRefused: the node refused.
            UnknownOutcome: the connection broke before the node answered.
            PeerUnreachable: no connection; nothing was sent.
            BadReply: the reply is malformed.
        """
        phase = f"removing shard {shard_id}"
        reply = self._command(
            wire.RemoveShard(shard_id),
            partial(wire.err_reply, asked=MessageType.REMOVE_SHARD),
            phase,
            answer_s=STATEMENT_TIMEOUT_S,
        )
        if reply.err and reply.err != "shard not found":
            raise self._refused(phase, reply.err)
        return not reply.err

    def _command(
        self,
        request: wire.Request,
        parse: Callable[[StreamReader], Parsing[T]],
        phase: str,
        *,
        answer_s: float,
    ) -> T:
        raw = wire.MUX_HEADER + request.encode()
        with self._exchange(), self._connect(phase) as connection:
            self._before_change()
            try:
                return self._answer(connection, raw, parse, phase, answer_s)
            except (PeerUnreachable, PeerClosedEarly) as error:
                raise UnknownOutcome(
                    f"{error.what}; whether it was done is not known",
                    hint="list the node's shards before trying again",
                ) from None

    def _ask(
        self, request: wire.Request, parse: Callable[[StreamReader], Parsing[T]], phase: str
    ) -> T:
        """Send a request that may be repeated safely."""
        raw = wire.MUX_HEADER + request.encode()

        def ask() -> T:
            with self._exchange(), self._connect(phase) as connection:
                return self._answer(connection, raw, parse, phase, None)

        return asked_again(ask)

    def _answer(
        self,
        connection: Connection,
        raw: bytes,
        parse: Callable[[StreamReader], Parsing[T]],
        phase: str,
        answer_s: float | None,
    ) -> T:
        connection.sendall(raw)
        connection.phase(phase, answer_s=answer_s)
        reply = connection.receive(parse)
        connection.finished()
        return reply

    def _connect(self, phase: str) -> Connection:
        endpoint = self._route.endpoint(self._address)
        connection = Connection(endpoint, self._stall_limit, tls=self._tls, service="data node")
        connection.phase(phase)
        return connection

    def _refused(self, phase: str, reason: str) -> PeerRefused:
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason[:500]).strip()
        return PeerRefused(f"{self.tcp_addr}: {shown or 'no reason'} while {phase}")
