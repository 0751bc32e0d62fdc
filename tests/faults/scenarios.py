"""Runs that are interrupted, each with what must hold afterwards.

Nothing that a scenario backs up changes while its runs are at work, so whatever is committed holds
what is there. `settle` is called once all of them have ended, however they did.
"""

from __future__ import annotations

import random
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from resources.repository.storage.lock import LEASE_VARIABLE
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.expectation import Expectation
from tests.faults.interruptions import LEASE_S, SIGNALS
from tests.faults.places import SHARDS, Place
from tests.processes import ForkServer
from tests.wire.commands import Done
from tests.wire.points import Points, databases, points

Args: TypeAlias = tuple[object, ...]
KILLED = -9
REFUSED = (11, 14)
OF_A_BACKUP = re.compile(r"([0-9]{8}T[0-9]{6}Z)\.(meta|manifest|manifest\.copy|s[0-9]+\.tar\.gz)")
ON_RECORD = re.compile(r"\.shardkeeper\.(merge|restore|server-restore)-.*\.json")
ENV: Mapping[str, str] = {LEASE_VARIABLE: str(LEASE_S)}
SILENT = ("-timeout", "10s")
"""How long a server may be silent: it keeps a shard to itself while one who sends it is stopped.

A run that goes on there waits so long a few times over, with a minute each for some minutes.
"""
DEAD_BEFORE = 0.4
"""How often an earlier run has died, so that this one has to clean up."""


@dataclass(frozen=True)
class End:
    """How one run ended; `disturbed` if it is the one that was interrupted."""

    args: Args
    done: Done
    disturbed: bool = False

    @property
    def is_backup(self) -> bool:
        return "backup" in self.args

    @property
    def is_mute(self) -> bool:
        """Whether it was interrupted in a restore and says nothing of what it has made."""
        has_begun = "shards mapped" in self.done.out
        is_bare = self.done.err.endswith("\ninterrupted\n") and "rolled back" not in self.done.err
        return self.done.code == 130 and has_begun and is_bare

    @property
    def output(self) -> str:
        return self.done.out + self.done.err


class Scenario:
    """A run to be interrupted.

    Args:
        expectation: what is committed so far, and what each of it gives back.
        here: where undisturbed runs come from.
    """

    points_at: tuple[str, ...] = ()
    """How the names of the failpoints begin that it passes."""

    def __init__(
        self, place: Place, expectation: Expectation, here: ForkServer, rng: random.Random
    ) -> None:
        self.place = place
        self.expectation = expectation
        self.here = here
        self.rng = rng
        self.backups = expectation.backups
        self.dead = rng.random() < DEAD_BEFORE
        self.before = databases(place.target) | databases(place.source)

    def __str__(self) -> str:
        return type(self).__name__.lower() + (" after a dead one" if self.dead else "")

    @classmethod
    def failpoints(cls) -> list[str]:
        return [
            name
            for name in FAILPOINTS
            if name.startswith(cls.points_at) and not name.endswith("rollback")
        ]

    def prepare(self) -> None:
        """Have something to do, before the run is started."""

    def command(self) -> Args:
        raise NotImplementedError

    def beside(self) -> Args:
        """What the other host does at the same time."""
        return self.command()

    def settle(self, ends: list[End]) -> None:
        raise NotImplementedError

    def run(self, *args: object, env: Mapping[str, str] | None = None) -> Done:
        """An undisturbed run; its lease is the usual one, unless `env` has another."""
        return self.here.start(*args, env=env).wait()

    def die(self, at: str, *args: object) -> None:
        """A run that dies at a failpoint, if it comes by there."""
        self.run(*args, env={**ENV, VARIABLE: at})
        self.note_commits([])

    def backup(self, *flags: str) -> Args:
        expectation = self.expectation
        return ("backup", *expectation.flags, *flags, "-db", expectation.database, self.backups)

    def verify(self) -> Args:
        return ("verify", self.backups)

    def commit_what_is_there(self) -> Points:
        """Have a backup of what is there, if there is none; returns its points."""
        now = self.expectation.now()
        if (
            not self.expectation.states
            or self.expectation.states[max(self.expectation.states)] != now
        ):
            self.commit()
        return now

    def commit(self) -> None:
        """Make an undisturbed backup."""
        done = self.run(*self.backup())
        assert done, done
        self.note_commits([])

    # --- what holds for all of them -----------------------------------------------------------

    def check_ends(self, ends: list[End]) -> None:
        """Insist that each ended as it may."""
        for end in ends:
            may = {0, *REFUSED}
            if end.disturbed:
                may |= {130, KILLED}
                if not end.output:  # before it could hear signals
                    may |= {-number for number in SIGNALS}
            ahead = end.done.code == 1 and "in the future" in end.done.err
            held = end.done.code == 1 and "is neither handed out nor taken in" in end.done.err
            assert end.done.code in may or ahead or held, end
            assert "Traceback" not in end.done.err, end

    def note_commits(self, ends: list[End]) -> None:
        """Insist that exactly those backups are new that runs have claimed."""
        new = self.expectation.committed - set(self.expectation.states)
        for name in new:
            self.expectation.states[name] = self.expectation.now()
        if not ends:
            return
        surely = sum(
            end.is_backup and (end.done.code == 0 or "complete all the same" in end.done.err)
            for end in ends
        )
        maybe = sum(end.done.code == KILLED or "-repair" in end.args for end in ends)
        assert surely <= len(new) <= surely + maybe, (new, ends)

    def check_all_named(self, ends: list[End]) -> Done:
        """Insist that whatever is left is in a message, or in what `verify` says."""
        done = self.run(*self.verify())
        output = done.err + done.out + "".join(end.output for end in ends)
        for path in self.backups.iterdir():
            match = OF_A_BACKUP.fullmatch(path.name)
            if match and not (self.backups / f"{match[1]}.manifest").exists():
                assert match[1] in output, (path.name, output)
            if ON_RECORD.fullmatch(path.name):
                assert path.name in output, (path.name, output)
        errors = done.err + "".join(end.done.err for end in ends)
        for name in self.new_databases():
            named = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", errors)
            assert named or self.is_whole(name), (name, errors)
        for end in ends:
            assert not end.is_mute, end
        return done

    def is_whole(self, name: str) -> bool:
        """Whether a database holds all that a restore brings."""
        return points(self.place.target, name) == self.expectation.now()

    def new_databases(self) -> set[str]:
        return (databases(self.place.target) | databases(self.place.source)) - self.before

    def check_tidy(self) -> None:
        assert self.expectation.tidy(), sorted(path.name for path in self.backups.iterdir())

    def check_all(self) -> None:
        self.expectation.check_all()


class Backup(Scenario):
    points_at = ("backup.", "store.")

    def prepare(self) -> None:
        shards = sorted(self.rng.sample(range(SHARDS), self.rng.randint(1, SHARDS)))
        self.place.write(self.expectation, shards)
        if self.dead:
            self.die("backup.before-commit", *self.backup("-full"))
            if self.rng.random() < 0.3:
                self.die("backup.sweeping", *self.backup())

    def command(self) -> Args:
        return self.backup(*(["-full"] if self.rng.random() < 0.3 else []))

    def beside(self) -> Args:
        return self.rng.choice(
            (
                self.backup(),
                self.verify(),
                ("verify", "-repair", *self.expectation.flags, self.backups),
            )
        )

    def settle(self, ends: list[End]) -> None:
        self.check_ends(ends)
        self.note_commits(ends)
        assert self.check_all_named(ends)
        if not self.dead and not any(end.done.code == KILLED for end in ends):
            self.check_tidy()
        done = self.run(*self.backup())
        assert done, done
        self.note_commits([End(self.backup(), done)])
        self.check_tidy()
        self.check_all()


class Restore(Scenario):
    """Into a server, under another name."""

    points_at = ("restore.", "store.")

    def prepare(self) -> None:
        self.expected = self.commit_what_is_there()
        self.copy = f"copy-{secrets.token_hex(5)}"
        if self.dead:
            at = self.rng.choice(self.failpoints()[:6])
            self.die(at, *self._into(f"dead-{self.copy}"))

    def command(self) -> Args:
        return self._into(self.copy)

    def beside(self) -> Args:
        others = (self.command(), self._into(f"other-{self.copy}"), self.backup(), self.verify())
        return self.rng.choice(others)

    def _into(self, name: str) -> Args:
        flags = (*SILENT, "-db", self.expectation.database, "-newdb", name)
        return ("restore", *self.place.target_flags, *flags, self.backups)

    def settle(self, ends: list[End]) -> None:
        self.check_ends(ends)
        self.note_commits(ends)
        assert self.check_all_named(ends)
        self._check_claims(ends)
        again = self.run(*self.command())
        assert again.code in (0, 14), again
        ends = [*ends, End(self.command(), again)]
        assert points(self.place.target, self.copy) == self.expected, ends
        self._check_claims(ends)
        claimed = {self.copy, *self._claimed(ends)}
        late = {name for name in self.new_databases() if "about to be created" in str(ends)}
        assert self.new_databases() <= claimed | late, (self.new_databases(), ends)
        assert not list(self.backups.glob(".shardkeeper.server-restore-*")), ends
        for name in self.new_databases():
            self.place.target.drop_database(name)
        self.check_all()

    def _check_claims(self, ends: list[End]) -> None:
        """Insist that whatever a restore called complete is there."""
        for name in self._claimed(ends):
            assert name in databases(self.place.target), (name, ends)
            assert points(self.place.target, name) == self.expected, (name, ends)

    def _claimed(self, ends: list[End]) -> set[str]:
        return {
            str(end.args[end.args.index("-newdb") + 1])
            for end in ends
            if "-newdb" in end.args and end.done.code == 0
        }


class Merge(Scenario):
    """Into the database that the backup is of, after some of its points were deleted."""

    points_at = ("merge.",)

    def prepare(self) -> None:
        self.expected = self.commit_what_is_there()
        self.place.source.query("DROP SERIES FROM m WHERE t = '1'", db=self.expectation.database)
        if self.dead:
            self.die(self.rng.choice(self.failpoints()), *self.merge())
        self.abandons = self.dead and self.rng.random() < 0.3

    def merge(self, *flags: str) -> Args:
        db = () if flags else ("-db", self.expectation.database)
        return ("merge", *self.place.source_flags, *SILENT, *flags, *db, self.backups)

    def command(self) -> Args:
        return self.merge(*(["-abandon"] if self.abandons else []))

    def beside(self) -> Args:
        return self.rng.choice((self.merge(), self.merge(), self.verify()))

    def is_whole(self, name: str) -> bool:
        return False

    def settle(self, ends: list[End]) -> None:
        merges = [end for end in ends if "verify" not in end.args and "-abandon" not in end.args]
        # Nothing is left to be given up if the dead one had not begun.
        self.check_ends([end for end in ends if "no unfinished merge into" not in end.done.err])
        self.check_all_named(ends)
        if any(end.done.code == 0 for end in merges):
            assert self.expectation.now() == self.expected, ends
        forget_leases(self.place)
        again = self.run(*self.merge())
        assert again, (again, ends)
        assert self.expectation.now() == self.expected, (again, ends)
        assert not self.new_databases(), (self.new_databases(), ends)
        left = {path.name for path in self.backups.glob(".shardkeeper*.json")}
        assert not left, (left, ends)
        self.check_all()


class Repair(Scenario):
    """Of a copy of the directory in which files are damaged."""

    points_at = ("repair.", "backup.")

    def prepare(self) -> None:
        self.commit_what_is_there()
        good = self.expectation
        copy = Path(shutil.copytree(good.backups, f"{good.backups}-{secrets.token_hex(4)}"))
        self.expectation = Expectation(
            good.source, good.flags, good.database, copy, good.target, dict(good.states)
        )
        self.backups = copy
        newest = {path.name.split(".")[1]: path for path in sorted(copy.glob("*.s*.tar.gz"))}
        manifests = [*copy.glob("*.manifest"), *copy.glob("*.manifest.copy")]
        harmed = [self.rng.choice(sorted(newest.values())), self.rng.choice(sorted(manifests))]
        for path in self.rng.sample(harmed, self.rng.randint(1, 2)):
            raw = bytearray(path.read_bytes())
            raw[self.rng.randrange(len(raw) // 2, len(raw))] ^= 1 << self.rng.randrange(8)
            path.write_bytes(raw)
        self.bytes = {path.read_bytes() for path in copy.iterdir()}
        if self.dead:
            self.die(self.rng.choice(self.failpoints()), *self.command())

    def command(self) -> Args:
        return ("verify", "-repair", *self.expectation.flags, self.backups)

    def beside(self) -> Args:
        return self.rng.choice((self.command(), self.backup()))

    def settle(self, ends: list[End]) -> None:
        # A backup that follows a damaged manifest is refused, and one beside a repair may be.
        self.check_ends([end for end in ends if end.done.code != 13 or end.disturbed])
        self.note_commits([])
        found = self.check_all_named(ends)
        if any(end.done.code == 0 and "-repair" in end.args for end in ends):
            assert found, (found, ends)
        again = self.run(*self.command())
        assert again, (again, ends)
        self.note_commits([])
        there = {path.read_bytes() for path in self.backups.iterdir() if path.is_file()}
        assert self.bytes <= there, ends
        assert not list(self.backups.glob(".shardkeeper*")), ends
        found = self.run(*self.verify())
        assert found, found
        for name, expected in self.expectation.states.items():
            # The server has another file by now if it wrote its files anew.
            if f"restorable: {name}: everything but" not in found.out:
                assert self.expectation.restored(name) == expected, (name, ends)
        assert f"restorable: {max(self.expectation.committed)}: everything but" not in found.out, (
            found
        )
        shutil.rmtree(self.backups)


def forget_leases(place: Place) -> None:
    """Else the other directory's run would be waited for."""
    if place.cluster is not None:
        for node in place.cluster.meta:
            node.leases.forget()
