"""MetaClient: the HTTP API (8091) of a cluster's meta nodes, reached through any of them.

Every meta node answers reads, from its own copy of the metastore; only the leader's copy is
certainly up to date. Only the leader applies commands; the others redirect to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from msgspec.structs import replace

from resources.clients.address import NO_MAP, AddressMap, HostPort
from resources.clients.auth import Auth
from resources.clients.meta_http import INDEX_HEADER, MetaHTTP, index_in, unknown
from resources.clients.meta_leader import MAX_HOPS, going_round, leader_from
from resources.clients.meta_nodes import (
    MetaNodes,
    addresses_of,
    meta_addresses,
    named_addresses,
)
from resources.clients.slow_leader import from_leader_or_beside
from resources.clients.source_address import MIN_BYTES_PER_S
from resources.clients.tls import Trust
from resources.errors import (
    BadReply,
    PeerRefused,
    PeerUnreachable,
    UsageError,
    WireError,
)
from resources.model import Metastore, NodeID
from resources.protocol import meta_api
from resources.protocol.commands import Command, decode_response
from resources.protocol.meta import decode_metastore
from resources.protocol.meta_api import ClusterMembers, Lease, ShardStatus
from resources.protocol.snapshotter import MAX_META_BYTES

T = TypeVar("T")

ASK_S = 10.0
"""How long a meta node may be silent after a small request, which it answers from memory."""
BRIEF_S = 3.0
"""How long a meta node may be silent that did not answer a moment ago, while there are others."""
MAX_SMALL_BYTES = 2**20
MAX_MEMBERS_BYTES = 8 * 2**20
MAX_SHARDS_BYTES = 256 * 2**20
"""Enough for a quarter of a million shards with four owners each."""

_UNCERTAIN = (
    "leadership lost while committing log",
    "raft is already shutdown",
    "snapshot restored while committing log",
)
"""Errors of raft after which the command may or may not be in the log."""

_NOT_TAKEN = (
    "node is not the leader",
    "leadership transfer in progress",
    "timed out enqueuing operation",
    "store not open",
)
"""Errors of raft after which the command is certainly not in the log."""


class MetaClient:
    """The client of a cluster's meta nodes; safe to share between threads.

    Args:
        bind: host:port of any meta node, 8091 if the port is left out; several with commas.
        tls: whether the meta nodes speak https; all do, or none.
        skip_verify: accept any certificate.
        ca_file: authorities to trust instead of the system's.
        auth: our credentials.
        timeout_s: how long a node may be silent.
        clock: seconds since 1970, for tokens.
        trust: trusted authorities and our certificate; wins over `skip_verify` and `ca_file`.
        route: reachable addresses for the ones that nodes advertise.
        min_bytes_per_s: a node's minimum rate, once it answers; see `StallLimit`.

    Raises:
        UsageError: `bind` is not an address, or settings contradict each other.
    """

    def __init__(
        self,
        bind: str,
        *,
        tls: bool = False,
        skip_verify: bool = False,
        ca_file: str = "",
        auth: Auth | None = None,
        timeout_s: float = 30.0,
        clock: Callable[[], float] = time.time,
        trust: Trust | None = None,
        route: AddressMap = NO_MAP,
        min_bytes_per_s: int = MIN_BYTES_PER_S,
    ) -> None:
        trust = trust or Trust(not skip_verify, ca_file)
        self._nodes = MetaNodes(named_addresses(bind), self._is_there)
        self._http = MetaHTTP(
            auth or Auth.none(), tls, trust, timeout_s, clock, route, min_bytes_per_s
        )
        self._small = replace(self._http, timeout_s=min(timeout_s, ASK_S))
        self._check: Callable[[], None] = _always

    def __repr__(self) -> str:
        return f"MetaClient({self.bind!r})"

    @property
    def bind(self) -> str:
        """host:port of the meta node that `bind` names first."""
        return str(self._nodes.first)

    @property
    def tls(self) -> bool:
        """Whether requests use https."""
        return self._http.tls

    # --- members --------------------------------------------------------------------------

    def is_meta_node(self) -> bool:
        """Whether a meta node listens at the address; credentials need not be right.

        Raises:
            PeerUnreachable: no server listens there, or it does not answer.
        """
        try:
            reply = self._nodes.ask(
                lambda address: self._small.get(
                    address, "/ping", limit=MAX_SMALL_BYTES, accept=tuple(range(300, 600))
                )
            )
        except PeerUnreachable:
            raise
        except WireError:
            return False
        return INDEX_HEADER in reply.headers

    def leader(self) -> HostPort:
        """Find the leader; the leader itself must confirm it.

        Raises:
            PeerUnreachable: also if there is no leader, or the meta nodes name different ones.
            CredentialsRefused, PeerRefused, BadReply: the request fails.
        """
        return self._nodes.ask(self._leader_from)

    def is_away(self, node: HostPort) -> bool:
        """Whether a recent request to a meta node had no answer."""
        return self._nodes.is_away(node)

    def note_away(self, node: HostPort) -> None:
        """Record that a meta node does not answer, as the one that opens the connection saw."""
        self._nodes.note_away(node)

    def is_slow(self, node: HostPort) -> bool:
        """Whether a meta node was recently too slow to send the metastore."""
        return self._nodes.is_slow(node)

    def members(self) -> ClusterMembers:
        """List the cluster's members, from the copy of the node that answers (/show-cluster).

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused, BadReply: the request fails.
        """
        found = self._nodes.ask(self._members)
        self._nodes.learn(addresses_of(node.addr for node in found.meta))
        return found

    # --- metastore ------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Fetch the metastore from the leader: a serialized `Data`, with password hashes in it.

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused: the request fails.
            BadReply: also if the metastore is not complete.
        """
        return self.metastore()[0]

    def metastore(self) -> tuple[bytes, Metastore]:
        """The leader's metastore as bytes, to be stored unchanged, and decoded.

        Raises:
            WireError: as `snapshot`.
        """
        return self.led()[1:]

    def led(self) -> tuple[HostPort, bytes, Metastore]:
        """The leader, and its metastore.

        If the leader is too slow to send it, another node does, with a copy as new as the leader's.

        Raises:
            WireError: as `snapshot`.
        """
        small_s = self._small.timeout_s

        def ask(address: HostPort) -> tuple[HostPort, bytes, Metastore]:
            leader = self._leader_from(address)
            return leader, *from_leader_or_beside(
                leader,
                self._nodes,
                read=self.metastore_of,
                index_of=lambda node: self.index_of(node, timeout_s=small_s),
                read_after=lambda node, n: self.metastore_of(node, after=n, timeout_s=small_s),
            )

        leader, raw, now = self._nodes.ask(ask)
        self._nodes.learn(meta_addresses(now.meta_nodes))
        return leader, raw, now

    def metastore_of(
        self, node: HostPort, *, after: int = 0, timeout_s: float | None = None
    ) -> tuple[bytes, Metastore]:
        """One meta node's own copy of the metastore; only the leader's is certainly up to date.

        Args:
            after: an index; the node answers once it has a newer metastore.
            timeout_s: how long it may be silent; None: the client's time-out.

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused: the request fails.
            BadReply: also if the node reports a newer index than the copy has.
        """
        http = self._http if timeout_s is None else replace(self._http, timeout_s=timeout_s)
        with self._nodes.noting(node, may_wait=after > 0):
            reply = http.get(node, "/", params={"index": str(after)}, limit=MAX_META_BYTES)
        try:
            now = decode_metastore(reply.body)
        except BadReply as error:
            raise BadReply(f"{node}: {error.what}", hint=error.hint) from None
        known = index_in(reply)
        if known is not None and known > now.index:
            raise BadReply(
                f"{node}: sent a metastore of index {now.index} and reports index {known}",
                hint="is a proxy or a cache in between? Connect to the meta node itself (-bind)",
            )
        return reply.body, now

    def index_of(self, node: HostPort, *, timeout_s: float) -> int:
        """The index of a meta node's copy of the metastore.

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused: the request fails.
            BadReply: also if the server is not a meta node.
        """
        http = replace(self._http, timeout_s=timeout_s)
        with self._nodes.noting(node):
            reply = http.get(node, "/ping", limit=MAX_SMALL_BYTES)
        index = index_in(reply)
        if index is None:
            raise BadReply(f"{node}: answers without an index; is it a meta node?")
        return index

    def shards(self, *, verbose: bool = False) -> tuple[ShardStatus, ...]:
        """List the shards that are neither deleted nor expired (/show-shards).

        With `verbose` the meta node requests the state of every replica from its data node. It
        reports "not found" for a missing replica as well as for a node that does not answer.

        Raises:
            PeerRefused: also if a shard's owner is not a data node.
            PeerUnreachable, CredentialsRefused, BadReply: the request fails.
        """
        params = {"verbose": "true"} if verbose else None

        def ask(address: HostPort) -> tuple[ShardStatus, ...]:
            with self._nodes.noting(address):
                reply = self._http.get(
                    address, "/show-shards", params=params, limit=MAX_SHARDS_BYTES
                )
            return self._read(address, reply.body, meta_api.shard_statuses)

        try:
            return self._nodes.ask(ask)
        except PeerRefused as error:
            if "HTTP 500" in error.what and not error.hint:
                error.hint = "does the metastore name an owner that is not a data node?"
            raise

    # --- changes --------------------------------------------------------------------------

    @contextmanager
    def guarded(self, check: Callable[[], None]) -> Generator[None]:
        """In the block, call `check` right before each change; an exception prevents the change.

        That holds for commands and for changes to this cluster's data nodes. It stops a thread
        that was suspended between its last check and the change.
        """
        before, self._check = self._check, check
        try:
            yield
        finally:
            self._check = before

    def check_may_change(self) -> None:
        """Call the check of the `guarded` block around this client.

        Raises:
            ShardkeeperError: the check's own error.
        """
        self._check()

    def execute(self, command: Command) -> int:
        """Apply a command; returns the metastore's index afterwards.

        Raises:
            PeerRefused: the cluster refused; nothing changed except the index.
            UnknownOutcome: the command may have been applied, or may be applied in a moment.
            PeerUnreachable: not applied; also if there is no leader.
            CredentialsRefused, BadReply, PlanError, UnsafeName: not applied.
            ShardkeeperError: the check of `guarded` prevents the command.
        """
        body = command.encode()

        def ask(address: HostPort) -> int:
            for _ in range(MAX_HOPS + 1):
                self._check()
                with self._nodes.noting(address):
                    reply = self._http.post(address, "/execute", body, limit=MAX_SMALL_BYTES)
                if reply.status != 307:
                    return self._index(address, reply.body)
                address = self._nodes.hop(self._http.redirected(address, reply, "/execute"))
            raise going_round(address)

        return self._nodes.ask(ask)

    def execute_on(self, node: HostPort, body: bytes) -> int:
        """Apply an encoded command, only if this node is the leader.

        Raises:
            PeerUnreachable: not applied; also if the node is not the leader any more.
            WireError: as `execute`.
        """
        self._check()
        with self._nodes.noting(node):
            reply = self._http.post(node, "/execute", body, limit=MAX_SMALL_BYTES)
        if reply.status == 307:
            raise PeerUnreachable(
                f"{node}: is not the leader any more", hint="try again in a moment"
            )
        return self._index(node, reply.body)

    def lease(self, name: str, node_id: NodeID, *, once: bool = False) -> Lease:
        """Acquire or renew a lease for about a minute; the result names its present owner.

        The leader keeps leases in memory only, so a new leader has none.

        Args:
            once: do not wait for the election of a leader.

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused, BadReply: the request fails.
        """
        if not name:
            raise UsageError("a lease has a name")
        params = {"name": name, "nodeid": str(node_id)}

        def ask(address: HostPort) -> Lease:
            for _ in range(MAX_HOPS + 1):
                with self._nodes.noting(address):
                    reply = self._small.get(
                        address, "/lease", params=params, limit=MAX_SMALL_BYTES, accept=(307, 409)
                    )
                if reply.status == 307:
                    address = self._nodes.hop(self._http.redirected(address, reply, "/lease"))
                    continue
                got = self._read(address, reply.body, meta_api.lease)
                if got.name != name or (got.owner == node_id) is not (reply.status == 200):
                    raise BadReply(f"{address}: its answer about a lease contradicts itself")
                return got
            raise going_round(address)

        return self._nodes.ask(ask, once=once)

    # --- requests -------------------------------------------------------------------------

    def _index(self, address: HostPort, raw: bytes) -> int:
        try:
            response = decode_response(raw)
        except BadReply as error:
            raise unknown(BadReply(f"{address}: {error.what}")) from None
        if response.error is None and response.index is not None:
            return response.index
        refused = PeerRefused(f"{address}: {self._http.shown(response.error or '')}")
        if response.error in _UNCERTAIN:
            raise unknown(refused)
        if response.error in _NOT_TAKEN:
            raise PeerUnreachable(refused.what, hint="try again in a moment")
        raise refused

    def _is_there(self, node: HostPort) -> bool:
        brief = replace(self._http, timeout_s=min(self._http.timeout_s, BRIEF_S))
        try:
            brief.get(node, "/ping", limit=MAX_SMALL_BYTES)
        except PeerUnreachable as error:
            return "(HTTP " in error.what
        except WireError:
            return True
        return True

    def _leader_from(self, address: HostPort) -> HostPort:
        return leader_from(address, self._small, self._nodes)

    def _members(self, address: HostPort) -> ClusterMembers:
        with self._nodes.noting(address):
            reply = self._small.get(address, "/show-cluster", limit=MAX_MEMBERS_BYTES)
        return self._read(address, reply.body, meta_api.cluster_members)

    def _read(self, address: HostPort, raw: bytes, parse: Callable[[bytes], T]) -> T:
        try:
            return parse(raw)
        except BadReply as error:
            raise BadReply(f"{address}: {error.what}", hint=error.hint) from None


def _always() -> None:
    """The check outside of a `guarded` block: every change is allowed."""
