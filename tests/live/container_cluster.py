"""An embedded cluster in a container of its own, reached by the name that its network gives it.

    python container_cluster.py DIRECTORY NAME [FILE OF THE SHARED SECRET]

Its nodes listen on loopback. Connections to the container's own address are forwarded to them.
While the file `hold` is in the directory, no node sends a shard; `held` appears there once one was
asked to.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.ports import Ports
from resources.model import ShardID

PORTS = Ports(((8091, 8089),), ((8086, 8088), (8186, 8188)))
ADMIN, PASSWORD = "admin", "only for trials"


def main() -> None:
    """Run until SIGTERM."""
    directory, name = Path(sys.argv[1]), sys.argv[2]
    secret = Path(sys.argv[3]).read_text().strip() if len(sys.argv) > 3 else ""
    auth = MetaAuth(bool(secret), internal_shared_secret=secret)
    cluster = EmbeddedCluster(directory, 1, 2, ports=PORTS, auth=auth, hostname=name)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def wait(_shard_id: ShardID) -> None:
        while (directory / "hold").exists():
            (directory / "held").touch()
            time.sleep(0.1)

    with cluster:
        for node in cluster.data:
            node.snapshotter.faults.before_shard = wait
        cluster.query(f"CREATE USER {ADMIN} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")
        mine = socket.gethostbyname(socket.gethostname())
        for port in (PORTS.meta[0][0], *(port for pair in PORTS.data for port in pair)):
            listener = socket.create_server((mine, port))
            threading.Thread(target=_forward_all, args=(listener, port), daemon=True).start()
        stopping.wait()


def _forward_all(listener: socket.socket, port: int) -> None:
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            continue
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=_forward, args=(one, other), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
