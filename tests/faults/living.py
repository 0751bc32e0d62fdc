"""`make living BIND=…`: restores into a cluster that lives; nothing of its users may be lost.

    python -m tests.faults.living 40 20 [seed]

40 restores and 20 overwrites, on the real cluster whose meta node SHARDKEEPER_WIRE_BIND names and
that no other test uses, or on an embedded one. Meanwhile other clients create and drop databases,
users and grants and write points, some of them into what is being restored. In each round one
thing goes wrong: a bit flips in one reading of the metastore or in each, a reading shows an earlier
state, the leader stands still and goes on while another leads, another client changes something in
the very moment before it is set, or the run dies by kill -9 at a named point. Then the test checks
whether everything that was acknowledged is there, and whether the next run converges.

    SHARDKEEPER_LIVING_PAUSE   commands that stop a meta node's process and let it go on (SIGSTOP,
    SHARDKEEPER_LIVING_RESUME  SIGCONT); `{}` in them becomes its HTTP address
"""

from __future__ import annotations

import copy
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from resources.clients.meta import MetaClient
from resources.engine.overwrite.overwrite_run import read_meta_file
from resources.errors import WireError
from resources.model import Metastore
from resources.protocol.meta import decode_metastore
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.faults.others import LIFE, START_S, Acknowledged, NotAcknowledged, Others, Users
from tests.processes import ForkServer
from tests.wire.any_cluster import AnyCluster, first_cluster
from tests.wire.cluster_restore.meta_proxy import Answered, Asked, MetaProxy
from tests.wire.commands import Done

FORCE = "-meta-only-overwrite-force"
POINTS = 60
SOURCE = "living_source"
KILLS = [name for name in FAILPOINTS if name.startswith(("cluster.", "store."))]
FAULTS = ("nothing", "flip", "flip in every look", "stale", "stood still", "in between", "kill")
DOCUMENT = (
    "the restore has made it again",
    "may have been lost",
    "created by single commands",
    "is complete now",
    "is left there",
)
SETTLED_WITHIN_S = 60.0


class Campaign:
    """All of it on one cluster; what must not be is an AssertionError."""

    def __init__(
        self, cluster: AnyCluster, fork_server: ForkServer, rng: random.Random, at: Path
    ) -> None:
        self._bind, self._fork_server, self._rng = cluster.bind, fork_server, rng
        self._backups = at / "backups"
        self._backups.mkdir(mode=0o700)
        self._users = Users(cluster.nodes[0].addr)
        self._others = Others(self._users, rng)
        self._meta = MetaClient(cluster.bind)
        self._n = 0
        self.tally: Counter[str] = Counter()
        shape = "WITH DURATION INF REPLICATION 2 SHARD DURATION 1d NAME rp"
        for name in (SOURCE, LIFE):
            cluster.query(f"CREATE DATABASE {name} {shape}")
        lines = (f"cpu,host=h{i % 7} v={i}i {START_S + i * 7200}" for i in range(POINTS))
        cluster.write(SOURCE, "\n".join(lines))
        self._others.acknowledged.databases.add(LIFE)
        done = self._run("backup", self._backups)
        assert done, done
        self._stale = self._meta.snapshot()

    def _run(self, *words: object, bind: str = "", env: dict[str, str] | None = None) -> Done:
        flags = ("-bind", bind or self._bind, "-timeout", "10s")
        return self._fork_server.start(*flags, *words, env=env).wait(within_s=600)

    # --- rounds -----------------------------------------------------------------------------

    def restores(self, n: int) -> Iterator[str]:
        for number in range(n):
            fault = FAULTS[number % len(FAULTS)]
            every_s = self._rng.choice((0.05, 0.5, 2.0))
            name, other = self._new_name(), self._new_name()
            self._others.also = name
            with self._others.at_work(every_s):
                words = ("restore", "-db", SOURCE, "-newdb")
                done = self._with_fault(fault, (*words, name, self._backups))
            self._others.also = ""
            self._check(f"restore {number}, {fault}", done, name)
            again = self._run(*words, other, self._backups)
            assert again, again
            assert not list(self._backups.glob(".shardkeeper.restore-*"))
            self._check(f"restore {number}, {fault}, and the next", again, other)
            self._count(fault, done, again)
            yield f"restore {number + 1}/{n}: {fault}, others every {every_s} s: exit {done.code}"
            yield from why(done)
            self._tidy(name, other)

    def overwrites(self, n: int) -> Iterator[str]:
        for number in range(n):
            fault = FAULTS[number % len(FAULTS)]
            before = copy.deepcopy(self._others.acknowledged)
            there = set(self._backups.glob("*.replaced.meta"))
            with self._others.at_work(3.0):
                done = self._with_fault(fault, ("restore", FORCE, self._backups))
            kept = sorted(set(self._backups.glob("*.replaced.meta")) - there)
            self._check_overwrite(f"overwrite {number}, {fault}", done, before, kept)
            self._count(f"overwrite, {fault}", done)
            yield f"overwrite {number + 1}/{n}: {fault}: exit {done.code}, kept {len(kept)}"
            yield from why(done)

    def _new_name(self) -> str:
        self._n += 1
        return f"living_again_{self._n}"

    def _count(self, fault: str, *runs: Done) -> None:
        self.tally[f"{fault}: exit {runs[0].code}"] += 1
        for text in DOCUMENT:
            self.tally[f"said: {text}"] += sum(text in done.err for done in runs)

    def _tidy(self, *names: str) -> None:
        for name in names:
            self._others.acknowledged.points.pop(name, None)
            with suppress(NotAcknowledged):
                self._users.query(f"DROP DATABASE {name}")

    # --- checking ---------------------------------------------------------------------------

    def _check(self, what: str, done: Done, name: str) -> None:
        missing = self._missing(self._others.acknowledged)
        assert not missing, (what, missing, done)
        if done:
            found = self._users.query("SELECT count(v) FROM cpu", name)
            assert found[0]["series"][0]["values"][0][1] == POINTS, (what, found, done)

    def _check_overwrite(
        self, what: str, done: Done, before: Acknowledged, kept: list[Path]
    ) -> None:
        """What is not there any more is kept, and comes back from there."""
        now, output = self._now(), self._others.acknowledged
        databases, users = ({one.name for one in kind} for kind in (now.databases, now.users))
        before.databases &= output.databases  # what was dropped meanwhile may be either
        if not before.missing(self._users, now):
            return
        assert kept, (what, before.missing(self._users, now), done)
        newest = decode_metastore(read_meta_file(str(kept[-1])))
        databases |= {db.name for db in newest.databases}
        users |= {user.name for user in newest.users}
        assert output.databases <= databases, (what, output.databases - databases, done)
        assert output.users.keys() <= users, (what, output.users.keys() - users, done)
        assert done.code < 0 or str(kept[0]) in done.err, (what, done)
        back = self._run("restore", FORCE, kept[-1])
        assert back, back
        missing = self._missing(before)
        assert not missing, (what, missing, done)
        now = self._now()
        self._others.acknowledged = before
        before.databases |= output.databases & {db.name for db in now.databases}

    def _missing(self, output: Acknowledged) -> list[str]:
        """Data nodes hear late of what the meta nodes know, so what is missing is waited for."""
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while True:
            try:
                found = output.missing(self._users, self._now())
            except (NotAcknowledged, WireError) as error:
                found = [str(error)]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def _now(self) -> Metastore:
        self._leader()
        return self._meta.metastore()[1]

    # --- what goes wrong ----------------------------------------------------------------------

    def _with_fault(self, fault: str, words: tuple[object, ...]) -> Done:
        if fault == "kill":
            overwrites = words[1] == FORCE
            at = self._rng.choice(["overwrite.kept", "overwrite.set"] if overwrites else KILLS)
            at = f"{at}:{self._rng.randint(1, 5)}" if at.startswith("store.") else at
            return self._run(*words, env={VARIABLE: at})
        leader = str(self._leader())
        with MetaProxy(leader) as proxy:
            at = self._rng.randint(1, 25)
            seed = self._rng.random()
            if fault == "flip":
                proxy.reply = lambda a, r: flipped(a, r, seed) if proxy.scans == at else r
            elif fault == "flip in every look":
                proxy.reply = lambda a, r: flipped(a, r, seed)
            elif fault == "stale":
                proxy.reply = lambda a, r: (
                    r.with_body(self._stale) if a.is_reading and proxy.scans >= at else r
                )
            elif fault == "stood still":
                proxy.request = once(
                    lambda a: a.is_reading and proxy.scans == at, self._stand_still
                )
            elif fault == "in between":
                proxy.request = once(lambda a: a.is_setting, self._others.change)
            return self._run(*words, bind=proxy.address)

    def _leader(self) -> object:
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while True:
            with suppress(WireError):
                leader = self._meta.leader()
                self._meta.metastore_of(leader)
                return leader
            assert time.monotonic() < deadline, "no leader"
            time.sleep(0.2)

    def _stand_still(self) -> None:
        """The leader stops, another leads and is told something, and the first goes on."""
        pause, resume = (os.environ.get(f"SHARDKEEPER_LIVING_{w}") for w in ("PAUSE", "RESUME"))
        if not pause or not resume:
            return
        leader = str(self._leader())
        others = [
            node.addr for node in decode_metastore(self._stale).meta_nodes if node.addr != leader
        ]
        emit(pause, leader)
        try:
            if _leads_soon(others[0]):
                self._others.change()
        finally:
            emit(resume, leader)


def _leads_soon(address: str) -> bool:
    client = MetaClient(address, timeout_s=2)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with suppress(WireError):
            if client.leader():
                return True
        time.sleep(0.2)
    return False


def emit(command: str, address: str) -> None:
    words = [word.replace("{}", address) for word in shlex.split(command)]
    subprocess.run(words, check=True)


def why(done: Done) -> list[str]:
    return [f"    {line}" for line in done.err.splitlines() if "exited with error" in line]


def flipped(asked: Asked, answered: Answered, seed: float) -> Answered:
    if not asked.is_reading or not answered.body:
        return answered
    raw = bytearray(answered.body)
    raw[int(seed * len(raw))] ^= 1 << int(seed * 8000) % 8
    return answered.with_body(bytes(raw))


def once(when: Callable[[Asked], bool], do: Callable[[], object]) -> Callable[[Asked], Asked]:
    done = list[bool]()

    def request(asked: Asked) -> Asked:
        if when(asked) and not done:
            done.append(True)
            do()
        return asked

    return request


def main(restores: int, overwrites: int, seed: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="shardkeeper-living-") as directory,
        first_cluster(Path(directory)) as cluster,
        ForkServer() as fork_server,
    ):
        campaign = Campaign(cluster, fork_server, random.Random(seed), Path(directory))
        for line in chain(campaign.restores(restores), campaign.overwrites(overwrites)):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        for what, n in sorted(campaign.tally.items()):
            if n:
                sys.stdout.write(f"{n:4} {what}\n")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [40, 20, 1][len(given) :]))
