"""Finds out whether a port speaks TLS, and its certificate, by a handshake without data."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from msgspec import Struct

from resources.clients.address import NO_MAP, AddressMap, HostPort

_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "UNEXPECTED_EOF",
    "HTTP_REQUEST",
    "RECORD_LAYER",
    "UNKNOWN_PROT",
)


class TLSFound(Struct, frozen=True):
    """The result of a handshake; `certificate` is DER, empty if the server broke off early."""

    certificate: bytes = b""


def probe_tls(
    address: HostPort, *, timeout_s: float = 10.0, route: AddressMap = NO_MAP
) -> TLSFound | None:
    """Perform a handshake with any certificate; None: no server there, or no TLS.

    The result is not trusted: a connection that carries data verifies the certificate itself.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = address.host.partition("%")[0]
    try:
        with (
            socket.create_connection(route.reach(address), timeout=min(10.0, timeout_s)) as plain,
            context.wrap_socket(plain, server_hostname=name) as sock,
        ):
            found = TLSFound(sock.getpeercert(binary_form=True) or b"")
            with suppress(OSError, ValueError):
                sock.unwrap()
            return found
    except ssl.SSLError as error:
        reason = str(error.reason or "")
        return None if not reason or any(mark in reason for mark in _NOT_TLS) else TLSFound()
    except OSError:
        return None
