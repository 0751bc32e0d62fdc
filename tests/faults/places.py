"""Where backups are made and restored to: a real influxd, or one of the embedded servers.

Each place has a database of three shards, a directory with one backup of it, and a target.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from resources.embedded.cluster import EmbeddedCluster
from tests.expectation import Expectation
from tests.influxd import Influxd
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.wire.commands import at

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000
SHARDS = 3

Writing = Callable[[], None]


@dataclass
class Place:
    """A source and a target of one kind, in `directory`, and how to be led to both."""

    source: Influxd
    source_flags: Sequence[str]
    target: Influxd
    target_flags: Sequence[str]
    directory: Path
    cluster: EmbeddedCluster | None = None
    """The target, if it is a cluster."""
    n_written: int = 0

    def expectation(self, *, filled: bool = True) -> Expectation:
        """A database of its own and an empty directory."""
        name = f"db-{secrets.token_hex(5)}"
        backups = self.directory / f"backups-{name}"
        backups.mkdir(mode=0o700)
        self.source.create_database(name)
        found = Expectation(self.source, self.source_flags, name, backups, self.target)
        if filled:
            self.write(found)
        return found

    def write(self, expectation: Expectation, shards: Sequence[int] = range(SHARDS)) -> None:
        """Some points more in each of these shards, all of other times than those before."""
        self.n_written += 1
        lines = [
            f'm,t={i % 4} v={self.n_written}.5,i={i}i,s="{"x" * i}",b={"tf"[i % 2]} '
            f"{T0 + shard * WEEK + self.n_written * 1_000_000 + i}"
            for shard in shards
            for i in range(20)
        ]
        self.source.write(expectation.database, lines)


@contextmanager
def dev_server(directory: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        source = stack.enter_context(DevInfluxd(directory / "source"))
        target = stack.enter_context(DevInfluxd(directory / "target"))
        yield Place(source, at(source), target, at(target), directory)


@contextmanager
def real_server(directory: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        source = stack.enter_context(Influxd(directory / "source"))
        target = stack.enter_context(Influxd(directory / "target", index_version="tsi1"))
        yield Place(source, at(source), target, at(target), directory)


@contextmanager
def dev_cluster(directory: Path) -> Iterator[Place]:
    """A cluster of two data nodes; its backups are restored into a single server."""
    with ExitStack() as stack:
        cluster = stack.enter_context(EmbeddedCluster(directory / "cluster", 1, 2))
        source = DevInfluxd(directory / "front", cluster.data[0])
        target = stack.enter_context(DevInfluxd(directory / "target"))
        flags = ("-bind", cluster.meta[0].http_addr)
        yield Place(source, flags, target, at(target), directory, cluster)


PLACES = {"influxd": real_server, "dev server": dev_server, "dev cluster": dev_cluster}
