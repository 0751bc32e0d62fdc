"""One TCP connection with time-outs, and errors that name the peer.

No socket exception leaves this file: each becomes a `PeerUnreachable` that names the peer, the
operation and the reason.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeAlias, TypeVar

from msgspec import Struct

from resources.clients.address import Endpoint
from resources.clients.source_address import MIN_BYTES_PER_S
from resources.clients.tls import NOT_TRUSTED
from resources.errors import (
    BadReply,
    ConnectionCut,
    PeerSilent,
    PeerTooSlow,
    PeerUnreachable,
    ShardkeeperError,
    WireError,
)
from resources.protocol.snapshotter import what_answered_instead
from resources.protocol.stream import Parsing, StreamReader

T = TypeVar("T")

Bytes: TypeAlias = bytes | bytearray | memoryview
Buffer: TypeAlias = bytearray | memoryview

CONNECT_TIMEOUT_S = 10.0
CHUNK_BYTES = 256 * 1024

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST

_RESET = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN)


class Reaching:
    """Turn socket exceptions into `PeerUnreachable`, and add the address to our own errors."""

    __slots__ = ("_address", "_phase")

    def __init__(self, address: str, phase: str) -> None:
        self._address = address
        self._phase = phase

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._explain(error)

    def _explain(self, error: BaseException) -> None:
        address, phase = self._address, self._phase
        if isinstance(error, TimeoutError):
            raise PeerSilent(
                f"{address}: no answer while {phase}",
                hint="is the server overloaded or a firewall silent?",
            ) from None
        if isinstance(error, socket.gaierror):
            raise PeerUnreachable(f"{address}: unknown host", hint=UNKNOWN_HOST) from None
        if isinstance(error, ssl.SSLError):
            cut = isinstance(error, ssl.SSLEOFError)
            raise (ConnectionCut if cut else PeerUnreachable)(
                f"{address}: TLS failed while {phase}: {error.reason or 'it ended early'}",
                hint=why_tls_failed(error),
            ) from None
        if isinstance(error, OSError):
            reply = (error.strerror or "failed").lower()
            cut = error.errno in _RESET
            raise (ConnectionCut if cut else PeerUnreachable)(
                f"{address}: {reply} while {phase}", hint=_hint(error)
            ) from error
        if isinstance(error, ShardkeeperError) and not error.what.startswith(f"{address}: "):
            raise type(error)(f"{address}: {error.what} while {phase}", hint=error.hint) from None


UNKNOWN_HOST = (
    "check the name; if a cluster advertises it and only its own network knows it, "
    "-map name:port=host:port gives a reachable address, as a line in /etc/hosts does"
)


def why_tls_failed(error: ssl.SSLError) -> str:
    """The next step after an error of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reply = str(getattr(error, "verify_message", None) or "")[:200]
        return f"the certificate is not valid: {reply}; {NOT_TRUSTED}"
    # Only errors of OpenSSL have these two; those that a library makes by itself do not.
    reason = str(getattr(error, "reason", None) or "")
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason:
        return "the server requires a client certificate: -cert and -key name it"
    return (
        "does the server speak TLS there, with a certificate for this name that is trusted? "
        f"{NOT_TRUSTED}"
    )


def _hint(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "nothing listens there: is the server up, and its bind-address reachable from here?"
    if error.errno in _RESET:
        return "the server closed the connection early; its log says why"
    return ""


class StallLimit(Struct, frozen=True):
    """How slow a peer may be.

    Attributes:
        idle_s: how long it may transfer nothing.
        min_bytes_per_s: its minimum average over `idle_s` of waiting; 0: none. Our own work in
            between does not count, nor does the time until the peer begins an answer.
    """

    idle_s: float
    min_bytes_per_s: int = MIN_BYTES_PER_S


class Meter:
    """Measures one direction of a connection against its minimum rate."""

    def __init__(self, stall_limit: StallLimit) -> None:
        self._stall_limit = stall_limit
        self._waited_s = 0.0
        self._n_bytes = 0

    def add(self, waited_s: float, n_bytes: int) -> None:
        """Count transferred bytes and the time waited for them.

        Raises:
            PeerTooSlow: the average is below the minimum; the caller adds the address.
        """
        self._waited_s += waited_s
        self._n_bytes += n_bytes
        if self._waited_s < self._stall_limit.idle_s:
            return
        rate = self._n_bytes / self._waited_s
        if n_bytes and rate < self._stall_limit.min_bytes_per_s:
            raise PeerTooSlow(
                f"only {rate:.0f} bytes a second, less than {self._stall_limit.min_bytes_per_s},",
                hint="check the network and the server's load; -min-rate lowers the minimum",
            )
        self._waited_s, self._n_bytes = 0.0, 0


class Connection:
    """A connected socket; use it in a `with` block, which closes it.

    Leaving the block by an exception, or before a call of `finished`, resets the connection:
    a peer that reads our stream must not take its abrupt end for a proper one.

    Args:
        peer: where it is reached; its certificate must name `peer.host`.
        stall_limit: how slow the peer may be.
        tls: how to encrypt; None: plain.
        service: the expected service, for errors.
    """

    def __init__(
        self,
        peer: Endpoint,
        stall_limit: StallLimit,
        *,
        tls: ssl.SSLContext | None = None,
        service: str = "snapshotter",
    ) -> None:
        self.address = peer.name
        """The peer's address, as errors show it."""
        self._stall_limit = stall_limit
        self._service = service
        self._phase = "connecting"
        self._coming, self._going = Meter(stall_limit), Meter(stall_limit)
        self._answering = False
        self._finished = False
        self._aborted: PeerUnreachable | None = None
        self._waits_since: float | None = None
        self._patient = False
        with Reaching(self.address, "connecting"):
            self._sock = socket.create_connection(
                peer.reached, timeout=min(CONNECT_TIMEOUT_S, stall_limit.idle_s)
            )
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._sock = _encrypted(self._sock, tls, peer.host)
            self._sock.settimeout(stall_limit.idle_s)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._finished:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        except OSError:
            pass  # the peer closed first
        self._sock.close()

    def abort(self, why: PeerUnreachable | None = None) -> None:
        """Break off from another thread; a thread that waits for the peer raises `why` at once."""
        self._aborted = why or PeerUnreachable("broken off")
        with suppress(OSError):  # the socket may be closed already
            # SSLSocket's own shutdown would go on unencrypted.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def waits_s(self) -> float:
        """Seconds since the last transfer; 0 while the peer has a longer time-out."""
        since = self._waits_since
        return 0.0 if since is None or self._patient else time.monotonic() - since

    def finished(self) -> None:
        """Note that the exchange is complete, so that closing does not reset the connection."""
        self._finished = True

    def phase(self, phase: str, *, answer_s: float | None = None) -> None:
        """Name the operation, for errors, and set how long the answer may take to begin."""
        self._phase = phase
        self._answering = False
        self._patient = answer_s is not None
        if answer_s is not None:
            self._sock.settimeout(answer_s)

    def sendall(self, data: Bytes) -> None:
        """Send everything, in as few segments as the network allows."""
        with Reaching(self.address, self._phase):
            view = memoryview(data).cast("B")
            while view:
                # socket.sendall applies its time-out to the whole of a big buffer.
                before = self._waits_since = time.monotonic()
                n_bytes = self._sock.send(view)
                self._waits_since = None
                view = view[n_bytes:]
                self._going.add(time.monotonic() - before, n_bytes)

    def recv_into(self, buffer: Buffer) -> int:
        """Read what has arrived into `buffer`; returns 0 at the end of the stream."""
        with Reaching(self.address, self._phase):
            before = self._waits_since = time.monotonic()
            n_bytes = self._receive(memoryview(buffer).cast("B"))
            self._waits_since = None
            if self._answering:
                self._coming.add(time.monotonic() - before, n_bytes)
            else:
                self._answering, self._patient = True, False
                self._sock.settimeout(self._stall_limit.idle_s)
            if n_bytes == 0 and self._aborted:
                raise self._aborted  # `abort` ended the stream, not the peer
            return n_bytes

    def receive(self, parse: Callable[[StreamReader], Parsing[T]]) -> T:
        """Run a parser over the incoming bytes until it returns its value."""
        reader = StreamReader()
        parsing = parse(reader)
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        while True:
            with Reaching(self.address, self._phase):
                try:
                    next(parsing)
                except StopIteration as done:
                    return done.value
                except WireError as error:
                    raise instead_of(error, reader.head, self._service) from None
            reader.feed(view[: self.recv_into(buffer)])

    def _receive(self, view: memoryview) -> int:
        try:
            return self._sock.recv_into(view)
        except ssl.SSLZeroReturnError:
            return 0  # close_notify from the peer after ours; before ours Python returns 0


def instead_of(error: WireError, head: bytes, service: str = "snapshotter") -> WireError:
    """`error`, or a better one if the first bytes show another protocol."""
    who = what_answered_instead(head)
    return BadReply(f"not a {service}", hint=who) if who else error


def _encrypted(plain: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        # A stream that ends without close_notify is an error: any network device could cut it.
        name = host.partition("%")[0]  # without the zone of an IPv6 address
        return tls.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False)
    except OSError:
        plain.close()
        raise
