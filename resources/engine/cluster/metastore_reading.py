"""Looks at a cluster's metastore on which something may be changed or dropped.

A reply has no checksum, a leader that stood still answers with what it knew, and a proxy may
keep old answers. So a look counts once the leader gave it twice, no meta node that can be
reached knows a newer one or another one of the same index, and its index is not below one that
a command of ours has reached already.

Held by tests/wire/cluster_restore/test_readings.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeAlias

from msgspec import Struct

from resources.clients.address import HostPort
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.clients.meta_nodes import meta_addresses
from resources.errors import BadReply, WireError
from resources.model import Metastore
from resources.protocol.comparing import comparable
from resources.values import repr_without

ATTEMPTS = 20
PAUSE_S = 0.1
OTHERS_TIMEOUT_S = 3.0


class MetastoreReading(Struct, frozen=True, dict=True):
    """A metastore as bytes and decoded, and who gave it."""

    node: HostPort
    raw: bytes
    metastore: Metastore

    __repr__ = repr_without("raw", "metastore")

    @property
    def index(self) -> int:
        return self.metastore.index

    @cached_property
    def content(self) -> bytes:
        """Equal for equal metastores, term and index included."""
        return comparable(self.raw)

    @cached_property
    def agreed(self) -> bytes:
        """Equal on all meta nodes that are at the same index."""
        return comparable(self.raw, own_clocks=True)

    @cached_property
    def timeless(self) -> bytes:
        """Equal for metastores that differ in term and index only."""
        return comparable(self.raw, timeless=True)


def read_metastore(cluster: Cluster) -> MetastoreReading:
    """Ask the leader once; enough to see whether something changed.

    Raises:
        WireError: a node does not answer, or refuses.
    """
    return MetastoreReading(*cluster.meta.led())


About: TypeAlias = Callable[[Metastore], object]
"""The part of a metastore that matters; others may go on changing the rest."""


def nodes_of(metastore: Metastore) -> object:
    """The data nodes, and which cluster it is."""
    return metastore.cluster_id, metastore.data_nodes


def databases_of(names: Iterable[str]) -> About:
    """Databases, the rights on them, and the data nodes."""
    wanted = frozenset(names)

    def about(metastore: Metastore) -> object:
        return (
            nodes_of(metastore),
            [database for database in metastore.databases if database.name in wanted],
            [
                (user.name, grant.database, grant.privilege)
                for user in metastore.users
                for grant in user.privileges
                if grant.database in wanted
            ],
        )

    return about


def confirmed_reading(
    cluster: Cluster,
    *,
    about: About | None = None,
    at_least: int = 0,
    stop: threading.Event | None = None,
) -> MetastoreReading:
    """Look until what is seen can be relied on.

    Args:
        about: the part that has to be proven; None is all, and then no client may change anything
            for some milliseconds.
        at_least: the index that a command of ours has reached.

    Raises:
        BadReply: looks contradict each other, or show what was before that command.
        WireError: the leader does not answer.
    """
    stop = stop or threading.Event()
    why = ""
    for _ in range(ATTEMPTS):
        try:
            before, now = read_metastore(cluster), read_metastore(cluster)
        except BadReply as error:
            why = error.what
        else:
            why = _doubt(cluster.meta, before, now, about, at_least)
            if not why:
                return now
        if stop.wait(PAUSE_S):
            break
    raise BadReply(
        why,
        hint="nothing was changed; if no client changes databases now, a proxy answers for the "
        "meta node, or the meta node paused: name another one with -bind, then run the same "
        "command again",
    )


def _doubt(
    meta: MetaClient,
    before: MetastoreReading,
    now: MetastoreReading,
    about: About | None,
    at_least: int,
) -> str:
    """Why two looks do not count; empty if they do."""
    if now.index < at_least:
        return (
            f"{now.node}: its metastore is of index {now.index}, and a command of ours has "
            f"reached {at_least} already"
        )
    if now.index >= before.index and _same(now, before, about):
        return _contradiction(meta, now, about)
    if now.index <= before.index:
        return f"{now.node}: gave two different metastores of index {now.index}"
    return f"{now.node}: clients change the metastore all the time"


def _same(one: MetastoreReading, other: MetastoreReading, about: About | None) -> bool:
    if about is None:
        return one.content == other.content
    return about(one.metastore) == about(other.metastore)


def _contradiction(meta: MetaClient, seen: MetastoreReading, about: About | None) -> str:
    """What another meta node knows better; empty if none does.

    Those that are away, or too slow to send a metastore, do not count.

    The leader is asked once more by the address that the others know it by: what stands between
    us and the address that we came by does not stand there.
    """
    known = meta_addresses(seen.metastore.meta_nodes)
    addresses = [a for a in known if not meta.is_away(a) and not meta.is_slow(a)]
    if not addresses:
        return ""

    def ask(address: HostPort) -> str:
        try:
            its = MetastoreReading(address, *meta.metastore_of(address, timeout_s=OTHERS_TIMEOUT_S))
            if its.index < seen.index:
                after = seen.index - 1
                its = MetastoreReading(
                    address, *meta.metastore_of(address, after=after, timeout_s=OTHERS_TIMEOUT_S)
                )
        except WireError:
            return ""
        if its.index == seen.index and its.agreed != seen.agreed:
            return f"{address}: has another metastore of index {its.index} than {seen.node} gave"
        if (
            its.index > seen.index
            and its.metastore.cluster_id == seen.metastore.cluster_id
            and not (about and _same(its, seen, about))
        ):
            return (
                f"{seen.node}: its metastore is of index {seen.index}, and {address} knows one of "
                f"{its.index}"
            )
        return ""

    with ThreadPoolExecutor(len(addresses)) as pool:
        return next((why for why in pool.map(ask, addresses) if why), "")
