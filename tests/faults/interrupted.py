"""`make interrupted N=300`: runs that are killed, stopped and signalled at random, on two hosts.

    python -m tests.faults.interrupted 300 [seed [turn to begin with]]
    python -m tests.faults.interrupted failpoints [seed [turn to begin with]]

Backups, restores, merges, `verify -repair` and overwrites of a metastore, some of which have to
clean up after a dead one first, are killed, stand still past their lease, or get one signal or two;
at a random moment, or, with `failpoints`, at each of those in each of these ways. Meanwhile or at
the same time another host, whose clocks differ by up to a year, works in the same directory.
Afterwards

- every earlier backup comes back point for point, and exactly those are new that runs have claimed;
- nothing ended with 0 that is not complete;
- what is left is named, by the run or by `verify`;
- the next run sweeps it, or goes on with it, and ends with all there.

A seed repeats what is done, and each turn of it by itself, so a long row can be done in pieces;
the moment at which something meets a process depends on the machine.
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

from resources.runtime.failpoints import VARIABLE
from tests.expectation import Expectation
from tests.faults.campaign import print_line, run_campaign
from tests.faults.cluster_scenarios import ON_A_CLUSTER, ON_A_SERVER
from tests.faults.interruptions import (
    LEASE_S,
    SIGNALS,
    WAYS,
    Timing,
    await_moment,
    await_stop,
    interrupt,
    poll,
    stand_still,
)
from tests.faults.places import PLACES, Place
from tests.faults.scenarios import ENV, Args, End, Scenario
from tests.faults.second_host import SecondHost, is_possible
from tests.influxd import Influxd
from tests.processes import ForkServer, Run

TURNS_PER_DIRECTORY = 2
TURNS_PER_HOST = 10
TRIES = 30
CLUSTER_LEASE_S = 2.0
AT_ONCE = ("kill", "stop", *(number.name.removeprefix("SIG") for number in SIGNALS))
"""What a failpoint can do."""


@dataclass
class Testbed:
    """A place, the database in use, and the pace of each scenario there."""

    name: str
    place: Place
    expectation: Expectation
    paces: dict[str, Timing] = field(default_factory=dict[str, Timing])
    turns: int = 0


class Interrupted:
    """All of it, on some places; every failure is an AssertionError."""

    def __init__(self, places: dict[str, Place], seed: int, stack: ExitStack) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._first = stack.enter_context(ForkServer())
        self._second: ForkServer = self._first
        self._turn_of_host: int | None = None
        self._testbeds = [Testbed(name, place, _backed_up(place)) for name, place in places.items()]
        for place in places.values():
            for node in place.cluster.meta if place.cluster else ():
                node.leases.duration_s = CLUSTER_LEASE_S

    def at_random(self, n: int, first: int = 1) -> Iterator[str]:
        """Interrupt `n` runs at random moments, but those before turn `first`.

        Yields a line for each turn.
        """
        tally = Counter[str]()
        for number in range(first - 1, n):
            self._rng.seed(f"{self._seed}: turn {number}")
            testbed = self._next_testbed(number)
            kind = self._rng.choice(ON_A_CLUSTER if testbed.place.cluster else ON_A_SERVER)
            way = self._rng.choice(WAYS)
            for _ in range(TRIES):
                scenario = self._scenario(kind, testbed)
                what = self._turn(scenario, testbed, way)
                if what:
                    break
            else:
                raise AssertionError("no interruption came in time")
            tally[f"{testbed.name}: {kind.__name__.lower()}: {way}"] += 1
            yield f"{number + 1}/{n} on {testbed.name}: {what}"
        yield f"{sum(tally.values())} runs interrupted ({_sum(tally)})"

    def at_failpoints(self, first: int = 1) -> Iterator[str]:
        """Interrupt a run at each failpoint in each way, but those before turn `first`.

        Yields a line for each turn.
        """
        todo = [
            (kind, at, way)
            for kind in {*ON_A_SERVER, *ON_A_CLUSTER}
            for at in kind.failpoints()
            for way in AT_ONCE
        ]
        todo.sort(key=lambda one: (one[0].__name__, *one[1:]))
        random.Random(self._seed).shuffle(todo)
        met = Counter[str]()
        for number, (kind, at, way) in list(enumerate(todo))[first - 1 :]:
            self._rng.seed(f"{self._seed}: turn {number}")
            fitting = [
                testbed
                for testbed in self._testbeds
                if kind in (ON_A_CLUSTER if testbed.place.cluster else ON_A_SERVER)
            ]
            testbed = self._next_testbed(number, fitting)
            what = self._turn(self._scenario(kind, testbed), testbed, way, at)
            met[at] += bool(what)
            yield f"{number + 1}/{len(todo)} on {testbed.name}: {what or f'{at} was not met'}"
        yield f"{sum(met.values())} runs interrupted at {len(+met)} failpoints"

    def _scenario(self, kind: type[Scenario], testbed: Testbed) -> Scenario:
        settling = self._second if self._is_second_ahead() else self._first
        scenario = kind(testbed.place, testbed.expectation, settling, self._rng)
        scenario.prepare()
        return scenario

    def _is_second_ahead(self) -> bool:
        """No backup follows one that is of tomorrow, but by a clock that is ahead, too."""
        return isinstance(self._second, SecondHost) and self._second.skew_s > 0

    def _turn(self, scenario: Scenario, testbed: Testbed, way: str, at: str = "") -> str:
        """What happened; empty if the run ended before it could be interrupted."""
        rng = self._rng
        one, other = rng.sample((self._first, self._second), 2)
        command, ends = scenario.command(), list[End]()

        def beside() -> None:
            args = scenario.beside()
            ends.append(End(args, other.start(*args, env=ENV).wait()))

        companion: tuple[Args, Run] | None = None
        if way != "stop" and rng.random() < 0.5:
            args = scenario.beside()
            companion = args, other.start(*args, env=ENV)
            time.sleep(rng.uniform(0, 0.5))
        run = one.start(*command, env={**ENV, **({VARIABLE: _request(at, way)} if at else {})})
        if at:
            met = _at_failpoint(run, way, beside)
        else:
            met = self._at_a_moment(run, scenario, testbed, way, beside)
        done = run.wait()
        ends.append(End(command, done, disturbed=True))
        if companion is not None:
            ends.append(End(companion[0], companion[1].wait()))
        if done.code == -9:
            time.sleep(LEASE_S + 0.1)  # the other host has to see it expire
        try:
            scenario.settle(ends)
        except AssertionError as failure:
            failure.add_note(f"{scenario}: {way} {at}, on {one} beside {other}: {ends}")
            raise
        testbed.turns += 1
        host = "the second host" if one is self._second else "the first host"
        with_ = ", ".join(f"{_verb(end.args)} {end.done.code}" for end in ends)
        return f"{scenario} on {host}: {way} {at}: {with_}" if met else ""

    def _at_a_moment(
        self, run: Run, scenario: Scenario, testbed: Testbed, way: str, beside: object
    ) -> bool:
        name = type(scenario).__name__
        timing = testbed.paces.get(name)
        if timing is None:  # the first one is watched to its end
            began = time.monotonic()
            signs = poll(run, scenario.backups)
            testbed.paces[name] = Timing(signs, time.monotonic() - began)
            return False
        if not await_moment(run, scenario.backups, timing.moment(self._rng)):
            return False
        assert callable(beside)
        interrupt(run, way, self._rng, beside)
        return True

    def _next_testbed(self, number: int, testbeds: list[Testbed] | None = None) -> Testbed:
        """The places take turns; each starts a new directory every few turns."""
        if number // TURNS_PER_HOST != self._turn_of_host and is_possible():
            self.close()
            self._turn_of_host = number // TURNS_PER_HOST
            of_host = random.Random(f"{self._seed}: host {self._turn_of_host}")
            self._second = SecondHost(of_host)
            self._second.__enter__()
            for testbed in self._testbeds:  # what one who was a year ahead has named stays behind
                self._renew(testbed)
        testbeds = testbeds or self._testbeds
        testbed = testbeds[number % len(testbeds)]
        if testbed.turns >= TURNS_PER_DIRECTORY:
            self._renew(testbed)
        return testbed

    def _renew(self, testbed: Testbed) -> None:
        testbed.place.source.drop_database(testbed.expectation.database)
        shutil.rmtree(testbed.expectation.backups)
        testbed.expectation = _backed_up(testbed.place)
        testbed.turns = 0
        for node in testbed.place.cluster.meta if testbed.place.cluster else ():
            node.leases.forget()  # another directory's run would be waited for

    def close(self) -> None:
        if isinstance(self._second, SecondHost):
            self._second.__exit__(None, None, None)


def _backed_up(place: Place) -> Expectation:
    """A database of its own, and a first backup of it."""
    expectation = place.expectation()
    expectation.back_up()
    return expectation


def _request(at: str, way: str) -> str:
    return at if way == "kill" else f"{at}={way.upper()}"


def _at_failpoint(run: Run, way: str, beside: object) -> bool:
    """Whether it came by there."""
    assert callable(beside)
    if way == "stop":
        if not await_stop(run):
            return False
        stand_still(run, beside)
        return True
    return run.wait().code in (-9, 130)


def _verb(args: Args) -> str:
    words = [str(arg) for arg in args]
    verb = next(w for w in words if w in ("backup", "restore", "merge", "verify"))
    return verb + " -repair" * ("-repair" in words) + " -abandon" * ("-abandon" in words)


def _sum(tally: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(tally.items()))


def interrupted(
    n: int, *, seed: int, directory: Path, names: tuple[str, ...] = tuple(PLACES), first: int = 1
) -> Iterator[str]:
    """`n` turns at random moments, or, if it is 0, one at each failpoint in each way.

    Those before turn `first` are left out. Yields what to print, and raises AssertionError at the
    first failure.
    """
    with ExitStack() as stack:
        places = {
            name: stack.enter_context(PLACES[name](directory / name.replace(" ", "-")))
            for name in names
        }
        run = Interrupted(places, seed, stack)
        stack.callback(run.close)
        yield from run.at_random(n, first) if n else run.at_failpoints(first)


def main() -> int:
    """Print progress, the seed and a summary; 1 if something did not hold."""
    words = sys.argv[1:]
    n = 0 if words[:1] == ["failpoints"] else int(words[0]) if words else 20
    seed = int(words[1]) if len(words) > 1 else secrets.randbits(32)
    first = int(words[2]) if len(words) > 2 else 1
    names = tuple(name for name in PLACES if name != "influxd" or Influxd.installed())
    if not is_possible():
        print_line("no namespaces can be made here: there is no second host with other clocks")
    print_line(
        f"seed {seed}: python -m tests.faults.interrupted {n or 'failpoints'} {seed} repeats it"
    )
    return run_campaign(
        "interrupted",
        seed,
        lambda at: interrupted(n, seed=seed, directory=at, names=names, first=first),
    )


if __name__ == "__main__":
    sys.exit(main())
