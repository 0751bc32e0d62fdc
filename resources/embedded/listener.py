"""A listening socket of a node, with a thread per connection and the faults of a network."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from resources.errors import ShardkeeperError

HOST = "127.0.0.1"
BIND_PATIENCE_S = 5.0
HANG_POLL_S = 0.02


class AddressTaken(ShardkeeperError):
    """Another program listens at a node's address."""


class Faults(Struct):
    """The faults of a port; a change applies from the next connection on."""

    refuse: bool = False
    """Connections are reset as soon as they are made."""
    cut_after: int | None = None
    """The number of bytes after which every reply ends."""
    reset: bool = False
    """Whether it ends by a reset instead of an orderly end."""
    hang: bool = False
    """Connections are accepted and get no answer, as from a stopped process."""


class Line:
    """The server's side of a connection; a fault may cut its replies."""

    def __init__(self, sock: socket.socket, faults: Faults) -> None:
        self._sock = sock
        self._faults = faults
        self._left = faults.cut_after
        self._reset = faults.reset

    def sendall(self, data: Any) -> None:
        """Send data up to the fault's limit.

        Raises:
            ConnectionError: the peer is gone, or a fault cut the connection.
        """
        while self._faults.hang:
            time.sleep(HANG_POLL_S)
        if self._left is None:
            self._sock.sendall(data)
            return
        view = memoryview(data)
        self._sock.sendall(view[: self._left])
        self._left -= len(view)
        if self._left < 0:
            if self._reset:
                reset_on_close(self._sock)
            raise ConnectionAbortedError("the line was cut on purpose")

    def peek(self, timeout_s: float) -> bytes:
        """Peek at the first byte; empty if the peer closed or stayed silent."""
        self._sock.settimeout(timeout_s)
        try:
            return self._sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return b""
        finally:
            self._sock.settimeout(None)

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def makefile(self, mode: str, bufsize: int = -1) -> Any:
        sock: Any = self._sock
        return sock.makefile(mode, bufsize)

    def setsockopt(self, *args: Any) -> None:
        self._sock.setsockopt(*args)


class Listener:
    """Accepts connections at one loopback address until it is stopped.

    Args:
        port: 0 chooses a free port, which later starts keep.
        serve: handles one connection in a thread of its own. The connection is closed when it
            returns; its connection errors are ignored.
    """

    def __init__(self, port: int, serve: Callable[[Line], None]) -> None:
        self.faults = Faults()
        self.advertised = HOST
        """The advertised host; the listener accepts connections on loopback only."""
        self._serve = serve
        self._sock: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listen(port)

    @property
    def port(self) -> int:
        return self._port

    @property
    def address(self) -> str:
        return f"{self.advertised}:{self._port}"

    def _listen(self, port: int) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + BIND_PATIENCE_S
        while True:
            try:
                sock.bind((HOST, port))
                break
            except OSError as error:
                # A recent client connection may still use the port.
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    sock.close()
                    raise AddressTaken(f"{HOST}:{port}: {error.strerror}") from None
                time.sleep(0.02)
        sock.listen(128)
        self._port: int = sock.getsockname()[1]
        self._sock = sock

    def start(self) -> None:
        """Begin to accept, also after `stop`."""
        if self._sock is None:
            self._listen(self._port)
        threading.Thread(
            target=self._accept, args=(self._sock,), name=f"accept {HOST}:{self._port}", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening, and break off all connections."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._lock:
                if self._sock is not listening:
                    connection.close()
                    return
                self._open.add(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        try:
            if self.faults.refuse:
                reset_on_close(connection)
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                self._serve(Line(connection, self.faults))
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
