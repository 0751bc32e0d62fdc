"""Reads the leader's metastore, and rejects one that is older than another meta node's copy.

A leader that was suspended still acts as leader for a moment after it resumes, and returns its old
copy. A caching proxy may do so for hours.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from resources.clients.address import HostPort
from resources.clients.meta import MetaClient
from resources.clients.meta_nodes import meta_addresses
from resources.errors import BadReply, WireError
from resources.model import Metastore

ATTEMPTS = 5
PAUSE_S = 0.2
TIMEOUT_S = 2.0


class Newest:
    """Reads one cluster's metastore; meta nodes that do not answer are not asked again soon."""

    def __init__(self, meta: MetaClient) -> None:
        self._meta = meta

    def metastore(self) -> tuple[bytes, Metastore]:
        """Read the leader's metastore, and compare its index with the other meta nodes' ones.

        Raises:
            BadReply: the leader's metastore stays older than another node's copy.
            WireError: the leader does not answer.
        """
        raw, now = self._meta.metastore()
        node, known = self._known_elsewhere(now)
        for _ in range(ATTEMPTS):
            if now.index >= known:
                return raw, now
            raw, now = self._meta.metastore()
            if now.index < known:
                time.sleep(PAUSE_S)
        if now.index >= known or not self._is_of(node, now.cluster_id):
            return raw, now
        raise BadReply(
            f"{self._meta.bind}: sent a metastore of index {now.index}, and meta node {node} is "
            f"at {known}: the metastore is stale, and later changes are not in it",
            hint=f"is a proxy in between, or was a meta node suspended? Try -bind {node}",
        )

    def _known_elsewhere(self, now: Metastore) -> tuple[HostPort, int]:
        """The meta node with the highest index, and that index."""
        nodes = [a for a in meta_addresses(now.meta_nodes) if not self._meta.is_away(a)]
        best = (HostPort("", 0), 0)
        if not nodes:
            return best
        with ThreadPoolExecutor(len(nodes)) as pool:
            for node, index in zip(nodes, pool.map(self._index_of, nodes), strict=True):
                best = max(best, (node, index), key=lambda known: known[1])
        return best

    def _index_of(self, node: HostPort) -> int:
        try:
            return self._meta.index_of(node, timeout_s=TIMEOUT_S)
        except WireError:
            return 0

    def _is_of(self, node: HostPort, cluster_id: int) -> bool:
        """Whether the node at an address belongs to this cluster; a network may reuse addresses."""
        try:
            return self._meta.metastore_of(node, timeout_s=TIMEOUT_S)[1].cluster_id == cluster_id
        except WireError:
            return False
