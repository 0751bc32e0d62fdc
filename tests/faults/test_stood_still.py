"""A run stands still at any point until another has taken its place, and wakes up: nothing is lost.

As a machine that sleeps, a hung network file system, a stopped process. Another run takes the lock
over, sweeps what the sleeper stored, and makes a backup of its own.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from resources.failpoints import FAILPOINTS, VARIABLE
from resources.repository.lock import LEASE_VARIABLE
from tests.faults.places import Place
from tests.faults.test_failpoints import LATER
from tests.oracle import Witness
from tests.processes import Nursery, Run
from tests.wire.commands import shardkeeper

pytestmark = pytest.mark.fault(37)

LEASE_S = 0.3
POINTS = [
    *(name for name in FAILPOINTS if name.startswith("store.")),
    *(name for name in FAILPOINTS if name.startswith("backup.") and name != "backup.sweeping"),
    *(wish for wish in LATER if not wish.startswith("backup.sweeping")),
]


def is_stopped(run: Run) -> bool:
    try:
        return Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def stood_still(nursery: Nursery, wish: str, *args: object) -> Run:
    """A run that has stopped there, past its lease."""
    env = {VARIABLE: f"{wish}=STOP", LEASE_VARIABLE: str(LEASE_S)}
    run = nursery.start(*args, env=env)
    deadline = time.monotonic() + 60
    while not is_stopped(run):
        assert run.running, run.wait()
        assert time.monotonic() < deadline, run.said
        time.sleep(0.005)
    time.sleep(LEASE_S + 0.1)
    return run


def woken(run: Run) -> int:
    run.send(signal.SIGCONT)
    done = run.wait()
    assert "Traceback" not in done.err, done
    if done.code == 11:
        assert "lost the repository's lock" in done.err or "is locked by" in done.err, done
    return done.code


def take_all_notes(witness: Witness) -> None:
    """The source did not change meanwhile, so each of them holds what is there now."""
    for name in witness.committed - set(witness.states):
        witness.states[name] = witness.now()


@pytest.mark.parametrize("wish", POINTS)
def test_a_backup_that_lost_its_place_commits_and_deletes_nothing(
    server: Place, nursery: Nursery, wish: str
) -> None:
    witness = server.witness()
    witness.back_up()
    server.write(witness)
    flags = ("backup", *witness.flags, "-full", "-db", witness.database, witness.backups)
    sleeper = stood_still(nursery, wish, *flags)
    heir = shardkeeper("backup", *witness.flags, "-db", witness.database, witness.backups)
    if not heir:  # it stands still amid the replacing of the lock's record
        assert "stayed locked" in heir.err or heir.code == 11, heir
    code = woken(sleeper)
    n_new = len(witness.committed - set(witness.states))
    assert n_new == bool(heir) + (code == 0), (heir, code)
    take_all_notes(witness)
    witness.judge()
    witness.back_up()
    witness.judge()
    assert witness.tidy(), sorted(witness.backups.iterdir())


def test_a_sleeper_cannot_touch_what_its_heir_calls_by_the_same_names(
    server: Place, nursery: Nursery
) -> None:
    """As when the heir's clock is behind: it takes the second that the sleeper had taken."""
    witness = server.witness()
    flags = ("backup", *witness.flags, "-full", "-db", witness.database, witness.backups)
    sleeper = stood_still(nursery, "backup.before-commit", *flags)
    [meta] = witness.backups.glob("*.meta")
    name = meta.stem
    assert shardkeeper(*flags)
    [manifest] = witness.backups.glob("*.manifest")
    theirs = manifest.stem
    for path in sorted(witness.backups.glob(f"{theirs}.s*")):  # one file of the sleeper's names
        path.with_name(path.name.replace(theirs, name)).write_bytes(b"an heir's")
    assert woken(sleeper) == 11
    left = {path.name for path in witness.backups.glob(f"{name}.*")}
    assert len(left) == 3, left
    assert not (witness.backups / f"{name}.manifest").exists()


@pytest.mark.fault(27)
@pytest.mark.parametrize("number", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize("wish", random.Random(7).sample(POINTS, 8))
def test_a_signal_at_any_point_of_a_backup_leaves_nothing(
    server: Place, nursery: Nursery, wish: str, number: str
) -> None:
    witness = server.witness()
    witness.back_up()
    server.write(witness)
    flags = ("backup", *witness.flags, "-db", witness.database, witness.backups)
    done = nursery.start(*flags, env={VARIABLE: f"{wish}={number}"}).wait()
    committed = witness.take_note()
    assert done.code in (0, 130), done
    assert done.code == 130 or committed
    assert witness.tidy(), sorted(witness.backups.iterdir())
    witness.judge()
