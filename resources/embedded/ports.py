"""The port numbers of an embedded cluster's nodes, kept from one start to the next."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec import Struct

from resources.embedded.meta.state import put_file
from resources.errors import UsageError

PORTS_FILE = "ports.json"


class Ports(Struct, frozen=True):
    """Ports of all nodes: HTTP and raft of the meta nodes, HTTP and TCP of the data nodes."""

    meta: tuple[tuple[int, int], ...]
    data: tuple[tuple[int, int], ...]

    @classmethod
    def remembered(cls, directory: Path, meta_nodes: int, data_nodes: int) -> Ports:
        """The ports of the directory's cluster; zeros, for free ports, if there is none.

        Raises:
            UsageError: the directory has a cluster of another size, or other files.
        """
        ports = cls.read(directory)
        if ports is None:
            return cls(((0, 0),) * meta_nodes, ((0, 0),) * data_nodes)
        if (len(ports.meta), len(ports.data)) != (meta_nodes, data_nodes):
            raise UsageError(
                f"{directory} holds a cluster of {len(ports.meta)} meta and {len(ports.data)}"
                f" data nodes, not {meta_nodes} and {data_nodes}",
                hint="take another directory, or the same numbers",
            )
        return ports

    @classmethod
    def read(cls, directory: Path) -> Ports | None:
        """The ports of the directory's cluster, of any size; None if there is none.

        Raises:
            UsageError: the file has other content.
        """
        path = directory / PORTS_FILE
        try:
            reply = json.loads(path.read_bytes())
            return cls(
                *(tuple((int(a), int(b)) for a, b in reply[kind]) for kind in ("meta", "data"))
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path}: not the ports of an embedded cluster") from None

    def remember(self, directory: Path) -> None:
        put_file(
            directory / PORTS_FILE, json.dumps({"meta": self.meta, "data": self.data}).encode()
        )
