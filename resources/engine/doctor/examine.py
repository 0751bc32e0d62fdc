"""Can this server or cluster be backed up from here, into that directory? A backup is not run.

The doctor only reads what the server knows: it writes nothing there, makes no cache be written
out, and uses no request that a running backup would not use. In the directory it creates and
deletes a small file.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from resources.clients.address import HostPort, split_host_port
from resources.clients.connect import HTTP_PORT, NO_HTTP, TCP_PORT, open_http, open_source
from resources.clients.server import Server
from resources.clients.source_address import Address
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
    """Run all checks; errors become findings.

    Args:
        directory: of backups; empty: not examined.
        emit: called with each finding as it comes.
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
    """Port 8088 does not answer: examine HTTP."""
    if not at.host or at.http == NO_HTTP:
        return
    with found.asking("HTTP", status="warning"):
        host = split_host_port(at.host, TCP_PORT).host
        examine_http(open_http(at, at.http or str(HostPort(host, HTTP_PORT))), found)
