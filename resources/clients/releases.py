"""The releases of influxdb-cluster whose calls on port 8088 have the numbers that we use.

Releases c1.0.0 to c1.1.1 use other numbers. There, our number for listing shards (37) removes
hinted hand-off, and our number for removing a shard (35) makes the node leave the cluster and
delete all of its data. So no call goes to an unknown release.

Source: influxdb-cluster coordinator/service.go at v1.8.10-c1.1.1, v1.8.10-c1.1.2 and
v1.8.11-c1.2.0: the numbers of the last two are the same.
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
"""Names a release to treat as known; for users who have compared the numbers."""

AGAIN_S = 10.0
FIRST, BEYOND = (1, 1, 2), (1, 3, 0)
_RELEASE = re.compile(r".*-c([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})(?:[^0-9.].*)?", re.DOTALL)


class ReleaseGate:
    """Checks that every data node of a cluster reports a known release.

    While some nodes report none, the check is repeated every few seconds. Threads may share the
    gate; all of them wait for the first result.

    Args:
        meta: lists the members.
        http: opens a data node's HTTP API, which reports the release before gossip spreads it.
    """

    def __init__(self, meta: MetaClient, http: Callable[[str], InfluxHTTP] | None) -> None:
        self._meta = meta
        self._http = http
        self._mutex = threading.Lock()
        self._open_until = 0.0

    def check(self) -> None:
        """Check the members' releases.

        Raises:
            UnsupportedPeer: a node reports an unknown release.
            WireError: the meta nodes do not list the members.
        """
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
            return []  # the meta node has just served the metastore that lists the nodes
        if self._http is None or any(node.version for node in members):
            return [(node.tcp_addr, node.version) for node in members]
        return [(node.tcp_addr, _version_at(self._http(node.http_addr))) for node in members]


def _version_at(http: InfluxHTTP) -> str:
    """The version that a node reports over HTTP; empty: none."""
    try:
        return http.ping().version
    except WireError:
        return ""


def check_releases(versions: Iterable[tuple[str, str]]) -> None:
    """Refuse a cluster if one of its data nodes reports an unknown release.

    Args:
        versions: address and version of each node; an empty version is accepted, since gossip
            brings it later than the node itself.

    Raises:
        UnsupportedPeer: a node reports an unknown release.
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
    """Whether the numbers of this release, such as `1.8.11-c1.2.0`, are known."""
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
        "use a newer Shardkeeper, or influxd-ctl of its own release; if coordinator/service.go of "
        f"that release has these numbers, set {VARIABLE}={version if version.isascii() else '...'}"
    )
