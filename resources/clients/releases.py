"""Which releases of influxdb-cluster number their calls on port 8088 as we do.

A data node does what a number says. In c1.0.0 to c1.1.1 the numbers are others: what lists
shards today (37) removes hinted hand-off there, and what removes a shard (35) makes the node
leave the cluster and delete all of its data. So a release that is not known is not called.

Source: influxdb-cluster coordinator/service.go at v1.8.10-c1.1.1, v1.8.10-c1.1.2 and
v1.8.11-c1.2.0: of these two the numbers are the same.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable

from resources.clients.http import InfluxHTTP
from resources.clients.meta import MetaClient
from resources.errors import PeerUnreachable, UnsupportedPeer, WireError, shown

VARIABLE = "SHARDKEEPER_ACCEPT_RELEASE"
"""Names a release to treat as one that is known, by somebody who has looked."""

AGAIN_S = 10.0
FIRST, BEYOND = (1, 1, 2), (1, 3, 0)
_RELEASE = re.compile(r".*-c([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})(?:[^0-9.].*)?", re.DOTALL)


class ReleaseGate:
    """Opens once every data node of a cluster has said that it is of a known release.

    While some say nothing, those that do are asked again every few seconds. Several threads may
    stand before it; none passes before the answer.

    Args:
        meta: knows the members.
        http: opens a data node's HTTP API, which says the release if gossip has not arrived yet.
    """

    def __init__(self, meta: MetaClient, http: Callable[[str], InfluxHTTP] | None) -> None:
        self._meta = meta
        self._http = http
        self._mutex = threading.Lock()
        self._open_until = 0.0

    def check(self) -> None:
        """Raises: UnsupportedPeer, WireError."""
        with self._mutex:
            if time.monotonic() < self._open_until:
                return
            reply = self._described()
            check_releases(reply)
            everybody = bool(reply) and all(version for _, version in reply)
            self._open_until = float("inf") if everybody else time.monotonic() + AGAIN_S

    def _described(self) -> list[tuple[str, str]]:
        try:
            members = self._meta.members().data
        except PeerUnreachable:
            return []  # it was there a moment ago, for the metastore that names the nodes
        if self._http is None or any(node.version for node in members):
            return [(node.tcp_addr, node.version) for node in members]
        return [(node.tcp_addr, _version_at(self._http(node.http_addr))) for node in members]


def _version_at(http: InfluxHTTP) -> str:
    """What a node says itself; empty: nothing."""
    try:
        return http.ping().version
    except WireError:
        return ""


def check_releases(versions: Iterable[tuple[str, str]]) -> None:
    """Refuse a cluster if one of its data nodes says that it is of a release that is not known.

    Args:
        versions: address and version of each node; a node that does not say is passed over,
            since that comes by gossip, later than the node itself.

    Raises:
        UnsupportedPeer
    """
    accepted = os.environ.get(VARIABLE, "")
    for address, version in versions:
        if not version or version == accepted or is_known(version):
            continue
        raise UnsupportedPeer(
            f"data node {address} is of release {shown(version)}, whose calls on port 8088 are not "
            "known to be those of c1.1.2 to c1.2; nothing was sent to it",
            hint=_hint(version),
        )


def is_known(version: str) -> bool:
    """Whether `1.8.11-c1.2.0` is of a release whose numbers are known."""
    number = _number(version)
    return number is not None and FIRST <= number < BEYOND


def _number(version: str) -> tuple[int, ...] | None:
    found = _RELEASE.fullmatch(version)
    return tuple(int(part) for part in found.groups()) if found else None


def _hint(version: str) -> str:
    number = _number(version)
    if number is not None and number < FIRST:
        return (
            "in releases before c1.1.2 the same numbers mean other calls, one of which deletes a "
            "node's data: upgrade the cluster to c1.1.2 or later; until then, influxd-ctl of its "
            "own release backs it up"
        )
    return (
        "use a newer Shardkeeper, or influxd-ctl of its own release; who has compared the numbers "
        f"in coordinator/service.go may set {VARIABLE}={version if version.isascii() else '...'}"
    )
