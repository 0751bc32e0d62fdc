"""Which meta node leads: asked without `/status` and `/peers`, which can freeze a meta node.

Those two take one read lock twice, and a command that is applied in between leaves the node
deadlocked until somebody kills it. `/lease` takes it once: with a node ID that is none it gives
nothing away, the leader says that this is no ID, and the others name the leader.

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
    """Who leads, as the node at `address` knows; whoever is named is asked, too.

    Raises:
        PeerUnreachable: also when none leads, or they do not agree.
        CredentialsRefused, PeerRefused
        BadReply: also when it is no meta node.
    """
    first = address
    for _ in range(MAX_HOPS):
        with nodes.noting(address):
            reply = _ask(address, http)
        if reply.status == 400 and reply.body.startswith(NO_ID):
            # By the address that we came by: behind a forwarded port only that works.
            return address
        if http.checked(address, reply, (307,)).status != 307:
            raise BadReply(
                f"{address}: does not say who leads",
                hint="is this a meta node? Its HTTP port is 8091 by default",
            )
        address = nodes.hop(http.named_leader(address, reply))
    raise PeerUnreachable(
        f"{first}: the meta nodes do not agree who leads", hint="try again in a moment"
    )


def _ask(address: HostPort, http: MetaHTTP) -> Reply:
    """The answer to `WHO_LEADS`; a leader that the metastore does not name finds itself.

    Only raft knows such a leader, which `/ping` names by its raft address.
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
