"""Examine a cluster: its meta nodes, and every data node at each of its addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from resources.clients.address import split_host_port
from resources.clients.cluster import TLS_THERE, Cluster
from resources.clients.connect import META_PORT, TCP_PORT, open_cluster
from resources.clients.meta import MetaClient
from resources.clients.source_address import Address
from resources.engine.doctor.finding import Findings
from resources.engine.doctor.server import (
    examine_clock,
    examine_http,
    examine_names,
)
from resources.errors import UnsupportedPeer, WireError, counted, named_few
from resources.model import Metastore, NodeInfo, ShardID
from resources.protocol.meta_api import ClusterMembers


def examine_cluster(
    cluster: Cluster, at: Address, found: Findings, clock_ns: Callable[[], int]
) -> Metastore | None:
    """Query all nodes; returns the metastore, if it can be read."""
    metastore: Metastore | None = None
    with found.asking("metastore"):
        _, metastore = cluster.metastore()
    if metastore is None:
        return None
    found.ok("connection", f"{cluster.address} answers as a meta node, and its leader is reached")
    found.ok(
        "metastore",
        f"{counted(len(metastore.databases), 'database')}, "
        f"{counted(sum(1 for _ in metastore.places()), 'shard')}, "
        f"{counted(len(metastore.data_nodes), 'data node')}",
    )
    _examine_meta_nodes(cluster.meta, at, found)
    try:
        cluster.check_release()
    except UnsupportedPeer as error:
        found.failed("release", str(error), error.hint)
        return metastore
    except WireError as error:
        found.failed("release", str(error), error.hint)
    listed = _examine_data_nodes(cluster, at, metastore, found, clock_ns)
    _examine_copies(metastore, listed, found)
    examine_names(metastore, found)
    return metastore


def _examine_meta_nodes(meta: MetaClient, at: Address, found: Findings) -> None:
    members: ClusterMembers | None = None
    with found.asking("meta nodes"):
        members = meta.members()
    for node in members.meta if members else ():
        question = f"meta node {node.addr}"
        with found.asking(question, status="warning"):
            here = split_host_port(node.addr, META_PORT)
            one = open_cluster(replace(at, tls=at.tls or node.http_scheme == "https"), str(here))
            one.meta.members()
            found.ok(question, f"answers at {at.route.named(here)}, {node.version or 'no version'}")


def _examine_data_nodes(
    cluster: Cluster,
    at: Address,
    metastore: Metastore,
    found: Findings,
    clock_ns: Callable[[], int],
) -> Mapping[NodeInfo, frozenset[ShardID]]:
    listed: dict[NodeInfo, frozenset[ShardID]] = {}
    for node in metastore.data_nodes:
        question = f"data node {node.tcp_addr}"
        try:
            shards = cluster.coordinator(node.tcp_addr).list_shards()
        except WireError as error:
            hint = error.hint
            if not at.data_tls and "unknown host" not in error.what and error.__cause__ is None:
                hint = "; ".join(filter(None, [hint, TLS_THERE]))
            found.failed(question, str(error), hint)
        else:
            listed[node] = frozenset(shards)
            reached = at.route.named(split_host_port(node.tcp_addr, TCP_PORT))
            found.ok(
                question, f"answers at {reached}, with {counted(len(shards), 'shard')} on its disk"
            )
        if cluster.http is not None:
            http = cluster.http(node.addr)
            if examine_http(http, found, named=f"HTTP of {node.tcp_addr}"):
                clock = http.clock_ns()
                if clock is not None:
                    examine_clock(node.tcp_addr, clock - clock_ns(), found)
    return listed


def _examine_copies(
    metastore: Metastore, listed: Mapping[NodeInfo, frozenset[ShardID]], found: Findings
) -> None:
    """Compare the owners in the metastore with the shards that the nodes list."""
    on_disk = {node.id: shards for node, shards in listed.items()}
    known = {place.shard_id for place in metastore.places()}
    for node, shards in listed.items():
        orphans = sorted(shards - known)
        if orphans:
            found.warning(
                "orphans",
                f"{counted(len(orphans), 'shard')} on {node.tcp_addr} "
                f"{'is' if len(orphans) == 1 else 'are'} not in the metastore: "
                + named_few(map(str, orphans)),
                "nothing reads them, and they are not backed up; shardkeeper show-shards -m lists "
                "inconsistent shards",
            )
    missing: list[str] = []
    nowhere: list[str] = []
    for place in metastore.places():
        owners = [owner.node_id for owner in place.shard.owners]
        asked = [owner for owner in owners if owner in on_disk]
        have = [owner for owner in asked if place.shard_id in on_disk[owner]]
        if have and len(have) < len(asked):
            missing.append(str(place.shard_id))
        elif not owners and any(place.shard_id in shards for shards in on_disk.values()):
            nowhere.append(str(place.shard_id))
    if missing:
        found.warning(
            "copies",
            f"{counted(len(missing), 'shard is', 'shards are')} missing on one of their owners: "
            f"{named_few(missing)}",
            "backups read another owner; influxd-ctl copy-shard brings the copy back",
        )
    if nowhere:
        found.warning(
            "owners",
            f"{counted(len(nowhere), 'shard')} on disk without an owner: {named_few(nowhere)}",
            "queries do not see them; were they restored by influxd restore?",
        )
    if listed and not missing and not nowhere:
        found.ok("copies", "every owner that answers has its shards")
