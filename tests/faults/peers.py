"""`make peers N=50 M=30`: one node of a cluster in trouble while it is backed up and restored into.

    python -m tests.faults.peers 50 30 [seed]

Of a cluster of three data nodes and three meta nodes one is stopped, made to stand still
(`kill -STOP`) or slowed down to a hundred bytes a second after the first few, at a random moment
of the run, or before it. The meta node may be the one that the run was told of. A run that ends
before its trouble begins does not count. Then

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
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from resources.embedded.cluster import EmbeddedCluster
from tests.faults.trouble import Nodes, nodes_of
from tests.wire.any_cluster import AnyCluster, ClusterRefused, first_cluster

T = TypeVar("T")

START_S, HOUR_S, HOURS, POINTS = 1_600_041_600, 3600, 40, 40
TIMEOUT_S = 10.0
NAMED_FIRST = 3
"""Lines of a command that may come before it has heard of the other meta nodes."""
SLACK_S = 6.0
"""For what the machine does besides."""
MAX_S = 2 * (TIMEOUT_S + SLACK_S)
"""By how much longer than alone a restore may take that waits for a node, or is undone."""
KINDS = ("stopped", "standing still", "slow")
SAVED = re.compile(r"Backing up node (\S+), db \S+, rp \S+, shard (\d+)\.\.\. Done")
RESTORED = re.compile(r"^((?:Copying data to \S+\.\.\. )+)Done\. Restored shard (\d+) into")
FAILED = re.compile(r"^shard (\d+) failed", re.MULTILINE)


@dataclass
class Ran:
    """A command that has ended, and when it said what."""

    code: int
    seconds: float
    out: str
    heard: list[float]
    """After how many seconds each line came."""
    done: dict[int, tuple[str, float]]
    """By shard that was saved or restored, on which nodes, and after how many seconds."""

    def failed(self) -> set[int]:
        return {int(shard) for shard in FAILED.findall(self.out)}

    def silences(self) -> str:
        """The longest times without a line, and the lines that ended them."""
        lines = [*self.out.splitlines(), f"(exit {self.code})"]
        ends = [*self.heard, self.seconds]
        gaps = [(end - begin, at) for at, (begin, end) in enumerate(pairwise([0.0, *ends]))]
        longest = sorted(gaps, reverse=True)[:4]
        return "; ".join(f"{gap:.1f} s before {lines[at][:150]!r}" for gap, at in longest)

    def done_without(self, node: str) -> list[float]:
        return [when for nodes, when in self.done.values() if node not in nodes]


@dataclass
class Moment:
    """When trouble begins: some time after a line of what the command says; 0: before it runs."""

    line: int
    after_s: float
    come: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, alone: Ran, rng: random.Random) -> Moment:
        """Any moment of a run that goes as this one did, or before it."""
        if rng.random() < 0.2:
            return cls(0, 0.0)
        at = rng.uniform(alone.heard[0], alone.seconds - 0.3)
        line = bisect_right(alone.heard, at)
        return cls(line, at - alone.heard[line - 1])

    def heard(self, n_lines: int) -> None:
        if n_lines == self.line:
            threading.Timer(self.after_s, self.come.set).start()

    def __str__(self) -> str:
        return f"{self.after_s:.1f} s after line {self.line}" if self.line else "before it"


def _run(*args: object, moment: Moment | None = None) -> Ran:
    main = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    argv = [sys.executable, "-uc", main, *map(str, args)]
    began = time.monotonic()
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    lines: list[str] = []
    heard: list[float] = []
    done: dict[int, tuple[str, float]] = {}
    for line in process.stdout:
        lines.append(line)
        heard.append(time.monotonic() - began)
        if moment is not None:
            moment.heard(len(lines))
        if (found := SAVED.search(line)) or (found := RESTORED.search(line)):
            done[int(found[2])] = found[1], heard[-1]
    return Ran(process.wait(), time.monotonic() - began, "".join(lines), heard, done)


@dataclass
class Campaign:
    """One cluster, one database with one owner for each shard, and one with two."""

    cluster: AnyCluster
    nodes: Nodes
    rng: random.Random
    out: Path
    say: Callable[[str], None]
    late: list[float] = field(default_factory=list[float])
    """By how much more than alone the other nodes' shards took; alone is measured right before, and
    once more right after if they seem to be late: a busy machine is slower from time to time."""
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
                for hour in range(HOURS)
                for i in range(POINTS)
            ]
            self.cluster.write(name, "\n".join(lines))

    def _flags(self, moment: Moment | None, flags: Sequence[str]) -> list[object]:
        """One meta node is named; all, where the trouble may be there before any is asked."""
        meta = self.rng.sample(self.nodes.meta, 3)
        if moment is not None and moment.line > NAMED_FIRST:
            meta = meta[:1]
        return ["-bind", ",".join(meta), "-timeout", f"{TIMEOUT_S}s", *flags]

    def _backup(
        self, copies: int, name: str, moment: Moment | None = None, flags: Sequence[str] = ()
    ) -> Ran:
        directory = self.out / name
        directory.mkdir(mode=0o700)
        args = [*self._flags(moment, flags), "backup", "-full", "-db", self.names[copies]]
        ran = _run(*args, directory, moment=moment)
        shutil.rmtree(directory)
        return ran

    def _restore(self, to: str, moment: Moment | None = None, flags: Sequence[str] = ()) -> Ran:
        source = self.out / "source"
        if not source.exists():
            source.mkdir(mode=0o700)
            args = [*self._flags(None, ()), "backup", "-db", self.names[2], source]
            assert not _run(*args).code
        args = [*self._flags(moment, flags), "restore", "-db", self.names[2], "-newdb", to]
        return _run(*args, source, moment=moment)

    def victim(self) -> tuple[str, str, str]:
        kind = self.rng.choice(KINDS)
        what = self.rng.choice(("data", "meta"))
        return kind, what, self.rng.choice(self.nodes.data if what == "data" else self.nodes.meta)

    # --- one run ----------------------------------------------------------------------------

    def one_backup(self, at: int) -> str | None:
        """Returns what is wrong; empty: nothing; None: it ended before its trouble began."""
        kind, what, victim = self.victim()
        copies = self.rng.choice((1, 1, 2))
        alone = self._backup(copies, f"alone{at}")
        moment = Moment.of(alone, self.rng)
        with self.nodes.trouble(kind, victim, moment.come, 600) as trouble:
            if not moment.line:
                moment.come.set()
                trouble.there.wait(60)
            ran = self._backup(copies, f"b{at}", moment, trouble.flags)
            if not trouble.begun.is_set():
                return None
        alone_s, others_s = alone.seconds, max(ran.done_without(victim), default=0.0)
        if others_s - alone_s > TIMEOUT_S + SLACK_S:  # is it the machine that was busy?
            alone_s = max(alone_s, self._backup(copies, f"after{at}").seconds)
        late = others_s - alone_s
        self.late.append(late)
        self.say(
            f"backup {at}: {what} node {victim} {kind} {moment}, {copies} copies: "
            f"exit {ran.code} in {ran.seconds:.1f} s, {len(ran.done)} saved, "
            f"{len(ran.failed())} failed, others {late:+.1f} s beside {alone_s:.1f} s alone"
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
        missing = {int(i) for i in places} - ran.done.keys()
        if late > TIMEOUT_S + SLACK_S:
            return f"others' shards took {late:.1f} s more than alone"
        if missing - may_fail:
            return f"shards {sorted(missing - may_fail)} are not saved:\n{ran.out[-3000:]}"
        if missing != ran.failed() or ran.code != (3 if missing else 0):
            return f"shards {sorted(missing)} are missing, exit {ran.code}:\n{ran.out[-3000:]}"
        return ""

    def one_restore(self, at: int) -> str | None:
        """Returns what is wrong; empty: nothing; None: it ended before its trouble began."""
        kind, what, victim = self.victim()
        name = f"{self.names[2]}_{at}_{secrets.token_hex(2)}"
        alone = self._restored_alone(name)
        short = what == "data" and kind != "slow" and self.rng.random() < 0.5
        lasts_s = TIMEOUT_S / 3 if short else 600
        moment = Moment.of(alone, self.rng)
        with self.nodes.trouble(kind, victim, moment.come, lasts_s) as trouble:
            if not moment.line:
                moment.come.set()
                trouble.there.wait(60)
            ran = self._restore(name, moment, trouble.flags)
            begun = trouble.begun.is_set()
        alone_s, others_s = alone.seconds, max(ran.done_without(victim), default=0.0)
        if others_s - alone_s > TIMEOUT_S + SLACK_S or ran.seconds - alone_s > MAX_S:
            alone_s = max(alone_s, self._restored_alone(name).seconds)
        late, others = ran.seconds - alone_s, others_s - alone_s
        for what_ran, it in (("alone", alone), ("in trouble", ran)):
            if it.seconds > TIMEOUT_S:
                self.say(f"  {what_ran} {it.seconds:.1f} s: {it.silences()}")
        if begun:
            self.late.append(others)
            self.say(
                f"restore {at}: {what} node {victim} {kind}{' for a moment' if short else ''} "
                f"{moment}: exit {ran.code} in {ran.seconds:.1f} s ({late:+.1f} s), "
                f"{len(ran.done)} restored, {len(ran.done_without(victim))} elsewhere "
                f"({others:+.1f} s beside {alone_s:.1f} s alone)"
            )
        wrong = self._wrong_restore(ran, name, kind, what, short, late, others)
        if wrong:
            return wrong
        count = _in_the_end(partial(self._count, name))
        self._drop(name)
        if count != HOURS * POINTS:
            return f"{count} points are there"
        return "" if begun else None

    def _restored_alone(self, name: str) -> Ran:
        ran = self._restore(f"{name}_alone")
        assert not ran.code, ran.out
        self._drop(f"{name}_alone")
        return ran

    def _count(self, database: str) -> int:
        [result] = self.cluster.query("SELECT count(v) FROM m", database=database)
        return result["series"][0]["values"][0][1]

    def _drop(self, database: str) -> None:
        _in_the_end(partial(self.cluster.query, f'DROP DATABASE "{database}"'))

    def _wrong_restore(
        self, ran: Ran, name: str, kind: str, what: str, short: bool, late: float, others: float
    ) -> str:
        leads = kind == "slow" and what == "meta"  # perhaps
        if ran.code and ((what == "meta" and not leads) or (short and kind == "standing still")):
            return f"exit {ran.code}:\n{ran.out[-3000:]}"
        if others > TIMEOUT_S + SLACK_S:
            return f"others' shards took {others:.1f} s more than alone:\n{ran.out[-3000:]}"
        if late > MAX_S:
            return f"it took {late:.1f} s more than alone:\n{ran.out[-3000:]}"
        if ran.code:
            again = self._restore(name)
            if again.code and "it is complete now" not in again.out:
                return f"again: exit {again.code}:\n{ran.out[-2000:]}\n{again.out[-3000:]}"
        return ""


def _in_the_end(ask: Callable[[], T]) -> T:
    """Ask a data node until it does not refuse.

    It keeps connections to a data node that has restarted, which fail once each, and hears of
    changes from one meta node; if that has died it needs a moment to find another.
    """
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except ClusterRefused:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.3)


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
            while (problem := one(at)) is None:
                continue
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
            with EmbeddedCluster(Path(directory) / "cluster", meta_nodes=3) as embedded:
                cluster = AnyCluster(embedded.meta[0].http_addr, ours=True)
                nodes = nodes_of(cluster, embedded)
                wrong = campaign(cluster, nodes, n, m, seed, Path(directory), _say)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
