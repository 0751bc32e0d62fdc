"""Examine how long certificates are valid."""

from __future__ import annotations

from collections.abc import Callable

from resources.clients.address import HostPort, split_host_port
from resources.clients.cluster import Cluster
from resources.clients.connect import META_PORT, TCP_PORT
from resources.clients.http_address import http_target
from resources.clients.server import Server
from resources.clients.source_address import Address
from resources.clients.tls_probe import probe_tls
from resources.engine.doctor.finding import Findings
from resources.errors import ShardkeeperError, counted
from resources.model import Metastore
from resources.protocol.x509 import not_after

SOON_DAYS = 21


def examine_certificates(
    source: Server | Cluster,
    at: Address,
    metastore: Metastore | None,
    found: Findings,
    clock_ns: Callable[[], int],
) -> None:
    """Report the days that are left of each certificate, where TLS is used."""
    for address in _encrypted(source, at, metastore):
        handshake = probe_tls(address, timeout_s=at.timeout_s, route=at.route)
        if handshake is None or not handshake.certificate:
            continue
        question = f"certificate of {at.route.named(address)}"
        with found.asking(question, status="warning"):
            ends = not_after(handshake.certificate)
            days = (ends.timestamp() - clock_ns() / 1e9) / 86_400
            text = f"good until {ends:%Y-%m-%d}, for {counted(round(days), 'day')}"
            if days < 0:
                found.warning(question, f"ended on {ends:%Y-%m-%d}", "renew it")
            elif days < SOON_DAYS:
                found.warning(question, text, "renew it before backups fail")
            else:
                found.ok(question, text)


def _encrypted(
    source: Server | Cluster, at: Address, metastore: Metastore | None
) -> list[HostPort]:
    """The addresses with TLS, each once."""
    addresses: dict[HostPort, None] = {}
    try:
        if isinstance(source, Server):
            if at.data_tls:
                addresses[split_host_port(source.address, TCP_PORT)] = None
            if source.http is not None and source.http.scheme == "https":
                addresses[split_host_port(source.http.http_addr, TCP_PORT)] = None
            return list(addresses)
        if source.meta.tls:
            addresses[split_host_port(source.meta.bind, META_PORT)] = None
        for node in metastore.data_nodes if metastore else ():
            if at.data_tls:
                addresses[split_host_port(node.tcp_addr, TCP_PORT)] = None
            if source.http is not None:
                http = source.http(node.addr)
                if http.scheme == "https":
                    addresses[http_target(http.base_url).address] = None
    except ShardkeeperError:
        pass  # the other checks report a server that does not answer
    return list(addresses)
