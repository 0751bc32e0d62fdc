"""`make model N=200`: random lives of two databases, held against dictionaries of their points.

    python -m tests.faults.model 200 [seed]

Points are written, written over and deleted; databases are dropped and made anew; backups of one
or of both are made, full and incremental, and some die at a failpoint; states are restored from
the directory and from single manifests, and some restores die, too. What a server, or a state of
a backup, must hold is known without either: a dictionary per database, copied when a backup is
committed. The same lives are led on a real influxd and on an embedded cluster.

A seed repeats them; a life that fails is shortened to what is needed for it, and printed.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.faults.places import PLACES, T0, WEEK, Place
from tests.influxd import Influxd
from tests.processes import ForkServer
from tests.wire.commands import Done, shardkeeper, verify
from tests.wire.points import databases, points

KILLED = -9
OFFSETS = 5
"""How many times each shard has; points are written over soon."""

Key: TypeAlias = tuple[str, str, int]
"""Measurement, tag, time in ns."""
Held: TypeAlias = dict[Key, float]

MEASUREMENTS = {"f": lambda n: f"{n}.5", "i": lambda n: f"{n}i"}
IN_BACKUPS = [name for name in FAILPOINTS if name.startswith(("store.", "backup."))]
IN_RESTORES = {
    kind: [n for n in FAILPOINTS if n.startswith(f"{kind}.") and not n.endswith("rollback")]
    for kind in ("restore", "cluster")
}

which = st.integers(0, 1)
measurement = st.sampled_from(sorted(MEASUREMENTS))
tag = st.sampled_from("ab")
moment = st.builds(
    lambda week, offset: T0 + week * WEEK + offset, st.integers(0, 2), st.integers(0, OFFSETS - 1)
)
place_in_time = st.tuples(measurement, tag, moment)
some = st.lists(place_in_time, max_size=8)


class Life(RuleBasedStateMachine):
    """One life: two databases, one directory, and what each backup of it must give back.

    `place`, `fork_server` and `counted` are set by `lives`.
    """

    place: Place
    fork_server: ForkServer
    counted: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        place = self.place
        self.counted["lives"] += 1
        if place.cluster is not None:
            for node in place.cluster.meta:
                node.leases.forget()  # else the last life's directory would be waited for
        token = secrets.token_hex(4)
        self.names = (f"left-{token}", f"right-{token}")
        self.backups = place.directory / f"life-{token}"
        self.backups.mkdir(mode=0o700)
        self.n_written = 0
        self.now: dict[str, Held] = {}
        for name in self.names:
            self._create(name)
        self.newest: dict[str, Held] = {}
        """What the directory has of each database that it has."""
        self.states: dict[str, Mapping[str, Held]] = {}
        """The same as of each backup, oldest first."""
        self.full: dict[str, Mapping[str, Held]] = {}
        """What a full backup's manifest alone gives back."""

    def teardown(self) -> None:
        if sys.exception() is None:
            self.back_up(None, False, [])
            self.check_all()
        for name in self.names:
            self.place.source.drop_database(name)
        shutil.rmtree(self.backups)

    @initialize(rows=st.lists(place_in_time, min_size=5, max_size=20))
    def begin(self, rows: list[Key]) -> None:
        self.back_up(None, False, rows)

    # --- the source -----------------------------------------------------------------------

    @rule(db=which, rows=some)
    def write(self, db: int, rows: list[Key]) -> None:
        """New points, and new values of points that are there."""
        if not rows:
            return
        name, n = self.names[db], self.n_written
        self.n_written += 1
        lines = [f"{m},k={k} v={MEASUREMENTS[m](n)} {at}" for m, k, at in rows]
        self.place.source.write(name, lines)
        self.now[name] |= {(m, k, at): n + 0.5 * (m == "f") for m, k, at in rows}

    def _write_to_all(self, rows: list[Key]) -> None:
        for db in range(len(self.names)):
            self.write(db, rows[db:])

    @rule(db=which, m=measurement, k=st.none() | tag, first=moment, last=moment)
    def delete_range(self, db: int, m: str, k: str | None, first: int, last: int) -> None:
        first, last = sorted((first, last))
        one = f" AND k = '{k}'" if k else ""
        q = f"DELETE FROM {m} WHERE time >= {first} AND time <= {last}{one}"
        self._delete(
            self.names[db], q, lambda at: at[0] == m and at[1] == (k or at[1]) and
            first <= at[2] <= last
        )  # fmt: skip

    @rule(db=which, m=measurement, k=tag)
    def drop_series(self, db: int, m: str, k: str) -> None:
        q = f"DROP SERIES FROM {m} WHERE k = '{k}'"
        self._delete(self.names[db], q, lambda at: at[:2] == (m, k))

    def _delete(self, name: str, q: str, gone: Callable[[Key], bool]) -> None:
        self.place.source.query(q, db=name)
        self.now[name] = {at: v for at, v in self.now[name].items() if not gone(at)}

    @rule(db=which)
    def make_anew(self, db: int) -> None:
        """A database of the same name is another one: what is newest in the directory is not its.

        States that were are not touched by that.
        """
        name = self.names[db]
        self.place.source.drop_database(name)
        self._create(name)
        self.newest.pop(name, None)

    def _create(self, name: str) -> None:
        self.place.source.create_database(name)
        self.now[name] = {}

    # --- backups --------------------------------------------------------------------------

    @rule(db=st.none() | which, full=st.booleans(), rows=some)
    def back_up(self, db: int | None, full: bool, rows: list[Key]) -> None:
        self._write_to_all(rows)
        done = shardkeeper(*self._backup(db, full))
        assert done, done
        assert self._take_note(db, full)

    @rule(
        db=st.none() | which,
        full=st.booleans(),
        where=st.sampled_from(IN_BACKUPS),
        n=st.integers(1, 4),
        rows=some,
    )
    def back_up_and_die(
        self, db: int | None, full: bool, where: str, n: int, rows: list[Key]
    ) -> None:
        self._write_to_all(rows)
        done = self.fork_server.start(
            *self._backup(db, full), env={VARIABLE: f"{where}:{n}"}
        ).wait()
        assert done.code in (0, KILLED), done
        assert self._take_note(db, full) or done.code == KILLED
        self.counted["backups killed"] += done.code == KILLED

    def _backup(self, db: int | None, full: bool) -> tuple[object, ...]:
        one = () if db is None else ("-db", self.names[db])
        kind = ("-full",) if full else ()
        return ("backup", *self.place.source_flags, *kind, *one, self.backups)

    def _take_note(self, db: int | None, full: bool) -> bool:
        """Whether there is a new backup; it must hold what the source holds now."""
        for name in self.names:  # or else the server has forgotten something, and not we
            assert held(self.place.source, name) == self.now[name]
        new = {path.stem for path in self.backups.glob("*.manifest")} - set(self.states)
        assert len(new) <= 1, new
        for backup in new:
            covered = {
                n: dict(self.now[n]) for n in (self.names if db is None else [self.names[db]])
            }
            self.newest |= covered
            self.states[backup] = dict(self.newest)
            if full:
                self.full[backup] = covered
        self.counted["backups"] += len(new)
        return bool(new)

    def check_all(self) -> None:
        """Exactly what was committed is there, is sound, and every state of it comes back."""
        assert {path.stem for path in self.backups.glob("*.manifest")} == set(self.states)
        verify(self.backups)
        for state in range(len(self.states)):
            for db in range(len(self.names)):
                self.restore(state, db, False)

    # --- restores -------------------------------------------------------------------------

    @rule(state=st.integers(0, 99), db=which, beside=st.booleans())
    def restore(self, state: int, db: int, beside: bool) -> None:
        backup, expected = self._chosen(self.states, state)
        self._restore(expected, db, beside, "-as-of", backup, path=self.backups)

    @precondition(lambda self: self.full)
    @rule(state=st.integers(0, 99), db=which)
    def restore_one_manifest(self, state: int, db: int) -> None:
        backup, expected = self._chosen(self.full, state)
        self._restore(expected, db, False, "-full", path=self.backups / f"{backup}.manifest")

    def _restore(
        self, expected: Mapping[str, Held], db: int, beside: bool, *flags: str, path: Path
    ) -> None:
        name, copy = self.names[db], f"copy-{secrets.token_hex(4)}"
        if name not in expected:
            return
        server, to = self._target(beside)
        done = shardkeeper("restore", *to, *flags, "-db", name, "-newdb", copy, path)
        self._check(done, server, copy, expected[name])

    @rule(
        state=st.integers(0, 99),
        db=which,
        beside=st.booleans(),
        where=st.integers(0, 99),
        n=st.integers(1, 2),
    )
    def restore_and_die(self, state: int, db: int, beside: bool, where: int, n: int) -> None:
        """The next run undoes it, or finishes it; on a server the operator drops what is left."""
        backup, expected = self._chosen(self.states, state)
        name, copy = self.names[db], f"copy-{secrets.token_hex(4)}"
        if name not in expected:
            return
        server, to = self._target(beside)
        request = ("restore", *to, "-as-of", backup, "-db", name, "-newdb", copy, self.backups)
        failpoints = IN_RESTORES["cluster" if beside and self.place.cluster else "restore"]
        env = {VARIABLE: f"{failpoints[where % len(failpoints)]}:{n}"}
        done = self.fork_server.start(*request, env=env).wait()
        if done.code == KILLED:
            self.counted["restores killed"] += 1
            done = shardkeeper(*request)
            if done.code == 14 and "drop it first" in done.err:
                server.drop_database(copy)
                done = shardkeeper(*request)
            elif "is complete now" in done.err:
                done = Done(0, done.out, done.err)
        self._check(done, server, copy, expected[name])
        assert not list(self.backups.glob(".shardkeeper.restore-*"))

    def _check(self, done: Done, server: Influxd, copy: str, expected: Held) -> None:
        assert done, done
        assert held(server, copy) == expected
        server.drop_database(copy)
        assert copy not in databases(server)
        self.counted["restores"] += 1
        self.counted["points restored"] += len(expected)

    def _target(self, beside: bool) -> tuple[Influxd, tuple[str, ...]]:
        place = self.place
        if not beside:
            return place.target, tuple(place.target_flags)
        return place.source, (*place.source_flags, "-timeout", "5s")

    @staticmethod
    def _chosen(
        states: Mapping[str, Mapping[str, Held]], number: int
    ) -> tuple[str, Mapping[str, Held]]:
        backup = sorted(states)[number % len(states)]
        return backup, states[backup]


def held(server: Influxd, database: str) -> Held:
    """Every point of a database, as a server tells them."""
    found: Held = {}
    for key, rows in points(server, database).items():
        if len(key) == 3:  # else it has the types of a measurement
            _, measurement, tags = key
            found |= {(measurement, tags[0][1], at): float(fields["v"]) for at, fields in rows}
    return found


def lives(
    place: Place, fork_server: ForkServer, n: int, *, steps: int, first: int | None
) -> Counter[str]:
    """Lead `n` lives; what was done in them.

    Args:
        first: the seed; None leads the same lives every time.

    Raises:
        AssertionError: something did not hold; its notes have the shortest life that shows it.
    """
    counted: Counter[str] = Counter()

    class OfThisPlace(Life):
        pass

    OfThisPlace.place, OfThisPlace.fork_server, OfThisPlace.counted = place, fork_server, counted
    factory = OfThisPlace if first is None else seed(first)(OfThisPlace)
    run_state_machine_as_test(
        factory,
        settings=settings(
            max_examples=n,
            stateful_step_count=steps,
            derandomize=first is None,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    return counted


def main() -> int:
    """Lead lives on each place in turn, and say what held."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    first = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32)
    names = ("influxd", "dev cluster") if Influxd.installed() else ("dev server", "dev cluster")
    sys.stdout.write(f"seed {first}: make model N={n} SEED={first} repeats it\n")
    for name in names:
        sys.stdout.flush()
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="shardkeeper-model-") as directory,
            PLACES[name](Path(directory)) as place,
            ForkServer() as fork_server,
        ):
            counted = lives(place, fork_server, n, steps=40, first=first)
        output = ", ".join(f"{number} {what}" for what, number in counted.items())
        sys.stdout.write(f"{name}: {output}, in {time.monotonic() - began:.0f} s; all held\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
