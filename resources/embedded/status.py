"""What nodes answer to /status: a meta node on 8091, a data node on 8088."""

from __future__ import annotations

from msgspec import Struct

from resources.protocol.snapshotter import go_json


class MetaNodeStatus(Struct, frozen=True):
    """A meta node's own status; before the node has joined, it has no leader and no peers."""

    leader: str
    """The leader's raft address; empty if none is known."""
    http_addr: str
    raft_addr: str
    peers: tuple[str, ...]

    def encode(self) -> bytes:
        return go_json(
            {
                "nodeType": "meta",
                "leader": self.leader,
                "httpAddr": self.http_addr,
                "raftAddr": self.raft_addr,
                "peers": list(self.peers) or None,
            }
        )


class DataNodeStatus(Struct, frozen=True):
    """A data node's own status, by HTTP on 8088; `meta_addrs` is empty before it has joined."""

    hostname: str
    tcp_bind: str
    tcp_addr: str
    http_addr: str
    node_status: str
    meta_addrs: tuple[str, ...]

    def encode(self) -> bytes:
        return go_json(
            {
                "nodeType": "data",
                "hostname": self.hostname,
                "tcpBind": self.tcp_bind,
                "tcpAddr": self.tcp_addr,
                "httpAddr": self.http_addr,
                "nodeStatus": self.node_status,
                "metaAddrs": list(self.meta_addrs) or None,
            }
        )
