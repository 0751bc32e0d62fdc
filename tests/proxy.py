"""A network with bad days, byte-exact: a TCP proxy in front of a real server.

    with Proxy(server.bind_addr) as proxy:
        proxy.break_next(Cut(at=512), chosen=shard_backups)
        ...  # talk to proxy.address

A fault hits the connections that `chosen` picks by their first bytes from the client, one
fault each in the order they were given; all others pass unharmed.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

Direction = Literal["to client", "to server"]
CHUNK_BYTES = 64 << 10
LINGER_NOT = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Cut:
    """End the stream in an orderly way after `at` bytes."""

    at: int
    direction: Direction = "to client"


@dataclass(frozen=True)
class Reset:
    """Break both connections with RST after `at` bytes."""

    at: int
    direction: Direction = "to client"
    or_end: bool = False
    """Whether a stream that ends before that is reset in the place of its end."""


@dataclass(frozen=True)
class Flip:
    """Change bits of the byte at `at`; everything else arrives."""

    at: int
    mask: int = 0x01
    direction: Direction = "to client"


@dataclass(frozen=True)
class Stall:
    """Say nothing more after `at` bytes, until the sender breaks off."""

    at: int
    direction: Direction = "to client"


@dataclass(frozen=True)
class Instead:
    """Say this instead, and end the stream in an orderly way."""

    data: bytes
    at: int = 0
    direction: Direction = "to client"


@dataclass(frozen=True)
class Act:
    """Call something after `at` bytes, then go on: kill the server, send a signal."""

    at: int
    what: Callable[[], object]
    direction: Direction = "to client"


Fault = Cut | Reset | Flip | Stall | Instead | Act
Chosen = Callable[[bytes], bool]


def shard_backups(head: bytes) -> bool:
    """Requests for a shard's files (type 0)."""
    return head[:2] == b"\x03\x00"


def imports(head: bytes) -> bool:
    """Requests that change the metastore (type 6)."""
    return head[:2] == b"\x03\x06"


def uploads(head: bytes) -> bool:
    """Requests that fill a shard (type 7)."""
    return head[:2] == b"\x03\x07"


class Proxy:
    """Forwards connections to `upstream`; its own address is `address`, host:port."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._faults: list[tuple[Fault, Chosen]] = []
        self._always: tuple[Fault, Chosen] | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.heads: list[bytes] = []
        """The first bytes of every connection so far."""
        self.stalled = threading.Event()
        """Set when a `Stall` has begun."""
        self.carried: Counter[tuple[bytes, Direction]] = Counter()
        """Bytes so far, by the first two of the connection from the client."""

    def break_next(self, *faults: Fault, chosen: Chosen = shard_backups) -> None:
        """Let each of the next chosen connections suffer one of these faults."""
        with self._mutex:
            self._faults += [(fault, chosen) for fault in faults]

    def break_all(self, fault: Fault, chosen: Chosen = shard_backups) -> None:
        """Let every chosen connection suffer this fault, until `heal`."""
        with self._mutex:
            self._always = fault, chosen

    def heal(self) -> None:
        with self._mutex:
            self._faults.clear()
            self._always = None

    @property
    def pending(self) -> int:
        """How many faults have not happened yet."""
        with self._mutex:
            return len(self._faults)

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._mutex:
            sockets = list(self._sockets)
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in list(self._threads):
            thread.join(timeout=10)

    def _spawn(self, target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        with self._mutex:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            thread.start()
        return thread

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream, timeout=10)
            server.settimeout(None)
        except OSError:
            _reset(client)
            return
        with self._mutex:
            self._sockets += [client, server]
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            head = client.recv(CHUNK_BYTES)
        except OSError:
            head = b""
        fault = self._fault_for(head)
        kind = head[:2]
        back = self._spawn(self._pump, server, client, b"", fault, "to client", kind)
        self._pump(client, server, head, fault, "to server", kind)
        back.join()
        with self._mutex:
            self._sockets = [one for one in self._sockets if one not in (client, server)]
        client.close()
        server.close()

    def _fault_for(self, head: bytes) -> Fault | None:
        with self._mutex:
            self.heads.append(head)
            for i, (fault, chosen) in enumerate(self._faults):
                if chosen(head):
                    del self._faults[i]
                    return fault
            if self._always is not None and self._always[1](head):
                return self._always[0]
            return None

    def _pump(
        self,
        origin: socket.socket,
        goal: socket.socket,
        first: bytes,
        fault: Fault | None,
        direction: Direction,
        kind: bytes,
    ) -> None:
        mine = fault if fault is not None and fault.direction == direction else None
        passed = 0
        data = first
        try:
            while True:
                if data:
                    goes_on = self._pass(data, passed, goal, origin, mine)
                    passed += len(data)
                    with self._mutex:
                        self.carried[kind, direction] += len(data)
                    if not goes_on:
                        return
                data = origin.recv(CHUNK_BYTES)
                if not data and isinstance(mine, Reset) and mine.or_end:
                    _reset(goal)
                    _reset(origin)
                    return
                if not data:
                    goal.shutdown(socket.SHUT_WR)
                    return
        except OSError:
            _reset(goal)
            _reset(origin)

    def _pass(
        self,
        data: bytes,
        passed: int,
        goal: socket.socket,
        origin: socket.socket,
        fault: Fault | None,
    ) -> bool:
        """Forward a piece of the stream; False when the fault ended it."""
        if fault is None or not passed <= fault.at < passed + len(data):
            goal.sendall(data)
            return True
        before, after = data[: fault.at - passed], data[fault.at - passed :]
        match fault:
            case Flip(mask=mask):
                goal.sendall(before + bytes([after[0] ^ mask]) + after[1:])
                return True
            case Act(what=what):
                goal.sendall(before)
                what()
                goal.sendall(after)
                return True
            case Cut() | Instead():
                goal.sendall(before)
                if isinstance(fault, Instead):
                    goal.sendall(fault.data)
                # What the other side still wants to say does not matter any more.
                goal.shutdown(socket.SHUT_WR)
                while origin.recv(CHUNK_BYTES):
                    pass
                return False
            case Reset():
                goal.sendall(before)
                _reset(goal)
                _reset(origin)
                return False
            case Stall():
                goal.sendall(before)
                self.stalled.set()
                broken_off = select.poll()
                broken_off.register(origin, 0)  # resets and full ends, which polls always see
                while not self._ended.is_set():
                    if broken_off.poll(50):
                        raise ConnectionResetError
                return False


def _reset(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    # Closing alone would leave a thread that waits in recv where it is.
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RD)
    sock.close()
