"""`make torture N=200`: kills, flips and cuts at random, each followed by the whole check.

    python -m tests.faults.torture 200 [seed]

N backups and N/2 restores die by kill -9 at a random moment, on a real influxd, an embedded
server and an embedded cluster in turn; the parts of a restore get about as many kills each,
however short they are. After each, the next run has to converge, `verify` to
find nothing, and every backup that was committed to come back point for point. Then N/2 bits
are flipped and N/2 files cut, each in a copy of good backups: every one has to be found, what
depends on it to be refused, and everything else to come back.

A seed repeats what is written, killed when and damaged where; the moment at which a kill meets
a process depends on the machine.
"""

from __future__ import annotations

import random
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.expectation import Expectation
from tests.faults.campaign import print_line, run_campaign
from tests.faults.moments import (
    ON_A_CLUSTER,
    ON_A_SERVER,
    Part,
    kill_after,
    kill_in_one,
    lengths,
    when,
)
from tests.faults.places import PLACES, SHARDS, Place
from tests.influxd import Influxd
from tests.processes import ForkServer
from tests.wire.commands import Done, shardkeeper
from tests.wire.points import databases, points

KILLS_PER_DIRECTORY = 4
MAX_STATES = 10
TRIES = 50
"""How often a run may end before its kill comes, in a row."""


@dataclass
class Testbed:
    """A place, the database in use, and how long undisturbed runs take there."""

    name: str
    place: Place
    expectation: Expectation
    backup_s: float = 0.3
    copying_s: float = 0.1
    restoring_s: dict[Part, float] = field(default_factory=dict[Part, float])
    """Of each part of a restore; empty until one was watched."""
    kills: int = 0


@dataclass
class Tally:
    """What happened so far."""

    where: Counter[str] = field(default_factory=Counter[str])

    def add(self, what: str) -> None:
        self.where[what] += 1

    def __str__(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in sorted(self.where.items()))


class Torture:
    """All of it, on some places; every failure is an AssertionError."""

    def __init__(
        self, places: dict[str, Place], fork_server: ForkServer, rng: random.Random
    ) -> None:
        self._rng = rng
        self._fork_server = fork_server
        self._testbeds = [
            Testbed(name, place, place.expectation()) for name, place in places.items()
        ]
        for testbed in self._testbeds:
            self._time_a_backup(testbed)

    # --- kills ----------------------------------------------------------------------------

    def backups(self, n: int) -> Iterator[str]:
        """Kill `n` backups; yields a line for each."""
        tally = Tally()
        for number in range(n):
            testbed = self._next_testbed(number)
            for _ in range(TRIES):
                testbed.place.write(testbed.expectation, self._some_shards())
                killed, where = self._kill_backup(testbed)
                if killed:
                    break
            else:
                raise AssertionError("no kill came in time")
            tally.add(f"{testbed.name}: {where}")
            testbed.expectation.check_all()
            testbed.expectation.back_up()
            assert testbed.expectation.tidy(), sorted(testbed.expectation.backups.iterdir())
            testbed.expectation.check_all()
            testbed.kills += 1
            yield f"backup {number + 1}/{n} on {testbed.name}: killed {where}"
        yield f"{n} backups killed ({tally})"

    def _kill_backup(self, testbed: Testbed) -> tuple[bool, str]:
        expectation = testbed.expectation
        before = {path.name for path in expectation.backups.iterdir()}
        full = ["-full"] if self._rng.random() < 0.3 else []
        run = self._fork_server.start(
            "backup", *expectation.flags, *full, "-db", expectation.database, expectation.backups
        )
        # Planning takes most of the time, so half of the kills are for what comes after it.
        sign = self._rng.choice((".shardkeeper.lock", "*.meta"))
        n_before = len(list(expectation.backups.glob(sign)))
        killed = kill_after(
            run,
            lambda: len(list(expectation.backups.glob(sign))) > n_before,
            self._rng.uniform(
                0, 1.1 * (testbed.backup_s if sign != "*.meta" else testbed.copying_s)
            ),
        )
        if not killed:
            done = run.wait()
            assert done, done
        new = {path.name for path in expectation.backups.iterdir()} - before
        archives = sum(name.endswith(".tar.gz") for name in new)
        if expectation.take_note():
            return killed, "after the commit"
        if not any(name.endswith(".meta") for name in new):
            return killed, "before anything was stored"
        return killed, f"with {archives} archives stored"

    def _time_a_backup(self, testbed: Testbed) -> None:
        """The first backup of a directory, which nothing disturbs: how long do its parts take?"""
        expectation = testbed.expectation
        run = self._fork_server.start(
            "backup", *expectation.flags, "-db", expectation.database, expectation.backups
        )
        locked = when(run, (expectation.backups / ".shardkeeper.lock").exists)
        stored = when(run, lambda: any(expectation.backups.glob("*.meta")))
        done = run.wait()
        assert done, done
        assert expectation.take_note()
        testbed.backup_s, testbed.copying_s = time.monotonic() - locked, time.monotonic() - stored

    def restores(self, n: int) -> Iterator[str]:
        """Kill `n` restores; yields a line for each."""
        tally = Tally()
        for number in range(n):
            testbed = self._next_testbed(number)
            kill = self._kill_cluster_restore if testbed.place.cluster else self._kill_restore
            for _ in range(TRIES):
                killed, where = kill(testbed)
                if killed:
                    break
            else:
                raise AssertionError("no kill came in time")
            tally.add(f"{testbed.name}: {where}")
            testbed.expectation.check_all()
            testbed.kills += 1
            yield f"restore {number + 1}/{n} on {testbed.name}: killed {where}"
        yield f"{n} restores killed ({tally})"

    def _kill_restore(self, testbed: Testbed) -> tuple[bool, str]:
        expectation, target = testbed.expectation, testbed.place.target
        copy = f"copy-{secrets.token_hex(5)}"
        before = databases(target)
        flags = ("-db", expectation.database, "-newdb", copy)
        killed, part = self._kill_restoring(testbed, *testbed.place.target_flags, *flags)
        there = copy in databases(target)
        assert databases(target) - {copy} == before
        found, complete = "the target untouched", False
        if there:
            complete = points(target, copy) == expectation.now()
            found = "all points there" if complete else "some points there"
        if killed:
            again = shardkeeper("restore", *testbed.place.target_flags, *flags, expectation.backups)
            if again.code == 14:  # it was complete when it was killed
                assert complete, again
            else:
                assert again, again
            assert not list(expectation.backups.glob(".shardkeeper.server-restore-*"))
        assert points(target, copy) == expectation.now()
        target.drop_database(copy)
        return killed, f"{part}, {found}"

    def _kill_cluster_restore(self, testbed: Testbed) -> tuple[bool, str]:
        """The cluster itself is restored into, after its database was dropped."""
        cluster, expectation = testbed.place.cluster, testbed.expectation
        assert cluster is not None
        expected = expectation.now()
        newest = max(expectation.states)
        assert expected == expectation.states[newest]
        testbed.place.source.drop_database(expectation.database)
        flags = (*expectation.flags, "-timeout", "5s", "-db", expectation.database)
        killed, part = self._kill_restoring(testbed, *flags)
        found = "nothing created"
        if killed:
            again: Done = shardkeeper("restore", *flags, expectation.backups)
            if "is complete now" in again.err:
                found = "every copy proved"
            elif "removed first" in again.err:
                found = "something created"
            elif again.code == 14:
                found = "all done"
            else:
                assert again, again
        assert points(testbed.place.source, expectation.database) == expected
        assert not list(expectation.backups.glob(".shardkeeper.restore-*"))
        known = {at.shard_id for at in cluster.group.metastore.places()}
        assert {shard for node in cluster.data for shard in node.store.shards()} <= known
        return killed, f"{part}, {found}"

    def _kill_restoring(self, testbed: Testbed, *flags: object) -> tuple[bool, str]:
        """Whether the kill came in time, and which part of the restore it met."""
        run = self._fork_server.start("restore", *flags, testbed.expectation.backups)
        backups = testbed.expectation.backups
        if not testbed.restoring_s:  # the first one is watched to its end
            parts = ON_A_CLUSTER if testbed.place.cluster else ON_A_SERVER
            testbed.restoring_s = lengths(run, backups, parts)
            killed, part = False, ""
        else:
            killed, part = kill_in_one(run, backups, testbed.restoring_s, self._rng)
        if not killed:
            done = run.wait()
            assert done, done
        return killed, part

    def _next_testbed(self, number: int) -> Testbed:
        """The places take turns; each starts a new directory every few kills."""
        testbed = self._testbeds[number % len(self._testbeds)]
        if testbed.kills >= KILLS_PER_DIRECTORY or len(testbed.expectation.states) > MAX_STATES:
            testbed.place.source.drop_database(testbed.expectation.database)
            shutil.rmtree(testbed.expectation.backups)
            testbed.expectation = testbed.place.expectation()
            self._time_a_backup(testbed)
            testbed.kills = 0
            if testbed.place.cluster is not None:
                for node in testbed.place.cluster.meta:
                    node.leases.forget()  # another directory's run would be waited for
        return testbed

    def _some_shards(self) -> list[int]:
        return sorted(self._rng.sample(range(SHARDS), self._rng.randint(1, SHARDS)))

    # --- damage ---------------------------------------------------------------------------

    def damage(self, how: str, n: int) -> Iterator[str]:
        """Flip a bit or cut a file, `n` times; yields a line for each."""
        tally = Tally()
        good = self._testbeds[0].expectation
        for number in range(n):
            if number % 25 == 0:
                good = self._good_backups(self._testbeds[number // 25 % len(self._testbeds)])
            kind = self._rng.choice(("*.tar.gz", "*.manifest", "*.manifest.copy", "*.meta"))
            name = self._rng.choice(sorted(path.name for path in good.backups.glob(kind)))
            copy = good.backups.with_name(f"{good.backups.name}-{how}")
            shutil.copytree(good.backups, copy)
            what = self._harm(copy / name, how)
            good_here = Expectation(
                good.source, good.flags, good.database, copy, good.target, good.states
            )
            refused, restored = _check_damage(good_here, name)
            shutil.rmtree(copy)
            tally.add(name.split(".", 1)[1].split(".")[-1])
            yield (
                f"{how} {number + 1}/{n}: {what}: found, {refused} states refused, "
                f"{restored} restored"
            )
        yield f"{n} times {how}, all found ({tally})"

    def _harm(self, path: Path, how: str) -> str:
        raw = bytearray(path.read_bytes())
        if how == "flip":
            at, bit = self._rng.randrange(len(raw)), self._rng.randrange(8)
            raw[at] ^= 1 << bit
            path.write_bytes(raw)
            return f"bit {bit} of byte {at} of {path.name}"
        at = self._rng.randrange(len(raw))
        path.write_bytes(raw[:at])
        return f"{path.name} after byte {at} of {len(raw)}"

    def _good_backups(self, testbed: Testbed) -> Expectation:
        """Four backups, full and incremental."""
        expectation = testbed.place.expectation()
        for shards in ([0, 1, 2], [1], [0, 2], [2]):
            testbed.place.write(expectation, shards)
            expectation.back_up()
        expectation.check_all()
        return expectation


def _check_damage(expectation: Expectation, harmed: str) -> tuple[int, int]:
    """`verify` names the file; every state either needs it and is refused, or comes back."""
    found = shardkeeper("verify", expectation.backups)
    assert found.code == 13, (harmed, found)
    assert harmed in found.out, (harmed, found)
    refused = restored = 0
    for name, expected in expectation.states.items():
        if harmed in _needed(expectation, name):
            done = shardkeeper(
                "restore", *_to(expectation), "-db", expectation.database, "-newdb", "never",
                "-as-of", name, expectation.backups,
            )  # fmt: skip
            assert done.code == 13, (harmed, name, done)
            refused += 1
        else:
            assert expectation.restored(name) == expected, (harmed, name)
            restored += 1
    assert "never" not in databases(expectation.target)
    return refused, restored


def _to(expectation: Expectation) -> tuple[str, ...]:
    target = expectation.target
    return ("-host", target.bind_addr, "-http", f"http://{target.http_addr}")


def _needed(expectation: Expectation, name: str) -> set[str]:
    """Files that no other file replaces: each shard's newest archive until then, the meta file.

    A manifest that is damaged is read from its copy.
    """
    newest: dict[str, str] = {}
    for state in sorted(expectation.states):
        if state <= name:
            for path in expectation.backups.glob(f"{state}.s*.tar.gz"):
                newest[path.name.split(".")[1]] = path.name
    return {f"{name}.meta", *newest.values()}


def torture(
    kills: int,
    *,
    seed: int,
    directory: Path,
    names: tuple[str, ...] = tuple(PLACES),
) -> Iterator[str]:
    """Run everything; yields what to print, and raises AssertionError at the first failure."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        fork_server = stack.enter_context(ForkServer())
        places = {
            name: stack.enter_context(PLACES[name](directory / name.replace(" ", "-")))
            for name in names
        }
        run = Torture(places, fork_server, rng)
        yield from run.backups(kills)
        yield from run.restores(kills // 2)
        yield from run.damage("flip", kills // 2)
        yield from run.damage("cut", kills // 2)


def main() -> int:
    """Print progress, the seed and a summary; 1 if something did not hold."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32)
    names = tuple(name for name in PLACES if name != "influxd" or Influxd.installed())
    if len(names) < len(PLACES):
        print_line("influxd is not installed: on embedded servers only")
    print_line(f"seed {seed}: make torture N={kills} SEED={seed} repeats it")
    return run_campaign(
        "torture", seed, lambda at: torture(kills, seed=seed, directory=at, names=names)
    )


if __name__ == "__main__":
    sys.exit(main())
