"""Backups and restores of which every connection is cut once; restores that are killed and go on.

    PATH=<directory of an influxd>:$PATH python -m tests.faults.cut_off 300 20 [seed]
    SHARDKEEPER_WIRE_BIND=<meta node> python -m tests.faults.cut_off 300 20 [seed]

The influxd that comes first in PATH, or the cluster whose meta node is named and that no other
client uses, has a database of 300 shards. Proxies stand before every port of it.

- A backup: each request, the first time that it is made, is cut at a random byte of it or of its
  answer, by a reset or by an end in order. It has to end with 0 and hold every shard.
- A restore in the same way: it has to end with 0, and what is there has to equal what was.
- A restore through the same proxies, which harm no connection now, is killed 20 times and started
  again. The last run has to end with 0 and be equal, and of the bytes of shards, up and down, no
  more than one and a half times as many may have passed as in an undisturbed restore.

A seed repeats what is planned; what meets what depends on the machine.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.influxd import Influxd
from tests.processes import ForkServer
from tests.proxy import Cut, Fault, Proxy, Reset
from tests.wire.any_cluster import BIND, AnyCluster, first_cluster
from tests.wire.commands import Done, shardkeeper, verify
from tests.wire.points import points

T0 = 1_600_000_000 // 3600 * 3600
HOUR = 3600
POINTS = 30
SHARDS_AT_ONCE = 5
SHORTEST = 6000
"""Every archive is longer, so a cut before that meets it."""
MAX_WORK = 1.5
SHAPE = "WITH DURATION INF REPLICATION 2 SHARD DURATION 1h NAME rp"
FROM_SHARD, INTO_SHARD = b"\x03\x00", b"\x03\x07"


class CuttingProxy(Proxy):
    """Cuts the first connection of each request, while it is told to."""

    def __init__(self, upstream: str, dice: random.Random) -> None:
        super().__init__(upstream)
        self._dice = dice
        self._met: set[bytes] = set()
        self.cutting = False
        self.cuts = 0

    def _fault_for(self, head: bytes) -> Fault | None:
        with self._mutex:
            self.heads.append(head)
            asked = _request(head)
            if not self.cutting or not head or asked in self._met:
                return None
            self._met.add(asked)
            self.cuts += 1
            return self._cut(head)

    def _cut(self, head: bytes) -> Fault:
        kind = self._dice.choice((Cut, Reset, Reset))
        if head[:2] == INTO_SHARD and self._dice.random() < 0.8:
            return kind(self._dice.randrange(SHORTEST), direction="to server")
        if head[:2] != INTO_SHARD and self._dice.random() < 0.2:
            return kind(self._dice.randrange(len(head)), direction="to server")
        return Reset(self._dice.randrange(SHORTEST), or_end=True)


def _request(head: bytes) -> bytes:
    """What is asked for: two looks at the same thing are one request."""
    if head[:2] == INTO_SHARD:
        return head[:10]  # the shard; what follows is its archive
    return head.partition(b"\r\n")[0][:400]


@dataclass
class Scene:
    """A server or a cluster behind proxies.

    Attributes:
        flags: how the command line is led to it through them.
        fill: how many shards to write.
        content: all points of a database, from every node.
        drop: a database.
    """

    name: str
    flags: Sequence[str]
    proxies: Sequence[CuttingProxy]
    fill: Callable[[str, int], None]
    content: Callable[[str], Any]
    drop: Callable[[str], None]

    @contextmanager
    def cutting(self) -> Iterator[None]:
        for proxy in self.proxies:
            proxy.cutting = True
        try:
            yield
        finally:
            for proxy in self.proxies:
                proxy.cutting = False

    @property
    def cuts(self) -> int:
        return sum(proxy.cuts for proxy in self.proxies)

    @property
    def uploads(self) -> int:
        return sum(head[:2] == INTO_SHARD for proxy in self.proxies for head in list(proxy.heads))

    @property
    def shard_bytes(self) -> int:
        """Of shards, in both directions."""
        return sum(
            n_bytes
            for proxy in self.proxies
            for (kind, _), n_bytes in list(proxy.carried.items())
            if kind in (FROM_SHARD, INTO_SHARD)
        )

    @property
    def all_bytes(self) -> int:
        return sum(sum(proxy.carried.values()) for proxy in self.proxies)


def lines(n_shards: int, dice: random.Random) -> Iterator[str]:
    """Points that no compression makes small, of a few shards at a time: a server creates them."""
    for first in range(0, n_shards, SHARDS_AT_ONCE):
        yield "\n".join(
            f'm,h=h{i % 3} v={i},s="{dice.randbytes(120).hex()}" {T0 + shard * HOUR + i}'
            for shard in range(first, min(first + SHARDS_AT_ONCE, n_shards))
            for i in range(POINTS)
        )


@contextmanager
def of_server(server: Influxd, dice: random.Random, name: str) -> Iterator[Scene]:
    """A single server, whatever it is."""
    with ExitStack() as stack:
        tcp = stack.enter_context(CuttingProxy(server.bind_addr, dice))
        http = stack.enter_context(CuttingProxy(server.http_addr, dice))

        def fill(database: str, n: int) -> None:
            server.create_database(database, with_=SHAPE.removeprefix("WITH "))
            for some in lines(n, dice):
                server.write(database, some, "s")

        yield Scene(
            name,
            ("-host", tcp.address, "-http", f"http://{http.address}"),
            (tcp, http),
            fill,
            lambda database: points(server, database),
            server.drop_database,
        )


@contextmanager
def of_cluster(cluster: AnyCluster, dice: random.Random, name: str) -> Iterator[Scene]:
    """A cluster; nodes are reached through proxies by the map of addresses."""
    now = cluster.metastore()
    addresses = [node.addr for node in now.meta_nodes]
    addresses += [a for node in now.data_nodes for a in (node.addr, node.tcp_addr)]
    with ExitStack() as stack:
        proxies = {a: stack.enter_context(CuttingProxy(a, dice)) for a in addresses}
        flags = ["-bind", cluster.bind]
        for address, proxy in proxies.items():
            flags += ["-map", f"{address}={proxy.address}"]

        def fill(database: str, n: int) -> None:
            cluster.query(f"CREATE DATABASE {database} {SHAPE}")
            for some in lines(n, dice):
                cluster.write(database, some)

        def content(database: str) -> Any:
            text = f'SELECT * FROM "{database}"."rp"."m" GROUP BY *'
            first, *others = cluster.everywhere(text, database)
            assert all(other == first for other in others)
            return first

        yield Scene(name, flags, tuple(proxies.values()), fill, content, cluster.drop)


class Campaign:
    """All of it on one scene; what must not be is an AssertionError."""

    def __init__(self, scene: Scene, n_shards: int, dice: random.Random, at: Path) -> None:
        self._scene, self._n, self._dice = scene, n_shards, dice
        self._backups = at / "backups"
        self._backups.mkdir(mode=0o700)
        self._database = f"cut_{secrets.token_hex(3)}"
        scene.fill(self._database, n_shards)
        self._expected = scene.content(self._database)
        assert self._expected

    def _restore(self, name: str) -> tuple[object, ...]:
        flags = (*self._scene.flags, "-db", self._database, "-newdb", name)
        return ("restore", *flags, self._backups)

    def backup(self) -> str:
        """Each connection of a backup is cut once."""
        cuts, began = self._scene.cuts, time.monotonic()
        with self._scene.cutting():
            done = shardkeeper("backup", *self._scene.flags, "-db", self._database, self._backups)
        cuts, seconds = self._scene.cuts - cuts, time.monotonic() - began
        assert done.code == 0, done
        archives = len(list(self._backups.glob("*.s*.tar.gz")))
        assert archives >= self._n, (archives, done)
        self._n = archives  # of each group a cluster makes several
        assert cuts >= archives, cuts
        verify(self._backups)
        return f"backup of {archives} shards, {cuts} connections cut: complete, {seconds:.1f} s"

    def restore(self) -> str:
        """Each connection of a restore is cut once."""
        cuts, began = self._scene.cuts, time.monotonic()
        with self._scene.cutting():
            done = shardkeeper(*self._restore("back_cut"))
        cuts, seconds = self._scene.cuts - cuts, time.monotonic() - began
        self._require_equal(done, "back_cut")
        assert cuts >= 2 * self._n, "each upload, and each reading back"
        return f"restore of {self._n} shards, {cuts} connections cut: equal, {seconds:.1f} s"

    def kills(
        self, kills: int, fork_server: ForkServer, *, most_work: float | None = MAX_WORK
    ) -> str:
        """A restore is killed `n` times, and goes on."""
        alone = self._undisturbed(fork_server)
        before = self._counts()
        per_life = alone[0] / (kills + 1)
        lives = list[Done]()
        while len(lives) < kills:
            run = fork_server.start(*self._restore("back_killed"))
            self._wait(run, self._scene.uploads + round(self._dice.uniform(0, 1.2) * per_life))
            assert run.running, run.output
            run.kill()
            lives.append(run.wait())
        done = fork_server.start(*self._restore("back_killed")).wait(within_s=600)
        work = tuple(now - then for now, then in zip(self._counts(), before, strict=True))
        self._require_equal(done, "back_killed")
        went_on = sum("this run continues it" in life.err for life in [*lives, done])
        ratios = [one / other for one, other in zip(work, alone, strict=True)]
        output = (
            f"restore of {self._n} shards, killed {kills} times, {went_on} runs went on: equal; "
            f"{ratios[0]:.2f} times the uploads, {ratios[1]:.2f} times the bytes of shards, "
            f"{ratios[2]:.2f} times all bytes of an undisturbed one"
        )
        assert most_work is None or max(ratios[:2]) <= most_work, output
        return output

    def _undisturbed(self, fork_server: ForkServer) -> tuple[int, ...]:
        before = self._counts()
        done = fork_server.start(*self._restore("back_alone")).wait(within_s=600)
        work = tuple(now - then for now, then in zip(self._counts(), before, strict=True))
        self._require_equal(done, "back_alone")
        return work

    def _counts(self) -> tuple[int, int, int]:
        return self._scene.uploads, self._scene.shard_bytes, self._scene.all_bytes

    def _wait(self, run: Any, uploads: int) -> None:
        """Until that number were begun; or any moment of what comes before the first."""
        until = time.monotonic() + (self._dice.uniform(0, 2) if self._dice.random() < 0.2 else 120)
        while self._scene.uploads < uploads and time.monotonic() < until and run.running:
            time.sleep(0.005)

    def _require_equal(self, done: Done, name: str) -> None:
        assert done.code == 0, done
        assert self._scene.content(name) == self._expected
        left = [path.name for path in self._backups.glob(".shardkeeper*restore*")]
        assert not left, left
        self._scene.drop(name)

    def close(self) -> None:
        self._scene.drop(self._database)


@contextmanager
def scene_of(dice: random.Random, scratch: Path) -> Iterator[Scene]:
    if bind := os.environ.get(BIND):
        with first_cluster(scratch) as cluster, of_cluster(cluster, dice, bind) as scene:
            yield scene
        return
    with (
        Influxd(scratch / "server", cache_cold="10m") as server,
        of_server(server, dice, f"{shutil.which('influxd')}") as scene,
    ):
        yield scene


def main(n_shards: int, kills: int, seed: int) -> None:
    dice = random.Random(seed)
    with (
        tempfile.TemporaryDirectory(prefix="cut-off-") as directory,
        scene_of(dice, Path(directory)) as scene,
        ForkServer() as fork_server,
    ):
        say(f"{scene.name}, seed {seed}")
        campaign = Campaign(scene, n_shards, dice, Path(directory))
        try:
            say(campaign.backup())
            say(campaign.restore())
            say(campaign.kills(kills, fork_server))
        finally:
            campaign.close()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else secrets.randbits(32)
    main(int(sys.argv[1]), int(sys.argv[2]), seed)
