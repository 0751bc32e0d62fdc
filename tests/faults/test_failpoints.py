"""A run that dies at a named point leaves every earlier backup, and the next one converges."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.protocol.commands import Command, CopyShardOwner
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.faults.places import Place
from tests.processes import ForkServer
from tests.proxy import Flip, Proxy, uploads
from tests.wire.commands import shardkeeper
from tests.wire.points import databases, points

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL

IN_BACKUPS = [name for name in FAILPOINTS if name.startswith(("store.", "backup."))]
BACKING_UP = [name for name in IN_BACKUPS if name.startswith("backup.")]
"""Those where a source has a part; what happens within the store is the same for all of them."""
IN_RESTORES = [name for name in FAILPOINTS if name.startswith("restore.")]
IN_BUCKETS = [name for name in FAILPOINTS if name.startswith("bucket.")]
"""tests/faults/test_bucket.py"""
BY_COMMAND = "cluster.commanded"
"""Passed only while others keep changing the metastore: test_left_overs.py."""
IN_CLUSTERS = [name for name in FAILPOINTS if name.startswith("cluster.") and name != BY_COMMAND]
IN_OVERWRITES = [name for name in FAILPOINTS if name.startswith("overwrite.")]
IN_MERGES = [name for name in FAILPOINTS if name.startswith("merge.")]
IN_REPAIRS = [name for name in FAILPOINTS if name.startswith("repair.")]
LATER = [
    f"{name}:{n}"
    for name in FAILPOINTS
    for n in {"store.created": (2, 4, 7), "store.before-fsync": (2, 4, 7),
              "store.after-fsync": (2, 4, 7), "store.before-rename": (2, 4, 5),
              "store.after-rename": (2, 4, 5), "store.before-replace": (2,),
              "store.after-replace": (2,), "backup.mid-stream": (2, 3), "backup.sweeping": (2,),
              "backup.shard-stored": (3,)}.get(name, ())
]  # fmt: skip
"""Files: the lock's, the probe, the lock's again, the metastore, three shards, the manifest."""


def test_every_failpoint_is_in_the_code_once_and_the_code_has_no_others() -> None:
    found = [
        name
        for path in (ROOT / "resources").rglob("*.py")
        for name in re.findall(r'\bpassing\("([^"]+)"\)', path.read_text())
    ]
    assert sorted(found) == sorted(FAILPOINTS)


def test_every_failpoint_is_exercised() -> None:
    exercised = IN_BACKUPS + IN_RESTORES + IN_CLUSTERS + IN_OVERWRITES + IN_MERGES + IN_REPAIRS
    exercised = [*exercised, BY_COMMAND, *IN_BUCKETS]
    assert sorted(exercised) == sorted(FAILPOINTS)


def test_a_command_lists_them() -> None:
    listed = shardkeeper("failpoints").out.splitlines()
    assert [line.split()[0] for line in listed] == list(FAILPOINTS)
    assert "failpoints" not in shardkeeper("-h").out


@pytest.mark.parametrize(
    "failpoint_request", ["nonsense", "backup.before-commit:0", "backup.mid-stream:x"]
)
def test_a_request_that_cannot_come_true_is_refused(
    fork_server: ForkServer, failpoint_request: str
) -> None:
    done = fork_server.start("failpoints", env={VARIABLE: failpoint_request}).wait()
    assert done.code == 2
    assert "is not a failpoint" in done.err


def test_a_request_kills_outside_of_tests_too() -> None:
    program = (
        "from resources.runtime.failpoints import passing; passing('backup.locked'); print('here')"
    )
    for failpoint_request, code in (
        ("backup.locked", KILLED),
        ("backup.locked:2", 0),
        ("backup.named", 0),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={VARIABLE: failpoint_request},
            check=False,
        )
        assert done.returncode == code


# --- backups ------------------------------------------------------------------------------


def backup_killed_at(place: Place, fork_server: ForkServer, failpoint_request: str) -> None:
    """A backup dies; what was committed is there; the next one converges."""
    expectation = place.expectation()
    expectation.back_up()
    place.write(expectation)
    flags = ("backup", *expectation.flags, "-db", expectation.database, expectation.backups)
    if failpoint_request.startswith("backup.sweeping"):  # there must be something to sweep
        dead = fork_server.start(*flags, env={VARIABLE: "backup.before-commit"}).wait()
        assert dead.code == KILLED
    done = fork_server.start(*flags, env={VARIABLE: failpoint_request}).wait()
    assert done.code == KILLED, done
    committed = expectation.take_note()
    assert committed == (failpoint_request == "backup.after-commit"), failpoint_request
    expectation.check_all()
    name = expectation.back_up()
    expectation.check_all()
    assert expectation.tidy()
    copied = len(list(expectation.backups.glob(f"{name}.s*.tar.gz")))
    assert copied == (0 if committed else 3)


@pytest.mark.fault(26, 29)
@pytest.mark.parametrize("failpoint_request", [*IN_BACKUPS, *LATER])
def test_a_backup_killed_anywhere_leaves_what_was_and_the_next_converges(
    server: Place, fork_server: ForkServer, failpoint_request: str
) -> None:
    backup_killed_at(server, fork_server, failpoint_request)


@pytest.mark.wire
@pytest.mark.fault(26)
@pytest.mark.parametrize("failpoint_request", BACKING_UP)
def test_a_backup_of_a_real_server_killed_anywhere_leaves_what_was(
    real: Place, fork_server: ForkServer, failpoint_request: str
) -> None:
    backup_killed_at(real, fork_server, failpoint_request)


@pytest.mark.fault(26)
@pytest.mark.parametrize("failpoint_request", BACKING_UP)
def test_a_backup_of_a_cluster_killed_anywhere_leaves_what_was(
    cluster: Place, fork_server: ForkServer, failpoint_request: str
) -> None:
    backup_killed_at(cluster, fork_server, failpoint_request)


# --- restores -----------------------------------------------------------------------------


def restore_killed_at(place: Place, fork_server: ForkServer, name: str) -> None:
    """A restore dies; the backup is as it was; the next one this run continues it."""
    expectation = place.expectation()
    expectation.back_up()
    copy = f"copy-of-{expectation.database}"
    before = databases(place.target)
    flags = ("restore", *place.target_flags, "-db", expectation.database, "-newdb", copy)
    with Proxy(place.target.bind_addr) as proxy:
        if name.endswith("rollback"):
            proxy.break_all(Flip(700, direction="to server"), chosen=uploads)
        to = ("-host", proxy.address)
        done = fork_server.start(*flags, *to, expectation.backups, env={VARIABLE: name}).wait()
    assert done.code == KILLED, done
    again = shardkeeper(*flags, expectation.backups)
    assert again, again  # nothing needs to be dropped by hand
    assert databases(place.target) - before == {copy}
    left = name not in ("restore.checked", "restore.after-rollback")
    assert ("this run continues it" in again.err) == left, again
    assert not list(expectation.backups.glob(".shardkeeper.server-restore-*"))
    assert points(place.target, copy) == expectation.now()
    place.target.drop_database(copy)
    expectation.check_all()


@pytest.mark.fault(26, 63)
@pytest.mark.parametrize("name", IN_RESTORES)
def test_a_restore_killed_anywhere_harms_nothing_and_can_be_repeated(
    server: Place, fork_server: ForkServer, name: str
) -> None:
    restore_killed_at(server, fork_server, name)


@pytest.mark.wire
@pytest.mark.fault(26, 63)
@pytest.mark.parametrize("name", IN_RESTORES)
def test_a_restore_into_a_real_server_killed_anywhere_can_be_repeated(
    real: Place, fork_server: ForkServer, name: str
) -> None:
    restore_killed_at(real, fork_server, name)


def lose_copies(cluster: EmbeddedCluster, command: Command) -> None:
    """A node loses a proved copy right before its shard gets an owner."""
    if isinstance(command, CopyShardOwner):
        cluster.data[1].store.remove(command.shard_id)


@pytest.mark.fault(26, 63)
@pytest.mark.parametrize("name", IN_CLUSTERS)
def test_a_restore_into_a_cluster_killed_anywhere_is_undone_or_finished_by_the_next(
    cluster: Place, fork_server: ForkServer, name: str
) -> None:
    running = cluster.cluster
    assert running is not None
    for node in running.meta:
        node.leases.forget()  # else the last test's directory would be waited for
    expectation = cluster.expectation()
    expectation.back_up()
    expected = expectation.now()
    cluster.source.drop_database(expectation.database)
    flags = ("restore", *cluster.source_flags, "-timeout", "5s", "-db", expectation.database)
    if name.endswith("rollback"):
        running.before_command(lambda command: lose_copies(running, command))
    done = fork_server.start(*flags, expectation.backups, env={VARIABLE: name}).wait()
    running.before_command(None)
    assert done.code == KILLED, done
    again = shardkeeper(*flags, expectation.backups)
    if not again:  # it was complete but for its journal, so now the database is there
        assert "is complete now" in again.err, again
    assert points(cluster.source, expectation.database) == expected
    assert not list(expectation.backups.glob(".shardkeeper.restore-*"))
    known = {place.shard_id for place in running.group.metastore.places()}
    assert {shard for node in running.data for shard in node.store.shards()} <= known
    cluster.source.drop_database(expectation.database)


@pytest.mark.fault(26)
@pytest.mark.parametrize("failpoint_request", IN_OVERWRITES)
def test_a_metastore_that_a_killed_run_was_replacing_is_the_old_or_the_new_one(
    tmp_path: Path, fork_server: ForkServer, failpoint_request: str
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=1) as cluster:

        def names() -> list[str]:
            return [database.name for database in cluster.group.metastore.databases]

        flags = ("-bind", cluster.meta[0].http_addr)
        force = (*flags, "restore", "-meta-only-overwrite-force")
        cluster.query("CREATE DATABASE telegraf")
        assert shardkeeper(*flags, "backup", backups)
        cluster.query("DROP DATABASE telegraf; CREATE DATABASE since")
        assert (
            fork_server.start(*force, backups, env={VARIABLE: failpoint_request}).wait().code
            == KILLED
        )
        assert names() == (["telegraf"] if failpoint_request == "overwrite.set" else ["since"])
        [replaced] = backups.glob("*.replaced.meta")
        assert shardkeeper(*force, backups)
        assert names() == ["telegraf"]
        assert shardkeeper(*force, replaced)
        assert names() == ["since"]
