"""Runs an embedded cluster from the command line: python -m resources.embedded DIRECTORY.

It prints the addresses of its nodes as JSON and runs until SIGTERM or SIGINT. The next start
finds all data again.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.server import EmbeddedServer
from resources.errors import ShardkeeperError


def main() -> int:
    """Run until a signal; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m resources.embedded")
    parser.add_argument("directory", type=Path, help="directory for the files of all nodes")
    parser.add_argument("--meta", type=int, default=1, metavar="N", help="meta nodes (1)")
    parser.add_argument("--data", type=int, default=3, metavar="N", help="data nodes (3)")
    parser.add_argument("--single", action="store_true", help="one server instead of a cluster")
    asked = parser.parse_args()
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        if asked.single:
            with EmbeddedServer(asked.directory) as server:
                _say({"http": server.http_addr, "tcp": server.tcp_addr})
                stopping.wait()
        else:
            with EmbeddedCluster(asked.directory, asked.meta, asked.data) as cluster:
                _say(
                    {
                        "meta": [
                            {"http": node.http_addr, "raft": node.raft_addr}
                            for node in cluster.meta
                        ],
                        "data": [
                            {"id": node.id, "http": node.http_addr, "tcp": node.tcp_addr}
                            for node in cluster.data
                        ],
                    }
                )
                stopping.wait()
    except ShardkeeperError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n" if error.hint else f"{error}\n")
        return error.exit_code
    return 0


def _say(addresses: object) -> None:
    sys.stdout.write(json.dumps(addresses, indent=2) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
