"""A cluster, embedded or real, as its users meet it: addresses, line protocol, InfluxQL.

Which one the scenarios run against is said by the environment (`make wire BIND=…` sets it):

    SHARDKEEPER_WIRE_BIND       a meta node of a real cluster; without it, an embedded one
    SHARDKEEPER_WIRE_TARGET     a meta node of a second real cluster, to restore into
    SHARDKEEPER_WIRE_STOP_NODE  commands that stop and start a data node; `{}` in them becomes
    SHARDKEEPER_WIRE_START_NODE its TCP address
    INFLUX_USERNAME, INFLUX_PASSWORD  who may do everything there, as the commands take them

On a real cluster nothing is touched but databases and users whose names begin with `PREFIX` and
this run's token; they are dropped at the end.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from resources.clients.auth import Auth
from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.errors import PeerUnreachable, WireError
from resources.model import Metastore, NodeInfo
from tests.influxd import InfluxdFailed, wait_until

BIND, TARGET = "SHARDKEEPER_WIRE_BIND", "SHARDKEEPER_WIRE_TARGET"
STOP, START = "SHARDKEEPER_WIRE_STOP_NODE", "SHARDKEEPER_WIRE_START_NODE"
PREFIX = "shardkeeper_wire_"
START_S, WEEK_S = 1_600_000_000, 604_800
TIMEOUT_S = 60.0
SETTLED_WITHIN_S = 60.0


class ClusterRefused(AssertionError):
    """A statement or a write failed."""


@dataclass
class AnyCluster:
    """One cluster under test.

    Attributes:
        bind: host:port of a meta node.
        ours: whether no other client uses it, so that whole restores and users may be tried.
        stop, start: of a data node by TCP address; None where the test has no such power.
    """

    bind: str
    ours: bool
    stop: Callable[[str], None] | None = None
    start: Callable[[str], None] | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._meta = MetaClient(self.bind, auth=_auth())

    # --- what there is --------------------------------------------------------------------

    def metastore(self) -> Metastore:
        return self._meta.metastore()[1]

    @property
    def nodes(self) -> Sequence[NodeInfo]:
        return sorted(self.metastore().data_nodes, key=lambda node: node.id)

    def on_disk(self) -> dict[str, set[int]]:
        """Shards on the disk of each data node, known to the metastore or not."""
        return {
            node.tcp_addr: set(CoordinatorClient(node.tcp_addr).list_shards())
            for node in self.nodes
        }

    def owners(self, database: str) -> list[int]:
        """How many owners each shard of a database has."""
        places = [p for p in self.metastore().places() if p.database == database]
        return [len(place.shard.owners) for place in places]

    def is_empty(self) -> bool:
        now = self.metastore()
        return not now.databases and now.max_shard_id == 0

    # --- what its users say to it -----------------------------------------------------------

    def fresh(self, what: str = "db") -> str:
        """A name that is free."""
        return f"{PREFIX}{self.token}_{what}_{secrets.token_hex(3)}"

    def query(self, text: str, *, database: str = "", node: NodeInfo | None = None) -> Any:
        """The results of statements, through one data node.

        Raises:
            ClusterRefused: a statement failed.
        """
        node = node or self.nodes[0]
        reply = self._session.post(
            f"http://{node.addr}/query",
            params={"db": database, "epoch": "ns"},
            data={"q": text},
            auth=_credentials(),
            timeout=TIMEOUT_S,
        ).json()
        results = reply.get("results", [])
        errors = [result["error"] for result in (reply, *results) if "error" in result]
        if errors:
            raise ClusterRefused(f"{text}: {'; '.join(errors)}")
        return results

    def write(self, database: str, lines: str, *, node: NodeInfo | None = None) -> None:
        """Write line protocol with times in seconds; all copies have it afterwards.

        Raises:
            ClusterRefused: it was not written.
        """
        to = node or self.nodes[0]
        output = ""

        def written() -> bool:
            nonlocal output
            reply = self._session.post(
                f"http://{to.addr}/write",
                params={"db": database, "precision": "s", "consistency": "all"},
                data=lines.encode(),
                auth=_credentials(),
                timeout=TIMEOUT_S,
            )
            output = f"{reply.status_code} {reply.text}"
            # A node that was down a moment ago is not written to at once: 500, partial write.
            if reply.status_code not in (204, 500):
                raise ClusterRefused(f"write into {database}: {output}")
            return reply.status_code == 204

        try:
            wait_until(written, within_s=SETTLED_WITHIN_S, what=f"a write into {database}")
        except InfluxdFailed as failure:
            raise ClusterRefused(f"{failure}: {output}") from failure

    def everywhere(self, text: str, database: str) -> list[Any]:
        """What each data node in turn answers."""
        return [self.query(text, database=database, node=node) for node in self.nodes]

    def wait_for(self, expected: object, text: str, database: str) -> None:
        """Wait until every data node, having heard of the newest metastore, answers this."""
        last: list[object] = []

        def events() -> bool:
            last[:] = self.everywhere(text, database)
            return all(answer == expected for answer in last)

        try:
            wait_until(events, within_s=SETTLED_WITHIN_S, what=f"{database} on every node")
        except InfluxdFailed:
            assert last == [expected] * len(last)
            raise

    def filled(self) -> str:
        """A new database of two copies, in groups of several shards: two weeks of 20 hosts."""
        name = self.fresh()
        self.query(f'CREATE DATABASE "{name}" WITH REPLICATION 2')
        rows = [
            f"cpu,host=h{host} n={host}i {START_S + week * WEEK_S + host}"
            for host in range(20)
            for week in range(2)
        ]
        self.write(name, "\n".join(rows))
        return name

    def drop(self, database: str) -> None:
        """Drop a database, and its shards from every disk.

        A node that was down a moment ago may be spoken to over a connection that is dead: then
        the statement is done in part, and what is left on that node is removed here.
        """
        ids = {p.shard_id for p in self.metastore().places() if p.database == database}

        def gone() -> bool:
            with suppress(ClusterRefused):
                self.query(f'DROP DATABASE "{database}"')
            return self.metastore().database(database) is None

        wait_until(gone, within_s=SETTLED_WITHIN_S, what=f"{database} to be gone")
        for node in self.nodes:
            client = CoordinatorClient(node.tcp_addr)
            for shard_id in client.list_shards().keys() & ids:
                client.remove_shard(shard_id)

    # --- afterwards -------------------------------------------------------------------------

    def clear(self) -> None:
        """Drop what this run made, through the data nodes, so that their disks are cleared too."""
        mine = f"{PREFIX}{self.token}_"
        now = self.metastore()
        for database in now.databases:
            if database.name.startswith(mine):
                self.drop(database.name)
        for user in now.users:
            if user.name.startswith(mine):
                self.query(f'DROP USER "{user.name}"')


@contextmanager
def first_cluster(directory: Path) -> Iterator[AnyCluster]:
    """The cluster that is backed up: the real one that was named, or an embedded one."""
    with _cluster(os.environ.get(BIND), directory) as cluster:
        yield cluster


@contextmanager
def second_cluster(directory: Path) -> Iterator[AnyCluster]:
    """Another cluster, to restore into."""
    target = os.environ.get(TARGET)
    if target is None and BIND in os.environ:
        pytest.skip("no second cluster was named (make wire BIND=… TARGET=…)")
    with _cluster(target, directory) as cluster:
        yield cluster


@contextmanager
def _cluster(real: str | None, directory: Path) -> Iterator[AnyCluster]:
    if real is None:
        with EmbeddedCluster(directory, meta_nodes=3, data_nodes=3) as dev:
            where = {node.tcp_addr: at for at, node in enumerate(dev.data)}
            yield AnyCluster(
                # One that follows: what it does not do itself it sends on to the leader.
                dev.meta[-1].http_addr,
                ours=True,
                stop=lambda node: dev.stop_node(where[node]),
                start=lambda node: dev.start_node(where[node]),
            )
        return
    cluster = AnyCluster(real, ours=False, stop=_command(STOP), start=_command(START))
    now = cluster.metastore()
    cluster.ours = not now.users and {db.name for db in now.databases} <= {"_internal"}
    try:
        yield cluster
    finally:
        cluster.clear()


def _command(variable: str) -> Callable[[str], None] | None:
    template = os.environ.get(variable)
    if not template:
        return None

    def run(node: str) -> None:
        subprocess.run(
            [word.replace("{}", node) for word in shlex.split(template)],
            check=True,
            timeout=TIMEOUT_S,
        )
        if variable == START:
            wait_until(lambda: _answers(node), within_s=TIMEOUT_S, what=f"{node} to be back")

    return run


def _answers(node: str) -> bool:
    try:
        CoordinatorClient(node).list_shards()
    except PeerUnreachable:
        return False
    except WireError as error:
        raise AssertionError(f"{node} is back and does not work: {error}") from error
    return True


def _credentials() -> tuple[str, str] | None:
    name = os.environ.get("INFLUX_USERNAME")
    return (name, os.environ.get("INFLUX_PASSWORD", "")) if name else None


def _auth() -> Auth:
    found = _credentials()
    return Auth.basic(*found) if found else Auth.none()
