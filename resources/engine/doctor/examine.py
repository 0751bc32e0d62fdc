"""Can this server or cluster be backed up from here, and into that directory? Asked, not tried.

Everything is a question that the server answers from what it knows: nothing is written there, no
cache is written out, and no call is one that a running backup would not make. In the directory a
small file is made and deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from resources.clients.address import HostPort, split_host_port
from resources.clients.connect import (
    HTTP_PORT,
    NO_HTTP,
    TCP_PORT,
    Address,
    open_http,
    open_source,
)
from resources.clients.server import Server
from resources.engine.doctor.cluster import examine_cluster
from resources.engine.doctor.finding import Finding, Findings
from resources.engine.doctor.repository import examine_repository
from resources.engine.doctor.server import examine_http, examine_server
from resources.engine.doctor.tls import examine_certificates
from resources.errors import ShardkeeperError
from resources.model import Metastore


def examine(
    at: Address,
    directory: str = "",
    *,
    emit: Callable[[Finding], None] = lambda _: None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> list[Finding]:
    """Ask everything; errors are answers.

    Args:
        directory: of backups; empty: it is not looked at.
        emit: called with each answer as it comes.
        clock_ns: our own clock.
    """
    found = Findings(emit)
    metastore = _source(at, found, clock_ns)
    if directory:
        examine_repository(directory, metastore, found)
    return found.all


def _source(at: Address, found: Findings, clock_ns: Callable[[], int]) -> Metastore | None:
    try:
        source = open_source(at)
    except ShardkeeperError as error:
        found.failed("connection", str(error), error.hint)
        _other_endpoint(at, found)
        return None
    if isinstance(source, Server):
        encrypted = " through TLS" if at.data_tls else ""
        found.ok("connection", f"{source.named} answers{encrypted} as a single server")
        metastore = examine_server(source, found, clock_ns)
    else:
        metastore = examine_cluster(source, at, found, clock_ns)
    examine_certificates(source, at, metastore, found, clock_ns)
    return metastore


def _other_endpoint(at: Address, found: Findings) -> None:
    """Port 8088 does not let us in: what does HTTP say?"""
    if not at.host or at.http == NO_HTTP:
        return
    with found.asking("HTTP", status="warning"):
        host = split_host_port(at.host, TCP_PORT).host
        examine_http(open_http(at, at.http or str(HostPort(host, HTTP_PORT))), found)
