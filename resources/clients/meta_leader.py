"""Finds the leader without `/status` and `/peers`, which can freeze a meta node.

Those two take one read lock twice. A command that is applied in between leaves the node
deadlocked until it is killed. `/lease` takes the lock once: for an invalid node ID the leader
grants no lease and refuses the ID, and the other meta nodes redirect to the leader.

Source: influxdb-cluster services/meta/store.go (peers calls leader), handler.go (serveLease).

Held by tests/resources/clients/test_meta_nodes.py and tests/faults/test_scans.py.
"""

from __future__ import annotations

from resources.clients.address import HostPort
from resources.clients.meta_http import MetaHTTP, Reply
from resources.clients.meta_nodes import MetaNodes
from resources.errors import BadReply, PeerUnreachable

MAX_HOPS = 10
MAX_REPLY_BYTES = 2**16
NO_ID = b"invalid node ID"
WHO_LEADS = {"name": "shardkeeper", "nodeid": "none"}


def leader_from(address: HostPort, http: MetaHTTP, nodes: MetaNodes) -> HostPort:
    """Find the leader, beginning with the node at `address`; the leader must confirm it.

    Raises:
        PeerUnreachable: also if there is no leader, or the nodes name different ones.
        CredentialsRefused, PeerRefused: the request fails.
        BadReply: also if the server is not a meta node.
    """
    first = address
    for _ in range(MAX_HOPS):
        with nodes.noting(address):
            reply = _ask(address, http)
        if reply.status == 400 and reply.body.startswith(NO_ID):
            # Behind a forwarded port only the address that this request used works.
            return address
        if http.checked(address, reply, (307,)).status != 307:
            raise BadReply(
                f"{address}: does not name the leader",
                hint="is this a meta node? Its HTTP port is 8091 by default",
            )
        address = nodes.hop(http.named_leader(address, reply))
    raise PeerUnreachable(
        f"{first}: the meta nodes name different leaders", hint="try again in a moment"
    )


def _ask(address: HostPort, http: MetaHTTP) -> Reply:
    """The reply to `WHO_LEADS`; `/ping` names a leader that is not in the metastore.

    Only raft knows such a leader, by its raft address.
    """
    try:
        return http.get(
            address, "/lease", params=WHO_LEADS, limit=MAX_REPLY_BYTES, accept=(307, 400)
        )
    except PeerUnreachable as error:
        if "no leader" not in error.what:
            raise
        ping = http.get(address, "/ping", limit=MAX_REPLY_BYTES)
        if ping.body.decode("latin-1").rpartition(":")[0].strip("[]") != address.host:
            raise error from None
        return Reply(400, ping.headers, NO_ID)


def going_round(address: HostPort) -> PeerUnreachable:
    """The error for redirects without end."""
    return PeerUnreachable(
        f"{address}: redirected more than {MAX_HOPS} times", hint="try again in a moment"
    )
