"""`make peers N=50 M=30`: one node of a cluster in trouble while it is backed up and restored into.

    python -m tests.faults.peers 50 30 [seed]

Of a cluster of three data nodes and three meta nodes one is stopped, made to stand still
(`kill -STOP`) or slowed down to a hundred bytes a second after the first few, at a random moment.
The meta node may be the one that the run was told of. Then

- shards that other nodes have must be saved, within the time that a run takes alone and one
  time-out; only shards of that node alone may fail, and are named;
- a restore, whose copies must be on every owner, ends with 0 while any two meta nodes are there,
  and when the data node goes on within its time-out; else it fails in that same time, takes back
  what it can, and the same command ends it once the node is back. That holds for a slow leader,
  too, without which nothing can be changed.

The cluster is an embedded one, or the real one that `BIND=` names, with commands that stop,
start, pause and resume a node (`STOP_NODE=` and so on); `{}` in them becomes the TCP address of a
data node or the HTTP address of a meta node. What is slow is so by a proxy, which `-map` leads to.

A seed repeats what is chosen; when it happens depends on the machine.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resources.devcluster.cluster import DevCluster
from tests.faults.trouble import Nodes, nodes_of
from tests.wire.any_cluster import AnyCluster, first_cluster

START_S, HOUR_S, SHARDS, POINTS = 1_600_041_600, 3600, 8, 40
TIMEOUT_S = 10.0
SLACK_S = 6.0
"""For what the machine does besides."""
KINDS = ("stopped", "standing still", "slow")
SAVED = re.compile(r"Backing up node (\S+), db \S+, rp \S+, shard (\d+)\.\.\. Done")
FAILED = re.compile(r"^shard (\d+) failed", re.MULTILINE)
ALL = "every shard"


@dataclass
class Ran:
    """A command that has ended, and when it said what."""

    code: int
    seconds: float
    out: str
    saved: dict[int, tuple[str, float]] = field(default_factory=dict[int, tuple[str, float]])
    """By shard, from which node, and after how many seconds."""

    def failed(self) -> set[int]:
        return {int(shard) for shard in FAILED.findall(self.out)}


def _run(*args: object) -> Ran:
    main = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    argv = [sys.executable, "-c", main, *map(str, args)]
    began = time.monotonic()
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    lines: list[str] = []
    saved: dict[int, tuple[str, float]] = {}
    for line in process.stdout:
        lines.append(line)
        if found := SAVED.search(line):
            saved[int(found[2])] = found[1], time.monotonic() - began
    return Ran(process.wait(), time.monotonic() - began, "".join(lines), saved)


@dataclass
class Campaign:
    """One cluster, one database with one owner for each shard, and one with two."""

    cluster: AnyCluster
    nodes: Nodes
    rng: random.Random
    out: Path
    say: Callable[[str], None]
    backup_s: float = 0.0
    restore_s: float = 0.0
    """What one takes alone, measured right before: a busy machine is slower from time to time."""
    late: list[float] = field(default_factory=list[float])
    """By how much more than alone the other nodes' shards took."""
    names: dict[int, str] = field(default_factory=dict[int, str])

    def prepare(self) -> None:
        for copies in (1, 2):
            name = self.names[copies] = self.cluster.fresh(f"rf{copies}")
            self.cluster.query(
                f'CREATE DATABASE "{name}" WITH DURATION INF REPLICATION {copies} '
                "SHARD DURATION 1h NAME rp"
            )
            lines = [
                f"m,host=h{i} v={i} {START_S + hour * HOUR_S + i}"
                for hour in range(SHARDS)
                for i in range(POINTS)
            ]
            self.cluster.write(name, "\n".join(lines))

    def _flags(self) -> list[object]:
        return ["-timeout", f"{TIMEOUT_S}s"]

    def _backup(self, copies: int, flags: list[str], name: str) -> Ran:
        directory = self.out / name
        directory.mkdir(mode=0o700)
        bind = self.rng.choice(self.nodes.meta)
        args = ["-bind", bind, *self._flags(), *flags]
        return _run(*args, "backup", "-full", "-db", self.names[copies], directory)

    def _restore(self, name: str, flags: list[str], bind: str = "") -> Ran:
        to = f"{self.names[2]}_{name}"
        args = ["-bind", bind or self.rng.choice(self.nodes.meta), *self._flags(), *flags]
        source = self.out / "source"
        if not source.exists():
            source.mkdir(mode=0o700)
            assert not _run(*args, "backup", "-db", self.names[2], source).code
        return _run(*args, "restore", "-db", self.names[2], "-newdb", to, source)

    def victim(self) -> tuple[str, str, str]:
        kind = self.rng.choice(KINDS)
        what = self.rng.choice(("data", "meta"))
        return kind, what, self.rng.choice(self.nodes.data if what == "data" else self.nodes.meta)

    # --- one run ----------------------------------------------------------------------------

    def one_backup(self, at: int) -> str:
        """Returns what is wrong; empty: nothing."""
        kind, what, victim = self.victim()
        copies = self.rng.choice((1, 1, 2))
        self.backup_s = self._backup(copies, [], f"alone{at}").seconds
        shutil.rmtree(self.out / f"alone{at}")
        after_s = self.rng.uniform(0.4, 1.0) * self.backup_s
        with self.nodes.trouble(kind, victim, after_s, 600) as flags:
            ran = self._backup(copies, flags, f"b{at}")
        shutil.rmtree(self.out / f"b{at}")
        elsewhere = [when for node, when in ran.saved.values() if node != victim]
        late = max(elsewhere, default=0.0) - self.backup_s
        self.late.append(late)
        self.say(
            f"backup {at}: {what} node {victim} {kind} after {after_s:.1f} s, {copies} copies: "
            f"exit {ran.code} in {ran.seconds:.1f} s, {len(ran.saved)} saved, "
            f"{len(ran.failed())} failed, others {late:+.1f} s beside {self.backup_s:.1f} s alone"
        )
        return self._wrong(ran, what, victim, copies, late)

    def _wrong(self, ran: Ran, what: str, victim: str, copies: int, late: float) -> str:
        places = {
            place.shard_id: {owner.node_id for owner in place.shard.owners}
            for place in self.cluster.metastore().places()
            if place.database == self.names[copies]
        }
        ids = {node.tcp_addr: node.id for node in self.cluster.nodes}
        may_fail = {
            int(i) for i, owners in places.items() if what == "data" and owners == {ids[victim]}
        }
        missing = {int(i) for i in places} - ran.saved.keys()
        if late > TIMEOUT_S + SLACK_S + self.backup_s:
            return f"others' shards took {late:.1f} s more than alone"
        if missing - may_fail:
            return f"shards {sorted(missing - may_fail)} are not saved:\n{ran.out[-3000:]}"
        if missing != ran.failed() or ran.code != (3 if missing else 0):
            return f"shards {sorted(missing)} are missing, exit {ran.code}:\n{ran.out[-3000:]}"
        return ""

    def one_restore(self, at: int) -> str:
        """Returns what is wrong; empty: nothing."""
        kind, what, victim = self.victim()
        alone = self._restore(f"alone{at}", [])
        assert not alone.code, alone.out
        self.cluster.query(f'DROP DATABASE "{self.names[2]}_alone{at}"')
        self.restore_s = alone.seconds
        short = what == "data" and kind != "slow" and self.rng.random() < 0.5
        after_s = self.rng.uniform(0.4, 1.0) * self.restore_s
        name, bind = f"r{at}", self.rng.choice(self.nodes.meta)
        lasts_s = TIMEOUT_S / 3 if short else 600
        with self.nodes.trouble(kind, victim, after_s, lasts_s) as flags:
            ran = self._restore(name, flags, bind)
        late = ran.seconds - self.restore_s
        self.late.append(late)
        self.say(
            f"restore {at}: {what} node {victim} {kind}{' for a moment' if short else ''} after "
            f"{after_s:.1f} s: exit {ran.code} in {ran.seconds:.1f} s ({late:+.1f} s)"
        )
        leads = kind == "slow" and what == "meta"  # perhaps
        if ran.code and ((what == "meta" and not leads) or (short and kind == "standing still")):
            return f"exit {ran.code}:\n{ran.out[-3000:]}"
        if late > 2 * TIMEOUT_S + 2 * SLACK_S + self.restore_s:
            return f"it took {late:.1f} s more than alone:\n{ran.out[-3000:]}"
        if ran.code:
            again = self._restore(name, [], bind)
            if again.code and "it is complete now" not in again.out:
                return f"again: exit {again.code}:\n{ran.out[-2000:]}\n{again.out[-3000:]}"
        to = f"{self.names[2]}_{name}"
        [result] = self.cluster.query("SELECT count(v) FROM m", database=to)
        count = result["series"][0]["values"][0][1]
        self.cluster.query(f'DROP DATABASE "{to}"')
        return "" if count == SHARDS * POINTS else f"{count} points are there"


def campaign(
    cluster: AnyCluster,
    nodes: Nodes,
    n: int,
    m: int,
    seed: int,
    out: Path,
    say: Callable[[str], None],
) -> int:
    """Run n backups and m restores; returns how many went wrong."""
    it = Campaign(cluster, nodes, random.Random(seed), out, say)
    it.prepare()
    wrong = 0
    for what, many, one in (("backup", n, it.one_backup), ("restore", m, it.one_restore)):
        it.late.clear()
        for at in range(1, many + 1):
            problem = one(at)
            if problem:
                wrong += 1
                say(f"WRONG: {what} {at}: {problem}")
        if it.late:
            say(
                f"{many} {what}s: the rest took {statistics.median(it.late):+.1f} s (median), "
                f"{max(it.late):+.1f} s (most) beside what it takes alone, with a time-out of "
                f"{TIMEOUT_S:.0f} s"
            )
    say(f"{n} backups, {m} restores, {wrong} wrong; seed {seed}")
    return wrong


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    n, m = (int(text) for text in [*sys.argv[1:3], "10", "6"][:2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else secrets.randbits(32)
    with tempfile.TemporaryDirectory() as directory:
        if "SHARDKEEPER_WIRE_BIND" in os.environ:
            with first_cluster(Path(directory) / "cluster") as cluster:
                nodes = nodes_of(cluster, None)
                wrong = campaign(cluster, nodes, n, m, seed, Path(directory), _say)
        else:
            with DevCluster(Path(directory) / "cluster", meta_nodes=3) as embedded:
                cluster = AnyCluster(embedded.meta[0].http_addr, ours=True)
                nodes = nodes_of(cluster, embedded)
                wrong = campaign(cluster, nodes, n, m, seed, Path(directory), _say)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
