"""Tunnels with bad manners, as kubectl, docker-proxy and ssh have them, and one that encrypts.

with Tunnel(server.bind_addr, ends_with_reset=True) as tunnel:
    ...  # talk to tunnel.address
    assert tunnel.alive
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from typing import Self

ABORT = struct.pack("ii", 1, 0)


class Tunnel:
    """Forwards connections to `upstream`; its own address is `address`, host:port.

    Args:
        ends_with_reset: the first reset from the server's side ends it, as kubectl port-forward.
        no_half_close: when one side ends, so do both, as many load balancers have it.
        nobody_behind: connections are taken and reset at once, as docker-proxy does.
        tls: what it speaks to its clients, as stunnel does.
    """

    def __init__(
        self,
        upstream: str,
        *,
        ends_with_reset: bool = False,
        no_half_close: bool = False,
        nobody_behind: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host.strip("[]"), int(port))
        self._ends_with_reset = ends_with_reset
        self._no_half_close = no_half_close
        self._nobody_behind = nobody_behind
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.alive = True
        self.connections = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self.alive = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._nobody_behind:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            client.close()
            return
        if self._tls is not None:
            with contextlib.suppress(OSError):
                self._decrypt(self._tls.wrap_socket(client, server_side=True))
            return
        with (
            contextlib.suppress(OSError),
            socket.create_connection(self._upstream) as server,
            client,
        ):
            back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
            back.start()
            self._pump(client, server, from_server=False)
            back.join()

    def _decrypt(self, client: ssl.SSLSocket) -> None:
        """In one thread, since two must not use a TLS connection at once."""
        with client, socket.create_connection(self._upstream) as server:
            while True:
                ready = [client] if client.pending() else select.select([client, server], [], [])[0]
                if client in ready:
                    data = client.recv(65536)
                    if not data:
                        return
                    server.sendall(data)
                if server in ready:
                    data = server.recv(65536)
                    if not data:
                        client.settimeout(5)
                        client.unwrap()  # says goodbye, as stunnel does
                        return
                    client.sendall(data)

    def _pump(self, a: socket.socket, b: socket.socket, from_server: bool) -> None:
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except ConnectionResetError:
            if from_server and self._ends_with_reset:
                self._end()
        except OSError:
            pass
        ends = [(b, socket.SHUT_WR)]
        if self._no_half_close:
            ends = [(a, socket.SHUT_RDWR), (b, socket.SHUT_RDWR)]
        for sock, how in ends:
            with contextlib.suppress(OSError):
                sock.shutdown(how)
