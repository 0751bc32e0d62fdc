"""A peer on loopback that does what a test tells it: the bad days of a server."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress


@contextmanager
def peer(script: Callable[[socket.socket], None]) -> Generator[str]:
    """Listen on a free port; `script` gets each connection, which is closed when it returns.

    Yields host:port.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.settimeout(20)
                    script(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=30)


def answers(reply: bytes) -> Callable[[socket.socket], None]:
    """Read the request that is there, answer, hang up."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply)

    return script


def silent(connection: socket.socket) -> None:
    """Take everything, say nothing, until the other side ends."""
    while connection.recv(65536):
        pass


def resets(connection: socket.socket) -> None:
    connection.recv(1)
    reset(connection)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closed_port() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
