"""A run stands still at any point until another has taken its place, and wakes up: nothing is lost.

As a machine that sleeps, a hung network file system, a stopped process. Another run takes the lock
over, sweeps what the sleeper stored, and makes a backup of its own.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.embedded.cluster import EmbeddedCluster
from resources.engine.restore import lease
from resources.model import Metastore, ShardID
from resources.repository.storage.lock import LEASE_VARIABLE
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.faults.test_failpoints import LATER, lose_copies, points
from tests.processes import ForkServer, Run
from tests.resources.repository.storage.test_lock import foreign, plant
from tests.wire.cluster_restore.scenario import right_before_it_is_set
from tests.wire.commands import shardkeeper

pytestmark = pytest.mark.fault(37)

LEASE_S = 0.3
CLUSTER_LEASE_S = 2.0
POINTS = [
    *(name for name in FAILPOINTS if name.startswith("store.")),
    *(name for name in FAILPOINTS if name.startswith("backup.") and name != "backup.sweeping"),
    *(
        failpoint_request
        for failpoint_request in LATER
        if not failpoint_request.startswith("backup.sweeping")
    ),
]


def is_stopped(run: Run) -> bool:
    try:
        return Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def stood_still(
    fork_server: ForkServer,
    failpoint_request: str,
    *args: object,
    lease_s: float = LEASE_S,
    env: Mapping[str, str] | None = None,
) -> Run:
    """A run that has stopped there, past its lease."""
    env = {
        **(env or {}),
        VARIABLE: f"{failpoint_request}=STOP",
        LEASE_VARIABLE: str(lease_s),
    }
    run = fork_server.start(*args, env=env)
    deadline = time.monotonic() + 60
    while not is_stopped(run):
        assert run.running, run.wait()
        assert time.monotonic() < deadline, run.output
        time.sleep(0.005)
    time.sleep(lease_s + 0.1)
    return run


def woken(run: Run) -> int:
    run.send(signal.SIGCONT)
    done = run.wait()
    assert "Traceback" not in done.err, done
    if done.code == 11:
        assert "lost the repository's lock" in done.err or "is locked by" in done.err, done
    return done.code


def take_all_notes(expectation: Expectation) -> None:
    """The source did not change meanwhile, so each of them holds what is there now."""
    for name in expectation.committed - set(expectation.states):
        expectation.states[name] = expectation.now()


@pytest.mark.parametrize("failpoint_request", POINTS)
def test_a_backup_that_lost_its_place_commits_and_deletes_nothing(
    server: Place, fork_server: ForkServer, failpoint_request: str
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    server.write(expectation)
    flags = (
        "backup",
        *expectation.flags,
        "-full",
        "-db",
        expectation.database,
        expectation.backups,
    )
    sleeper = stood_still(fork_server, failpoint_request, *flags)
    heir = shardkeeper(
        "backup", *expectation.flags, "-db", expectation.database, expectation.backups
    )
    if not heir:  # it stands still amid the replacing of the lock's record
        assert "stayed locked" in heir.err or heir.code == 11, heir
    code = woken(sleeper)
    n_new = len(expectation.committed - set(expectation.states))
    assert n_new == bool(heir) + (code == 0), (heir, code)
    take_all_notes(expectation)
    expectation.check_all()
    expectation.back_up()
    expectation.check_all()
    assert expectation.tidy(), sorted(expectation.backups.iterdir())


def test_a_sleeper_cannot_touch_what_its_heir_calls_by_the_same_names(
    server: Place, fork_server: ForkServer
) -> None:
    """As when the heir's clock is behind: it takes the second that the sleeper had taken."""
    expectation = server.expectation()
    flags = (
        "backup",
        *expectation.flags,
        "-full",
        "-db",
        expectation.database,
        expectation.backups,
    )
    sleeper = stood_still(fork_server, "backup.before-commit", *flags)
    [meta] = expectation.backups.glob("*.meta")
    name = meta.stem
    assert shardkeeper(*flags)
    [manifest] = expectation.backups.glob("*.manifest")
    theirs = manifest.stem
    if theirs != name:  # the clock has gone on: three files of the sleeper's names
        for path in expectation.backups.glob(f"{theirs}.s*"):
            path.with_name(path.name.replace(theirs, name)).write_bytes(b"an heir's")
    before = {path.name: path.read_bytes() for path in expectation.backups.glob(f"{name}.s*")}
    assert len(before) == 3
    assert woken(sleeper) == 11
    assert {
        path.name: path.read_bytes() for path in expectation.backups.glob(f"{name}.s*")
    } == before
    assert (expectation.backups / f"{name}.manifest").exists() == (theirs == name)


@pytest.mark.fault(27)
@pytest.mark.parametrize("number", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize("failpoint_request", random.Random(7).sample(POINTS, 8))
def test_a_signal_at_any_point_of_a_backup_leaves_nothing(
    server: Place, fork_server: ForkServer, failpoint_request: str, number: str
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    server.write(expectation)
    flags = ("backup", *expectation.flags, "-db", expectation.database, expectation.backups)
    done = fork_server.start(*flags, env={VARIABLE: f"{failpoint_request}={number}"}).wait()
    committed = expectation.take_note()
    assert done.code in (0, 130), done
    assert done.code == 130 or committed
    assert expectation.tidy(), sorted(expectation.backups.iterdir())
    expectation.check_all()


# --- into clusters ------------------------------------------------------------------------


@pytest.fixture
def living(cluster: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """A cluster whose leader gives its leases away for a moment only."""
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    running = cluster.cluster
    assert running is not None
    for node in running.meta:
        node.leases.forget()
        node.leases.duration_s = CLUSTER_LEASE_S
    yield running
    for node in running.meta:
        node.leases.forget()
        node.leases.duration_s = lease.LEASE_S
    running.before_command(None)


def contents(cluster: EmbeddedCluster) -> tuple[Metastore, list[list[ShardID]]]:
    """All that a command or a data node can be made to change."""
    store = replace(cluster.group.metastore, term=0, index=0)
    return store, [sorted(node.store.shards()) for node in cluster.data]


def elsewhere(directory: Path) -> Path:
    """The backups in another directory, as on another machine."""
    copy = directory.with_name(f"{directory.name}-elsewhere")
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns(".shardkeeper*"))
    return copy


@pytest.mark.parametrize(
    "failpoint_request",
    [
        "cluster.after-journal",
        "cluster.before-setting",
        "cluster.after-metadata",
        "cluster.shards-created",
        "cluster.before-adoption",
        "cluster.before-rollback",
    ],
)
def test_a_restore_that_lost_its_lease_changes_nothing_more_in_the_cluster(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer, failpoint_request: str
) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    expected, heirs = expectation.now(), f"heir-of-{expectation.database}"
    cluster.source.drop_database(expectation.database)
    flags = ("restore", *cluster.source_flags, "-timeout", "5s", "-db", expectation.database)
    if failpoint_request.endswith("rollback"):
        living.before_command(lambda command: lose_copies(living, command))
    sleeper = stood_still(
        fork_server, failpoint_request, *flags, expectation.backups, lease_s=CLUSTER_LEASE_S
    )
    living.before_command(None)
    heir = shardkeeper(*flags, "-newdb", heirs, elsewhere(expectation.backups))
    assert heir, heir
    before = contents(living)
    sleeper.send(signal.SIGCONT)
    done = sleeper.wait()
    assert done.code == (1 if failpoint_request.endswith("rollback") else 14), done
    assert "changes nothing more" in done.err, done
    assert contents(living) == before
    if before[0].database(expectation.database) is not None:
        assert f"what was created of database '{expectation.database}' is left" in done.err, done
        listed = shardkeeper("restore", "-list", expectation.backups)
        assert f"of database '{expectation.database}' is at work, or was killed" in listed.err
    again = shardkeeper(*flags, expectation.backups)
    assert again or "is complete now" in again.err, again
    assert points(cluster.source, expectation.database) == expected
    assert points(cluster.source, heirs) == expected
    assert not list(expectation.backups.glob(".shardkeeper.restore-*"))
    for name in (expectation.database, heirs):
        cluster.source.drop_database(name)


def test_a_restore_whose_record_another_one_has_dealt_with_is_refused_as_busy(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer
) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    cluster.source.drop_database(expectation.database)
    restore = ("restore", *cluster.source_flags, "-db", expectation.database, expectation.backups)
    fork_server.start(*restore, env={VARIABLE: "cluster.after-metadata"}).wait()
    next_one = stood_still(fork_server, "store.created", *restore)  # it has read the record
    [record] = expectation.backups.glob(".shardkeeper.restore-*.json")
    record.unlink()
    before = contents(living)
    next_one.send(signal.SIGCONT)
    done = next_one.wait()
    assert done.code == 14, done
    assert "another restore from here has worked meanwhile" in done.err
    assert contents(living) == before
    cluster.source.drop_database(expectation.database)


def test_a_merge_goes_on_if_its_lease_was_lost_when_all_was_restored(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer
) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    expected = expectation.now()
    cluster.source.query("DROP SERIES FROM m WHERE t = '1'", db=expectation.database)
    merge = ("merge", *cluster.source_flags, "-db", expectation.database, expectation.backups)
    sleeper = stood_still(fork_server, "cluster.after-adoption", *merge, lease_s=CLUSTER_LEASE_S)
    sleeper.send(signal.SIGCONT)
    done = sleeper.wait()
    assert done, done
    assert expectation.now() == expected
    assert not list(expectation.backups.glob(".shardkeeper*"))
    cluster.source.drop_database(expectation.database)


def test_a_metastore_is_not_replaced_by_a_run_that_lost_its_lease(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer
) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    force = (*cluster.source_flags, "restore", "-meta-only-overwrite-force")
    cluster.source.create_database("since")
    sleeper = stood_still(
        fork_server, "cluster.before-setting", *force, expectation.backups, lease_s=CLUSTER_LEASE_S
    )
    there = elsewhere(expectation.backups)
    assert shardkeeper("restore", *cluster.source_flags, "-db", expectation.database,
                       "-newdb", "heirs", there)  # fmt: skip
    before = contents(living)
    sleeper.send(signal.SIGCONT)
    done = sleeper.wait()
    assert done.code == 14, done
    assert "changes nothing more" in done.err, done
    assert contents(living) == before
    assert not list(expectation.backups.glob("*.replaced.meta"))  # it was surely not sent
    for name in ("since", "heirs", expectation.database):
        cluster.source.drop_database(name)


# --- others change it meanwhile -----------------------------------------------------------


@pytest.mark.fault(73)
@pytest.mark.parametrize("how", ["TERM", "STOP"])
@pytest.mark.parametrize("command", ["restore", "overwrite"])
def test_what_setting_a_metastore_undid_is_put_back_whatever_ends_the_run(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer, command: str, how: str
) -> None:
    """A signal waits until then, and a lease that is lost by then does not stand against it."""
    expectation = cluster.expectation()
    expectation.back_up()
    cluster.source.drop_database(expectation.database)
    right_before_it_is_set(living, lambda: living.query("CREATE DATABASE racer"))
    if command == "restore":
        flags = ("restore", *cluster.source_flags, "-db", expectation.database, expectation.backups)
        where = "cluster.after-metadata"
    else:
        flags = (
            *cluster.source_flags,
            "restore",
            "-meta-only-overwrite-force",
            expectation.backups,
        )
        where = "overwrite.set"
    if how == "STOP":
        run = stood_still(fork_server, where, *flags, lease_s=CLUSTER_LEASE_S)
        run.send(signal.SIGCONT)
        assert run.wait().code == (14 if command == "restore" else 0)
    else:
        run = fork_server.start(*flags, env={VARIABLE: f"{where}={how}"})
        assert run.wait().code == 130
    assert "database 'racer'" in run.output
    assert living.group.metastore.database("racer") is not None
    living.before_command(None)
    for node in living.meta:
        node.leases.forget()
    again = shardkeeper(*flags)
    assert again, again
    assert living.group.metastore.database("racer") is not None or command == "overwrite"
    for name in ("racer", expectation.database):
        cluster.source.drop_database(name)


# --- signals ------------------------------------------------------------------------------


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    "failpoint_request", ["before-rollback=TERM", "mid-rollback=INT", "mid-rollback=HUP"]
)
def test_the_first_signal_does_not_end_the_clean_up_of_a_restore_that_failed_either(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer, failpoint_request: str
) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    cluster.source.drop_database(expectation.database)
    before = contents(living)
    living.before_command(lambda command: lose_copies(living, command))
    flags = ("restore", *cluster.source_flags, "-timeout", "5s", "-db", expectation.database)
    done = fork_server.start(
        *flags, expectation.backups, env={VARIABLE: f"cluster.{failpoint_request}"}
    ).wait()
    assert done.code == 130, done
    assert "cleaning up: taking back what was restored" in done.err, done
    assert "did not get the owners" in done.err, done  # why it had failed
    store, shards = contents(living)
    assert (store.databases, shards) == (before[0].databases, before[1])
    assert not list(expectation.backups.glob(".shardkeeper*"))


@pytest.mark.fault(27)
@pytest.mark.parametrize("failpoint_request", ["overwrite.kept=TERM", "cluster.before-setting=INT"])
def test_an_overwrite_that_is_interrupted_before_it_sends_keeps_nothing(
    cluster: Place, living: EmbeddedCluster, fork_server: ForkServer, failpoint_request: str
) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    cluster.source.create_database("since")
    before = contents(living)[0].databases
    force = (*cluster.source_flags, "restore", "-meta-only-overwrite-force", expectation.backups)
    done = fork_server.start(*force, env={VARIABLE: failpoint_request}).wait()
    assert done.code == 130, done
    assert contents(living)[0].databases == before
    assert not list(expectation.backups.glob("*.replaced.meta"))
    for name in ("since", expectation.database):
        cluster.source.drop_database(name)


# --- what is said -------------------------------------------------------------------------


def test_whose_lock_is_observed_is_reported_before_the_wait(
    server: Place, fork_server: ForkServer
) -> None:
    expectation = server.expectation()
    plant(expectation.backups, foreign(datetime.now(UTC) - timedelta(hours=1)))
    done = shardkeeper(
        "backup", *expectation.flags, "-db", expectation.database, expectation.backups
    )
    assert done, done
    assert "the lock is held by alice@elsewhere" in done.err
    assert "waits for 0 s at most" in done.err


def test_a_listing_says_what_restores_left_unfinished(
    server: Place, fork_server: ForkServer
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    restore = ("restore", *server.target_flags, "-db", expectation.database, expectation.backups)
    dead = fork_server.start(*restore, env={VARIABLE: "restore.after-metadata"}).wait()
    assert dead.code == -signal.SIGKILL
    listed = shardkeeper("restore", "-list", expectation.backups)
    assert listed, listed
    assert f"of '{expectation.database}' is at work, or was killed" in listed.err
    assert shardkeeper(*restore)
    assert "killed" not in shardkeeper("restore", "-list", expectation.backups).err
    server.target.drop_database(expectation.database)
