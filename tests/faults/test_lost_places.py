"""Merges, restores into servers and repairs that stood still until another run took their place.

The sleeper's lease is long, so that it renews nothing beside what it stops at; the record of its
lock is made older instead, as if the time had passed.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.engine.merge.exclusive import LOCK as MERGE_LOCK
from resources.engine.options import Retry
from resources.engine.restore import upload
from resources.repository.storage import directory
from resources.repository.storage.lock import LEASE_VARIABLE
from resources.repository.storage.lock_record import LOCK_NAME, LockRecord
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.faults.test_failpoints import databases, points
from tests.faults.test_repair import flip, is_clean, listing, newest, oldest, repair
from tests.faults.test_stood_still import is_stopped
from tests.processes import ForkServer, Run
from tests.proxy import Proxy, Stall, imports
from tests.wire.commands import Done, shardkeeper

pytestmark = pytest.mark.fault(37)

LONG_S = 600
KILLED = -signal.SIGKILL
INTERRUPTED = 130
IN_RESTORES = [
    name for name in FAILPOINTS if name.startswith("restore.") and not name.endswith("rollback")
]
IN_REPAIRS = [
    *(name for name in FAILPOINTS if name.startswith("repair.")),
    "backup.named",
    "backup.shard-stored",
    "backup.before-commit",
    "backup.after-commit",
    "store.created:3",
    "store.after-rename:3",
]


def stopped(fork_server: ForkServer, where: str, *args: object) -> Run:
    """A run that has stopped at a failpoint."""
    env = {VARIABLE: f"{where}=STOP", LEASE_VARIABLE: str(LONG_S)}
    run = fork_server.start(*args, env=env)
    deadline = time.monotonic() + 60
    while not is_stopped(run):
        assert run.running, run.wait()
        assert time.monotonic() < deadline, run.output
        time.sleep(0.005)
    return run


def lease_is_over(backups: Path, name: str) -> None:
    """Make the record of a lock look as if it had not been renewed for a lease."""
    path = backups / name
    record = LockRecord.decode(path.read_bytes())
    path.write_bytes(replace(record, renewed_ms=record.renewed_ms - record.lease_ms - 1).encode())


def woken(run: Run) -> Done:
    run.send(signal.SIGCONT)
    done = run.wait()
    assert "Traceback" not in done.err, done
    return done


# --- two of one name ----------------------------------------------------------------------


def test_a_restore_that_is_interrupted_before_it_creates_anything_drops_nothing(
    server: Place, fork_server: ForkServer
) -> None:
    """Another one, which ran meanwhile, has created the same."""
    expectation, name, flags = to_a_name(server)
    sleeper = stopped(fork_server, "store.before-replace", *flags)
    other = shardkeeper(*flags)
    assert other, other
    sleeper.send(signal.SIGTERM)
    assert woken(sleeper).code == INTERRUPTED
    assert points(server.target, name) == expectation.now()
    assert not list(expectation.backups.glob(".shardkeeper*"))
    server.target.drop_database(name)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_looks_like_an_import_whose_answer_is_lost_and_has_points_is_left(
    server: Place, fork_server: ForkServer, how: signal.Signals
) -> None:
    expectation, name, flags = to_a_name(server)
    with Proxy(server.target.bind_addr) as proxy:
        proxy.break_all(Stall(2, direction="to server"), chosen=imports)
        run = fork_server.start(*flags[:-1], "-host", proxy.address, flags[-1])
        assert proxy.stalled.wait(timeout=60), run.output
        other = shardkeeper(*flags)
        assert other, other
        run.send(how)
        done = run.wait()
    if how == signal.SIGKILL:
        done = shardkeeper(*flags[:-1], "-newdb", f"another-{name}", flags[-1])
        assert done, done
        server.target.drop_database(f"another-{name}")
    assert f"create database '{name}', and one of that name is there" in done.err
    assert points(server.target, name) == expectation.now()
    assert not list(expectation.backups.glob(".shardkeeper*"))
    server.target.drop_database(name)


def to_a_name(server: Place) -> tuple[Expectation, str, tuple[object, ...]]:
    """A backup, and how it is restored under another name."""
    expectation = server.expectation()
    expectation.back_up()
    name = f"copy-of-{expectation.database}"
    to = (*server.target_flags, "-db", expectation.database, "-newdb", name)
    return expectation, name, ("restore", *to, expectation.backups)


# --- merges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        "merge.noted",
        "merge.restored",
        "merge.copied",
        "merge.found",
        "merge.before-drop",
        "merge.dropped",
    ],
)
def test_a_merge_that_lost_its_place_drops_and_forgets_nothing_of_its_heirs(
    server: Place, fork_server: ForkServer, where: str
) -> None:
    expectation, source = server.expectation(), server.source
    expectation.back_up()
    expected = expectation.now()
    source.query("DROP SERIES FROM m WHERE t = '1'", db=expectation.database)
    flags = ("merge", *server.source_flags, "-db", expectation.database, expectation.backups)
    sleeper = stopped(fork_server, where, *flags)
    lease_is_over(expectation.backups, MERGE_LOCK)
    heir = shardkeeper(*flags)
    assert heir, heir
    dead = fork_server.start(*flags, env={VARIABLE: "merge.restored"}).wait()
    assert dead.code == KILLED, dead
    notes = {path: path.read_bytes() for path in expectation.backups.glob(".shardkeeper.merge*.j*")}
    assert notes
    left = databases(source)
    done = woken(sleeper)
    assert done.code == 11, done
    assert "another merge does the rest" in done.err
    assert "is kept" not in done.err
    assert databases(source) == left
    assert {path: path.read_bytes() for path in notes} == notes
    assert shardkeeper(*flags)
    assert expectation.now() == expected
    assert not {name for name in databases(source) if "shardkeeper" in name}
    source.drop_database(expectation.database)


def test_no_merge_begins_beside_one_that_stands_still_amid_renewing_its_lock(
    server: Place, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the file system's lock of the record, so no other run can take its place."""
    monkeypatch.setattr(directory, "LOCK_PATIENCE_S", 0.2)
    expectation, source = server.expectation(), server.source
    expectation.back_up()
    expected = expectation.now()
    flags = ("merge", *server.source_flags, "-db", expectation.database, expectation.backups)
    sleeper = stopped(fork_server, "store.before-replace", *flags)
    lease_is_over(expectation.backups, MERGE_LOCK)
    before = databases(source)
    heir = shardkeeper(*flags)
    assert heir.code == 11, heir
    assert "stayed locked" in heir.err
    assert databases(source) == before
    woken(sleeper)
    assert shardkeeper(*flags)
    assert expectation.now() == expected
    assert not list(expectation.backups.glob(".shardkeeper*"))
    source.drop_database(expectation.database)


# --- restores into servers ----------------------------------------------------------------


def lock_of_restore(backups: Path) -> str:
    [path] = backups.glob(".shardkeeper.server-restore-*.lock")
    return path.name


@pytest.mark.fault(63)
@pytest.mark.parametrize("same_name", [True, False], ids=["same name", "other name"])
@pytest.mark.parametrize("where", IN_RESTORES)
def test_a_restore_into_a_server_that_lost_its_place_is_not_called_complete(
    server: Place,
    fork_server: ForkServer,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    same_name: bool,
) -> None:
    """The next restore from there takes back what it had created; nothing of that one's is lost."""
    monkeypatch.setattr(Retry, "pause_s", lambda self, attempt: 0.01)
    monkeypatch.setattr(upload, "SETTLES_S", 1.0)  # the sleeper may have a shard open
    expectation, target = server.expectation(), server.target
    expectation.back_up()
    expected, before = expectation.now(), databases(target)
    flags = (
        "restore",
        *server.target_flags,
        "-db",
        expectation.database,
        expectation.backups,
        "-newdb",
    )
    mine = f"copy-of-{expectation.database}"
    theirs = mine if same_name else f"other-{mine}"
    sleeper = stopped(fork_server, where, *flags, mine)
    if where != "restore.checked":  # nothing is created yet, and there is no lock
        lease_is_over(expectation.backups, lock_of_restore(expectation.backups))
    heir = shardkeeper(*flags, theirs)
    assert heir, heir
    done = woken(sleeper)
    if where == "restore.checked" and not same_name:
        assert done, done
    elif where == "restore.checked":
        assert done.code == 14, done
    else:
        assert done.code == 11, done
        assert "another run took its place" in done.err
    assert databases(target) - before == {theirs, *([mine] if done else [])}
    assert points(target, theirs) == expected
    assert not list(expectation.backups.glob(".shardkeeper*"))
    for name in databases(target) - before:
        target.drop_database(name)


@pytest.mark.fault(63)
def test_a_restore_that_was_complete_before_it_lost_its_place_stays(
    server: Place, fork_server: ForkServer
) -> None:
    expectation, target = server.expectation(), server.target
    expectation.back_up()
    expected, before = expectation.now(), databases(target)
    flags = (
        "restore",
        *server.target_flags,
        "-db",
        expectation.database,
        expectation.backups,
        "-newdb",
    )
    # The receipt comes after the record says that all is there, and after those of a batch.
    mine, theirs = f"copy-of-{expectation.database}", f"other-of-{expectation.database}"
    sleeper = stopped(fork_server, "store.before-rename:6", *flags, mine)
    assert (
        '"complete": true'
        in next(expectation.backups.glob(".shardkeeper.server-restore-*.json")).read_text()
    )
    lease_is_over(expectation.backups, lock_of_restore(expectation.backups))
    heir = shardkeeper(*flags, theirs)
    assert heir, heir
    assert "was complete when it was killed" in heir.err
    done = woken(sleeper)
    assert done, done
    for name in (mine, theirs):
        assert points(target, name) == expected
        target.drop_database(name)
    assert databases(target) == before


@pytest.mark.fault(63)
@pytest.mark.parametrize("passes", [1, 2])
def test_a_lock_that_a_killed_restore_left_goes_with_the_next_one(
    server: Place, fork_server: ForkServer, passes: int
) -> None:
    """It is there before the record is."""
    expectation, copy = server.expectation(), "copied"
    expectation.back_up()
    flags = (
        "restore",
        *server.target_flags,
        "-db",
        expectation.database,
        expectation.backups,
        "-newdb",
    )
    dead = fork_server.start(*flags, copy, env={VARIABLE: f"store.after-rename:{passes}"}).wait()
    assert dead.code == KILLED
    assert list(expectation.backups.glob(".shardkeeper*.lock"))
    assert shardkeeper(*flags, copy)
    assert not list(expectation.backups.glob(".shardkeeper*"))
    server.target.drop_database(copy)


@pytest.mark.fault(27)
def test_a_restore_that_is_interrupted_once_all_is_there_says_so(
    server: Place, fork_server: ForkServer
) -> None:
    expectation, copy = server.expectation(), "copied"
    expectation.back_up()
    flags = (
        "restore",
        *server.target_flags,
        "-db",
        expectation.database,
        expectation.backups,
        "-newdb",
    )
    done = fork_server.start(*flags, copy, env={VARIABLE: "store.before-rename:6=TERM"}).wait()
    assert done.code == 130, done
    assert "everything is restored all the same" in done.err
    assert points(server.target, copy) == expectation.now()
    assert not list(expectation.backups.glob(".shardkeeper*"))
    server.target.drop_database(copy)


# --- repairs ------------------------------------------------------------------------------


@pytest.mark.fault(46)
@pytest.mark.parametrize("heirs", ["verify", "backup"])
@pytest.mark.parametrize("where", IN_REPAIRS)
def test_a_repair_that_lost_its_place_changes_nothing_more(
    server: Place, fork_server: ForkServer, where: str, heirs: str
) -> None:
    """No bytes are lost, damaged ones included; the next repair leaves nothing to be found."""
    expectation = server.expectation()
    for shards in ([0, 1, 2], [0], [0]):
        server.write(expectation, shards)
        expectation.back_up()
    flip(oldest(expectation, "*.manifest"))
    flip(oldest(expectation, "*.meta"))
    flip(newest(expectation, "*.tar.gz"))
    before = listing(expectation)
    flags = ("verify", "-repair", *expectation.flags, expectation.backups)
    sleeper = stopped(fork_server, where, *flags)
    if (expectation.backups / LOCK_NAME).exists():
        lease_is_over(expectation.backups, LOCK_NAME)
    if heirs == "verify":
        heir = shardkeeper(*flags)
    else:
        heir = shardkeeper(
            "backup", *expectation.flags, "-db", expectation.database, expectation.backups
        )
    then = listing(expectation)
    done = woken(sleeper)
    assert done.code in (0, 11), done
    if done.code == 11:
        assert "lost the repository's lock" in done.err, done
        assert _lasting(listing(expectation)) == _lasting(then)
    assert set(before.values()) <= set(listing(expectation).values())
    assert heir or heirs == "backup", heir
    again = repair(expectation, *expectation.flags)
    assert again, again
    is_clean(expectation)
    for name in expectation.committed - set(expectation.states):
        expectation.states[name] = expectation.now()
    for name in sorted(expectation.states)[1:]:
        assert expectation.restored(name) == expectation.states[name]
    assert not list(expectation.backups.glob(".shardkeeper*"))


def _lasting(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what a run has for itself while it is at work."""
    return {name: raw for name, raw in files.items() if not name.startswith(".")}
