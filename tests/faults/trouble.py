"""The nodes of a cluster, embedded or real, and trouble with one of them."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.clients.meta_nodes import meta_addresses
from resources.embedded.cluster import EmbeddedCluster
from resources.errors import ShardkeeperError
from tests.wire.any_cluster import AnyCluster

PAUSE, RESUME = "SHARDKEEPER_WIRE_PAUSE_NODE", "SHARDKEEPER_WIRE_RESUME_NODE"
SLOW_AFTER_BYTES, SLOW_BYTES, SLOW_EVERY_S = 1500, 20, 0.2


class Slow:
    """A way to a node that can become slow, without anything being wrong with the node."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._upstream = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.way = f"{address}=127.0.0.1:{self._listener.getsockname()[1]}"
        self.slow = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        ways = [
            threading.Thread(target=self._pass_on, args=pair, daemon=True)
            for pair in ((client, server), (server, client))
        ]
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        client.close()
        server.close()

    def _pass_on(self, come: socket.socket, go: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := come.recv(SLOW_BYTES if self.slow.is_set() else 65_536):
                go.sendall(data)
                passed += len(data)
                if self.slow.is_set() and passed > SLOW_AFTER_BYTES:
                    time.sleep(SLOW_EVERY_S)
        with suppress(OSError):
            go.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a node.

    Attributes:
        flags: for a command, so that it meets the trouble.
        begun: set once it is about to begin.
        there: set once it has begun.
    """

    flags: list[str]
    begun: threading.Event = field(default_factory=threading.Event)
    there: threading.Event = field(default_factory=threading.Event)


@dataclass
class Nodes:
    """The nodes of a cluster, and what can be done to them."""

    meta: list[str]
    data: list[str]
    stop: Callable[[str], None]
    start: Callable[[str], None]
    pause: Callable[[str], None]
    resume: Callable[[str], None]

    @contextmanager
    def trouble(
        self, kind: str, victim: str, begin: threading.Event, lasts_s: float
    ) -> Generator[Trouble]:
        """Trouble with a node from the moment on that `begin` is set.

        It ends when the block does, or after `lasts_s`.
        """
        slow = Slow(victim) if kind == "slow" else None
        it = Trouble([] if slow is None else ["-map", slow.way])
        over = threading.Event()

        def run() -> None:
            begin.wait()
            if over.is_set():
                return
            it.begun.set()
            if slow is not None:
                slow.slow.set()
            else:
                (self.stop if kind == "stopped" else self.pause)(victim)
            it.there.set()
            over.wait(lasts_s)
            if slow is not None:
                slow.slow.clear()
            else:
                (self.start if kind == "stopped" else self.resume)(victim)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield it
        finally:
            over.set()
            begin.set()
            thread.join()
            if slow is not None:
                slow.close()
            if it.begun.is_set():
                self._until_back(victim)

    def _until_back(self, victim: str) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with suppress(ShardkeeperError):
                if victim in self.data:
                    CoordinatorClient(victim, timeout_s=5).list_shards()
                MetaClient(victim if victim in self.meta else self.meta[0], timeout_s=5).metastore()
                return
            time.sleep(0.3)
        raise AssertionError(f"{victim} does not come back")


def nodes_of(cluster: AnyCluster, embedded: EmbeddedCluster | None) -> Nodes:
    """The nodes, with the commands of the environment or those of an embedded cluster."""
    now = cluster.metastore()
    meta = [str(address) for address in meta_addresses(now.meta_nodes)]
    data = [node.tcp_addr for node in now.data_nodes]
    if embedded is None:
        words = (
            "SHARDKEEPER_WIRE_STOP_NODE", "SHARDKEEPER_WIRE_START_NODE", PAUSE, RESUME
        )  # fmt: skip
        return Nodes(meta, data, *(_command(os.environ[word]) for word in words))
    metas = {node.http_addr: node for node in embedded.meta}
    datas = {node.tcp_addr: node for node in embedded.data}

    def hang(address: str, *, on: bool) -> None:
        listener = metas[address].listener if address in metas else datas[address].tcp
        listener.faults.hang = on

    return Nodes(
        meta,
        data,
        lambda address: (metas | datas)[address].stop(),
        lambda address: (metas | datas)[address].start(),
        partial(hang, on=True),
        partial(hang, on=False),
    )


def _command(template: str) -> Callable[[str], None]:
    def run(node: str) -> None:
        words = [word.replace("{}", node) for word in shlex.split(template)]
        subprocess.run(words, check=True, timeout=90)

    return run
