"""One meta node: its HTTP API (8091) over its own copy of the metastore.

It answers reads from its copy and redirects commands to the leader. There is no raft port: its
number is only an address by which nodes name each other.

Source: influxdb-cluster services/meta/handler.go, store.go and gzip.go.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace

from resources.embedded.listener import Line, Listener
from resources.embedded.meta import forms
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.meta.edits import CommandRejected
from resources.embedded.meta.group import MetaGroup, NoLeader
from resources.embedded.meta.shard_listing import shard_statuses
from resources.embedded.meta.state import MetaState
from resources.embedded.status import MetaNodeStatus
from resources.embedded.web import (
    JSON,
    TEXT,
    Reply,
    Request,
    error_reply,
    redirect,
    serve_http,
    text_error,
)
from resources.model import NodeID, NodeInfo, ShardID
from resources.protocol import commands
from resources.protocol.meta_api import (
    ClusterMembers,
    DataNodeMember,
    Lease,
    MetaNodeMember,
    OwnerStatus,
    encode_shards,
)
from resources.protocol.snapshotter import MAX_UINT64, go_json

VERSION = "1.8.11-c1.2.0"
"""The release that the embedded cluster models."""

LEASE_S = 60.0
BINARY = "application/octet-stream"


class Surroundings(Struct, frozen=True):
    """A meta node's requests to other nodes.

    `alive` replaces gossip: the TCP addresses of the live nodes.
    """

    alive: Callable[[], frozenset[str]]
    listed_shards: Callable[[str], Mapping[ShardID, OwnerStatus] | None]
    """The status of the shards, by a data node's TCP address; `None`: it does not answer."""
    copy_shard: Callable[[str, str, str, str, ShardID], str]
    """Source, destination, database, policy, shard → an error text, empty on success."""
    remove_shard: Callable[[str, ShardID], str]


class LeaseTable:
    """The leases, in the leader's memory; another leader has none of them.

    Attributes:
        duration_s: the duration of a lease; `lease-duration` of a real node.
        now_ns: the leader's clock.
    """

    def __init__(self) -> None:
        self.duration_s = LEASE_S
        self.now_ns = time.time_ns
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def acquire(self, name: str, owner: NodeID) -> Lease:
        """Acquire or renew a lease; returns the present one, also if another owner has it."""
        now_ns = self.now_ns()
        with self._lock:
            held = self._leases.get(name)
            if held is None or held.owner == owner or (held.expiration_ns or 0) < now_ns:
                held = Lease(name, now_ns + int(self.duration_s * 1e9), owner)
                self._leases[name] = held
            return held

    def forget(self) -> None:
        with self._lock:
            self._leases.clear()


class MetaNode:
    """A meta node that can be stopped and started; its files and ports stay.

    Args:
        position: its place in the group.
        raft_addr: its address for the other meta nodes.

    Attributes:
        deaf: whether requests that wait for a newer metastore get no answer, as behind a proxy
            that drops silent requests.
        silent: whether connections break instead of an answer.
        given_index: the index of the newest metastore that this node has sent.
    """

    def __init__(
        self,
        position: int,
        group: MetaGroup,
        state: MetaState,
        raft_addr: str,
        port: int,
        auth: MetaAuth,
        around: Surroundings,
    ) -> None:
        self.position = position
        self.state = state
        self.raft_addr = raft_addr
        self.running = False
        self.deaf = self.silent = False
        self.given_index = 0
        self.leases = LeaseTable()
        self._group = group
        self._auth = auth
        self._around = around
        self._closing = threading.Event()
        self.listener = Listener(port, self._serve)

    @property
    def http_addr(self) -> str:
        return self.listener.address

    @property
    def leads(self) -> bool:
        return self._group.leader == self.position

    def start(self) -> None:
        self._closing.clear()
        self.listener.start()
        self.running = True
        self._group.join(self.position)

    def stop(self) -> None:
        self.running = False
        self._closing.set()
        self.leases.forget()
        self._group.leave(self.position)
        self.listener.stop()

    def _serve(self, line: Line) -> None:
        serve_http(line, self.answer)

    # --- requests ---------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Answer a request; adds the headers of all replies."""
        if self.silent:
            raise ConnectionAbortedError
        if request.method not in ("GET", "POST"):
            return Reply(400, b"\n", TEXT, {"X-Content-Type-Options": "nosniff"})
        serve = self._routes().get((request.method, request.path))
        if serve is None:
            return text_error(404, "404 page not found")
        given = request.headers
        request_id = given.get("X-Request-Id") or given.get("Request-Id") or str(uuid.uuid1())
        common = {
            "Influxdb-Metaindex": str(self.state.metastore.index),
            "Request-Id": request_id,
            "X-Request-Id": request_id,
            "X-Influxdb-Version": VERSION,
        }
        objection = self._auth.objection(request, self.state.metastore)
        reply = error_reply(*objection) if objection else serve(request)
        return replace(reply, headers={**common, **reply.headers})

    def _routes(self) -> dict[tuple[str, str], Callable[[Request], Reply]]:
        return {
            ("GET", "/"): self._snapshot,
            ("GET", "/ping"): self._ping,
            ("GET", "/peers"): self._peers,
            ("GET", "/status"): self._status,
            ("GET", "/show-cluster"): self._show_cluster,
            ("GET", "/show-shards"): self._show_shards,
            ("GET", "/lease"): self._lease,
            ("GET", "/user"): self._users,
            ("GET", "/role"): lambda _: Reply(200, b"{}\n", JSON),
            ("POST", "/execute"): self._execute,
            ("POST", "/user"): self._change_user,
            ("POST", "/copy-shard"): self._copy_shard,
            ("POST", "/remove-shard"): self._remove_shard,
            ("POST", "/truncate-shards"): self._truncate_shards,
        }

    # --- reads ------------------------------------------------------------------------------

    def _snapshot(self, request: Request) -> Reply:
        text = request.values().get("index", "")
        index = int(text) if text.isascii() and text.isdigit() and len(text) < 21 else None
        if self.deaf and index:
            self._closing.wait()
        if not self.state.wait_change(index or 0, self._closing):
            return error_reply(500, "server closed")
        if index is None or index > MAX_UINT64:
            wrong = text_error(400, "error parsing index")
            return replace(wrong, body=wrong.body + self.state.encoded)
        store, encoded = self.state.metastore, self.state.encoded
        self.given_index = max(self.given_index, store.index)
        return Reply(200, encoded, BINARY)

    def _ping(self, request: Request) -> Reply:
        everybody = {node.tcp_addr for node in self.state.metastore.meta_nodes}
        if request.values().get("all") and not everybody <= self._around.alive():
            return error_reply(500, "one or more metaservers not up")
        return Reply(200, self._leader_raft().encode(), TEXT)

    def _peers(self, _: Request) -> Reply:
        return Reply(200, go_json([node.tcp_addr for node in self._meta_nodes()] or None), JSON)

    def _status(self, _: Request) -> Reply:
        peers = tuple(node.tcp_addr for node in self._meta_nodes())
        status = MetaNodeStatus(self._leader_raft(), self.http_addr, self.raft_addr, peers)
        return Reply(200, status.encode(), JSON)

    def _show_cluster(self, _: Request) -> Reply:
        store, alive = self.state.metastore, self._around.alive() | {self.raft_addr}

        def heard(addr: str) -> tuple[str, str]:
            return ("http", VERSION) if addr in alive else ("", "")

        def reply(addr: str) -> tuple[str, str]:
            release = VERSION if self._group.release is None else self._group.release
            return (self._group.http_scheme, release) if addr in alive else ("", "")

        data = tuple(
            DataNodeMember(
                node.id, node.tcp_addr, node.addr, reply(node.tcp_addr)[0], "joined",
                reply(node.tcp_addr)[1],
            )
            for node in store.data_nodes
        )  # fmt: skip
        meta = tuple(
            MetaNodeMember(
                node.id, node.addr, heard(node.tcp_addr)[0], node.tcp_addr,
                heard(node.tcp_addr)[1],
            )
            for node in store.meta_nodes
        )  # fmt: skip
        return Reply(200, ClusterMembers(data, meta).encode(), JSON)

    def _show_shards(self, request: Request) -> Reply:
        verbose = request.values().get("verbose") == "true"
        ask = self._around.listed_shards if verbose else None
        shards = shard_statuses(self.state.metastore, time.time_ns(), ask)
        if shards is None:
            # The original fails for an owner that is not a data node.
            return text_error(500, "Internal Server Error")
        return Reply(200, encode_shards(shards), JSON)

    def _users(self, request: Request) -> Reply:
        name = request.values().get("name", "")
        users = [u for u in self.state.metastore.users if not name or u.name == name]
        if name and not users:
            return error_reply(404, "user not found")
        listed = [{"name": user.name, "hash": user.hash} for user in users]
        return Reply(200, go_json({"users": listed} if listed else {}), JSON)

    # --- requests for the leader ------------------------------------------------------------

    def _lease(self, request: Request) -> Reply:
        values = request.values()
        name, node_id = values.get("name", ""), values.get("nodeid", "")
        if not name:
            return text_error(400, "lease name required")
        if not node_id:
            return text_error(400, "node ID required")
        leader = self._leader_http()
        if leader is None:
            return error_reply(503, "no leader")
        if leader != self.http_addr:
            query = urlencode(sorted(values.items()))
            return redirect(f"http://{leader}/lease?{query}", get=True)
        if not (node_id.isascii() and node_id.isdigit()) or int(node_id) > MAX_UINT64:
            return text_error(400, "invalid node ID")
        held = self.leases.acquire(name, NodeID(int(node_id)))
        return Reply(200 if held.owner == int(node_id) else 409, held.encode(), TEXT)

    def _execute(self, request: Request) -> Reply:
        objection = forms.outer_objection(request.body)
        if objection:
            return error_reply(400, f"unable to unmarshal command: {objection}")
        if not self.leads:
            return self._elsewhere("/execute")
        try:
            response = commands.Response(index=self._group.propose(request.body))
        except NoLeader:
            return error_reply(503, "no leader")
        except CommandRejected as error:
            response = commands.Response(error=error.what)
        return Reply(200, response.encode(), BINARY)

    def _change_user(self, request: Request) -> Reply:
        asked = forms.user_change(request.body, self.state.metastore)
        if isinstance(asked, str):
            return error_reply(400, asked)
        return self._lead("/user", asked, 200)

    def _truncate_shards(self, request: Request) -> Reply:
        delay_ns = forms.delay_ns(request.form().get("delay", ""))
        if isinstance(delay_ns, str):
            return error_reply(400, delay_ns)
        command = commands.TruncateShardGroups(time.time_ns() + delay_ns)
        return self._lead("/truncate-shards", lambda: command, 204)

    def _copy_shard(self, request: Request) -> Reply:
        asked = forms.shard_copy(request.form(), self.state.metastore)
        if isinstance(asked, str):
            return error_reply(400, asked)
        if not self.leads:
            return self._elsewhere("/copy-shard")
        place = asked.place
        err = self._around.copy_shard(
            asked.source, asked.target, place.database, place.policy, place.shard_id
        )
        if err:
            return error_reply(500, err)
        command = commands.CopyShardOwner(place.shard_id, asked.target_id)
        return self._lead("/copy-shard", lambda: command, 204)

    def _remove_shard(self, request: Request) -> Reply:
        asked = forms.shard_removal(request.form(), self.state.metastore)
        if isinstance(asked, str):
            return error_reply(400, asked)
        if not self.leads:
            return self._elsewhere("/remove-shard")
        err = self._around.remove_shard(asked.source, asked.place.shard_id)
        if err:
            return error_reply(500, err)
        command = commands.RemoveShardOwner(asked.place.shard_id, asked.source_id)
        return self._lead("/remove-shard", lambda: command, 204)

    def _lead(
        self, path: str, command: Callable[[], commands.Command | None], status: int
    ) -> Reply:
        if not self.leads:
            return self._elsewhere(path)
        try:
            wanted = command()
            if wanted is not None:
                self._group.execute(wanted)
        except NoLeader:
            return error_reply(503, "no leader")
        except CommandRejected as error:
            return error_reply(500, error.what)
        return Reply(status)

    def _elsewhere(self, path: str) -> Reply:
        leader = self._leader_http()
        if leader is None:
            return error_reply(503, "no leader")
        return redirect(f"http://{leader}{path}", get=False)

    # --- redirects --------------------------------------------------------------------------

    def _meta_nodes(self) -> tuple[NodeInfo, ...]:
        return self.state.metastore.meta_nodes

    def _leader_raft(self) -> str:
        return self._group.leader_raft_addr

    def _leader_http(self) -> str | None:
        """The leader's HTTP address in the metadata; SetData may have removed it."""
        raft_addr = self._group.leader_raft_addr
        for node in self.state.metastore.meta_nodes:
            if raft_addr and node.tcp_addr == raft_addr:
                return node.addr
        return None
