"""Restores into a cluster: every copy is there before anybody can read one, or nothing is.

The embedded cluster stands for influxdb-cluster here.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.devcluster.cluster import DevCluster
from resources.engine import cluster_by_command
from resources.model import Metastore, NodeID
from resources.protocol.commands import Command, CopyShardOwner, CreateDatabase, SetData
from resources.protocol.meta import encode_metastore
from tests.wire.commands import Done, shardkeeper

WEEK_S = 604_800
START_S = 1_600_000_000
HOSTS, WEEKS = 20, 3
NOT_EMPTY = "problem setting snapshot: cannot restore into non-empty cluster"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[DevCluster]:
    with DevCluster(tmp_path / "source", meta_nodes=1, data_nodes=3) as running:
        fill(running, "telegraf")
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Iterator[DevCluster]:
    with DevCluster(tmp_path / "target", meta_nodes=3, data_nodes=3) as running:
        yield running


@pytest.fixture
def backups(tmp_path: Path, source: DevCluster) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    done = shardkeeper("-bind", source.meta[0].http_addr, "backup", path)
    assert done, done
    return path


def fill(cluster: DevCluster, database: str, replication: int = 2) -> None:
    cluster.query(f"CREATE DATABASE {database} WITH REPLICATION {replication}")
    lines = [
        f"cpu,host=h{host} usage={host}.5,n={host}i {START_S + week * WEEK_S + host}"
        for host in range(HOSTS)
        for week in range(WEEKS)
    ]
    cluster.write(database, "\n".join(lines), precision="s")


def restore(cluster: DevCluster, directory: Path, *flags: object) -> Done:
    # A meta node that follows: what it does not do itself it sends on to the leader.
    address = cluster.meta[-1].http_addr
    return shardkeeper("-bind", address, "-timeout", "5s", "restore", *flags, directory)


def points(cluster: DevCluster, database: str) -> list[Any]:
    """Every point of a database, as each node in turn tells them."""
    said = [
        cluster.query("SELECT * FROM cpu", database=database, at=at)
        for at, node in enumerate(cluster.data)
        if node.running
    ]
    return [answer["results"] for answer in said]


def metastore(cluster: DevCluster) -> Metastore:
    _, found = MetaClient(cluster.meta[0].http_addr).metastore()
    return found


def timeless(store: Metastore) -> Metastore:
    """What no number and no time of a change can show."""
    return replace(store, term=0, index=0, max_shard_id=0, max_shard_group_id=0)


def on_disk(cluster: DevCluster) -> Mapping[str, list[int]]:
    return {
        node.tcp_addr: sorted(CoordinatorClient(node.tcp_addr).list_shards())
        for node in cluster.data
        if node.running
    }


def journals(directory: Path) -> list[str]:
    return [path.name for path in directory.glob(".shardkeeper.restore-*")]


@pytest.mark.parametrize(("replica_n", "copies"), [(1, 1), (2, 2), (3, 3), (7, 3)])
def test_every_node_answers_with_every_point(
    source: DevCluster, target: DevCluster, backups: Path, replica_n: int, copies: int
) -> None:
    done = restore(target, backups, "-db", "telegraf", "-newrf", replica_n)
    assert done, done
    expected = points(source, "telegraf")
    assert points(target, "telegraf") == expected
    assert expected[0][0]["series"][0]["values"]
    owners = [place.shard.owners for place in metastore(target).places()]
    assert {len(found) for found in owners} == {copies}
    assert all(
        line.count("Copying data to ") == copies
        for line in done.out.splitlines()
        if line.startswith("Copying data")
    )
    assert journals(backups) == []


def test_an_empty_cluster_gets_the_numbers_of_the_source_and_takes_writes_after_it(
    source: DevCluster, target: DevCluster, backups: Path
) -> None:
    done = restore(target, backups)
    assert done, done
    assert {p.shard_id for p in metastore(target).places()} == {
        p.shard_id for p in metastore(source).places()
    }
    assert "are not this cluster's" in done.err
    for cluster in (source, target):
        line = f"cpu,host=h1 usage=9 {START_S}\ncpu,host=h1 usage=9 {START_S + 50 * WEEK_S}"
        cluster.write("telegraf", line, precision="s")
    assert points(target, "telegraf") == points(source, "telegraf")


@pytest.mark.fault(62, 72)
def test_what_is_there_is_refused_in_the_originals_words_and_a_new_name_goes_beside_it(
    target: DevCluster, backups: Path
) -> None:
    fill(target, "telegraf", replication=3)
    before, there = metastore(target), points(target, "telegraf")
    refused = restore(target, backups)
    assert refused.code == 14
    assert f"restore: operation exited with error: {NOT_EMPTY}" in refused.err
    assert metastore(target) == before
    done = restore(target, backups, "-db", "telegraf", "-newdb", "beside")
    assert done, done
    assert points(target, "beside") == there
    assert metastore(target).database("telegraf") == before.database("telegraf")
    new = {p.shard_id for p in metastore(target).places() if p.database == "beside"}
    assert min(new) > before.max_shard_id + 99


def test_a_plan_changes_nothing(target: DevCluster, backups: Path) -> None:
    before = metastore(target)
    assert "nothing was changed" in restore(target, backups, "-plan").out
    assert metastore(target) == before


def test_continuous_queries_come_with_a_database_that_keeps_its_name(
    source: DevCluster, target: DevCluster, tmp_path: Path
) -> None:
    source.query(
        "CREATE CONTINUOUS QUERY q ON telegraf BEGIN SELECT mean(usage) INTO down FROM cpu "
        "GROUP BY time(1h) END"
    )
    path = tmp_path / "with-query"
    path.mkdir(mode=0o700)
    assert shardkeeper("-bind", source.meta[0].http_addr, "backup", path)
    assert restore(target, path)
    assert restore(target, path, "-db", "telegraf", "-newdb", "other")
    now = metastore(target)
    assert {db.name: [q.name for q in db.continuous_queries] for db in now.databases} == {
        "telegraf": ["q"],
        "other": [],
    }


def test_the_clusters_own_monitoring_begins_anew_when_everything_is_restored_and_only_then(
    source: DevCluster, target: DevCluster, backups: Path
) -> None:
    target.query("CREATE DATABASE _internal WITH DURATION INF REPLICATION 1 NAME monitor")
    target.query("CREATE USER ann WITH PASSWORD 'a-secret'; GRANT READ ON _internal TO ann")
    points_of = "\n".join(f"cpu,host=h{host} n={host}i {START_S}" for host in range(HOSTS))
    target.write("_internal", points_of, precision="s")
    old = {p.shard_id for p in metastore(target).places() if p.database == "_internal"}
    assert len(old) == 3
    before = points(target, "_internal")
    part = restore(target, backups, "-db", "telegraf", "-newdb", "beside")
    assert part, part
    assert points(target, "_internal") == before
    planned = restore(target, backups, "-plan")
    assert (
        "the 3 shards of _internal in this cluster are dropped when all is restored" in planned.out
    )
    done = restore(target, backups)
    assert done, done
    assert "the 3 shards of _internal in this cluster are dropped" in done.err
    assert points(target, "telegraf") == points(source, "telegraf")
    assert not any("series" in result[0] for result in points(target, "_internal"))
    assert not {shard for shards in on_disk(target).values() for shard in shards} & old
    # Nodes that run find what they have made, and whoever could read it still can.
    assert users(target)["ann"][2] == {"_internal": 1}
    target.write("_internal", points_of, precision="s")
    assert points(target, "_internal") == before


def users(cluster: DevCluster) -> dict[str, tuple[str, bool, dict[str, int]]]:
    return {
        user.name: (
            user.hash,
            user.admin,
            {grant.database: grant.privilege for grant in user.privileges},
        )
        for user in metastore(cluster).users
    }


def test_users_come_when_asked_for_and_those_that_are_there_stay_as_they_are(
    source: DevCluster, target: DevCluster, tmp_path: Path
) -> None:
    for statement in (
        "CREATE USER ann WITH PASSWORD 'a-secret' WITH ALL PRIVILEGES",
        "CREATE USER bob WITH PASSWORD 'b-secret'",
        "CREATE USER eve WITH PASSWORD 'e-secret' WITH ALL PRIVILEGES",
        "GRANT READ ON telegraf TO bob",
    ):
        source.query(statement)
    target.query("CREATE USER eve WITH PASSWORD 'other'")
    eve = users(target)["eve"]
    path = tmp_path / "with-users"
    path.mkdir(mode=0o700)
    assert shardkeeper("-bind", source.meta[0].http_addr, "backup", path)
    shown = restore(target, path, "-users", "-plan").out
    assert "user 'ann' is created with the password it had: may do everything" in shown
    assert "user 'bob' is created with the password it had: READ on 'telegraf'" in shown
    assert "user 'eve' is there already and stays as it is" in shown
    assert users(target) == {"eve": eve}
    done = restore(target, path, "-users")
    assert done, done
    assert "$2a$" not in shown + done.out + done.err
    assert users(target) == users(source) | {"eve": eve}


def test_users_stay_away_unless_asked_for(
    source: DevCluster, target: DevCluster, tmp_path: Path
) -> None:
    source.query("CREATE USER ann WITH PASSWORD 'a-secret' WITH ALL PRIVILEGES")
    path = tmp_path / "with-users"
    path.mkdir(mode=0o700)
    assert shardkeeper("-bind", source.meta[0].http_addr, "backup", path)
    assert restore(target, path, "-users", "-db", "telegraf").code == 2
    done = restore(target, path)
    assert "1 users ('ann') are left out" in done.err
    assert users(target) == {}


def test_a_node_that_is_down_at_the_start_leaves_everything_as_it_was(
    target: DevCluster, backups: Path
) -> None:
    target.stop_node(1)
    before = metastore(target)
    done = restore(target, backups)
    assert done.code == 1
    assert target.data[1].tcp_addr in done.err
    assert metastore(target) == before
    assert journals(backups) == []


@pytest.mark.fault(63, 65)
def test_a_restore_that_fails_is_undone_on_every_node(target: DevCluster, backups: Path) -> None:
    fill(target, "mine")
    before, disks = metastore(target), on_disk(target)

    def no_owners(command: Command) -> None:
        if isinstance(command, CopyShardOwner):
            target.group.execute(SetData(without_database(target, "telegraf")))

    target.before_command(no_owners)
    done = restore(target, backups)
    assert done.code == 1
    assert timeless(metastore(target)) == timeless(before)
    assert on_disk(target) == disks
    assert journals(backups) == []


def without_database(cluster: DevCluster, name: str) -> bytes:
    now = cluster.group.metastore
    kept = tuple(database for database in now.databases if database.name != name)
    return encode_metastore(replace(now, databases=kept))


@pytest.mark.fault(63, 64)
def test_what_a_node_keeps_because_it_went_down_is_taken_away_by_the_next_run(
    target: DevCluster, backups: Path
) -> None:
    before = metastore(target)

    def go_down(command: Command) -> None:
        if isinstance(command, CopyShardOwner) and target.data[2].running:
            target.stop_node(2)

    target.before_command(go_down)
    failed = restore(target, backups)
    assert failed.code == 1
    assert "run restore again from here" in failed.err
    assert timeless(metastore(target)) == timeless(before)
    assert len(journals(backups)) == 1
    target.before_command(None)
    again = restore(target, backups)
    assert again.code == 1
    assert "is not undone yet" in again.err
    target.start_node(2)
    assert on_disk(target)[target.data[2].tcp_addr]
    assert restore(target, backups)
    known = {place.shard_id for place in metastore(target).places()}
    assert {shard for shards in on_disk(target).values() for shard in shards} == known
    assert journals(backups) == []


def test_a_change_that_may_have_been_lost_in_between_is_told(
    target: DevCluster, backups: Path
) -> None:
    fill(target, "mine")

    def somebody_else(command: Command) -> None:
        if isinstance(command, SetData):
            target.group.execute(CreateDatabase("racer"))

    target.before_command(somebody_else)
    done = restore(target, backups)
    assert done, done
    assert "another change of the metastore may have been lost" in done.err


@pytest.mark.fault(73)
def test_a_shard_that_the_metastore_lost_in_between_is_named_with_its_nodes(
    target: DevCluster, backups: Path
) -> None:
    fill(target, "mine", replication=1)
    disks = on_disk(target)

    def somebody_writes(command: Command) -> None:
        if isinstance(command, SetData):
            target.write("mine", f"cpu,host=h1 n=1i {START_S + 99 * WEEK_S}", precision="s")

    target.before_command(somebody_writes)
    done = restore(target, backups)
    assert done, done
    known = {place.shard_id for place in metastore(target).places()}
    lost = {
        (shard, node)
        for node, shards in on_disk(target).items()
        for shard in set(shards) - set(disks[node]) - known
    }
    assert lost
    for shard, node in lost:
        assert f"SHARD {shard} ON {node} IS IN NO DATABASE" in done.err


def test_on_an_empty_cluster_a_change_in_between_undoes_the_restore(
    source: DevCluster, target: DevCluster, backups: Path
) -> None:
    def somebody_else(command: Command) -> None:
        if isinstance(command, SetData):
            target.group.execute(CreateDatabase("racer"))

    target.before_command(somebody_else)
    done = restore(target, backups)
    assert done.code == 1
    assert metastore(target).database("telegraf") is None
    assert not any(on_disk(target).values())
    target.before_command(None)
    assert restore(target, backups)
    assert points(target, "telegraf") == points(source, "telegraf")


def test_the_choice_of_a_leader_is_not_taken_for_a_lost_change(
    source: DevCluster, target: DevCluster, backups: Path
) -> None:
    target.change_leader(1)
    done = restore(target, backups)
    assert done, done
    assert "may have been lost" not in done.err
    assert points(target, "telegraf") == points(source, "telegraf")


@contextmanager
def busy(cluster: DevCluster) -> Iterator[list[str]]:
    """Somebody creates databases for the block; gives their names."""
    created: list[str] = []
    done = threading.Event()

    def create() -> None:
        while not done.wait(0.02):
            cluster.query(f"CREATE DATABASE racer{len(created)}")
            created.append(f"racer{len(created)}")

    somebody = threading.Thread(target=create)
    somebody.start()
    try:
        yield created
    finally:
        done.set()
        somebody.join()


@pytest.mark.parametrize(("replica_n", "copies"), [(1, 1), (2, 2), (7, 3)])
def test_a_busy_cluster_gets_as_many_copies_as_asked_for_by_commands_alone(
    source: DevCluster, target: DevCluster, backups: Path, replica_n: int, copies: int
) -> None:
    """One shard holds all series of a group, as a cluster makes them for three copies."""
    fill(source, "three", replication=3)
    assert shardkeeper("-bind", source.meta[0].http_addr, "backup", backups)
    with busy(target) as created:
        done = restore(target, backups, "-db", "three", "-newdb", "again", "-newrf", replica_n)
    assert done, done
    assert "created by single commands" in done.err
    assert points(target, "again") == points(source, "three")
    now = metastore(target)
    owners = [p.shard.owners for p in now.places() if p.database == "again"]
    assert [len(found) for found in owners] == [copies] * WEEKS
    assert {owner.node_id for found in owners for owner in found} == {4, 5, 6}
    again = now.database("again")
    assert again is not None
    assert [rp.replica_n for rp in again.retention_policies] == [replica_n]
    assert set(created) <= {db.name for db in now.databases}


def test_a_busy_cluster_that_would_make_other_shards_is_left_alone(
    tmp_path: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three shards in a group: two nodes make one or two."""
    monkeypatch.setattr(cluster_by_command, "QUIET_WITHIN_LOOKS", 3)
    with DevCluster(tmp_path / "two", meta_nodes=1, data_nodes=2) as two:
        before = on_disk(two)
        with busy(two) as created:
            done = restore(two, backups, "-db", "telegraf", "-newdb", "again")
        assert done.code == 1
        assert "waiting for a quiet moment" in done.err
        assert "this cluster would make other shards" in done.err
        assert {db.name for db in metastore(two).databases} == set(created)
        assert on_disk(two) == before


@pytest.mark.fault(74)
def test_another_restore_that_holds_the_lease_is_not_disturbed(
    target: DevCluster, backups: Path, tmp_path: Path
) -> None:
    holder = MetaClient(target.meta[0].http_addr)
    holder.lease("shardkeeper", NodeID(1))
    before = metastore(target)
    waiting = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.ctl.main import shardkeeper; shardkeeper()",
         "-bind", target.meta[0].http_addr, "restore", str(backups)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert waiting.stderr is not None
    for line in waiting.stderr:
        if "waiting for its lease" in line:
            holder.lease("shardkeeper", NodeID(1))  # it is alive: it renews
            break
    rest = waiting.stderr.read()
    assert waiting.wait() == 14
    assert "another restore into this cluster is at work" in rest
    assert metastore(target) == before


def test_the_lease_of_a_killed_restore_is_waited_for_and_it_is_said_how_long(
    source: DevCluster, target: DevCluster, backups: Path
) -> None:
    for node in target.meta:
        node.leases.duration_s = 2.0
    MetaClient(target.meta[0].http_addr).lease("shardkeeper", NodeID(1))
    done = restore(target, backups)
    assert done, done
    assert re.search(
        r"at work a moment ago or was killed; .* which ends in [12] s unless", done.err
    )
    assert "the other restore's lease has ended; going on" in done.err
    assert points(target, "telegraf") == points(source, "telegraf")


@pytest.mark.fault(26, 63)
def test_a_killed_restore_is_undone_by_the_next(
    source: DevCluster, target: DevCluster, backups: Path
) -> None:
    fill(target, "mine")
    command = [
        sys.executable, "-c", "from pipelines.ctl.main import shardkeeper; shardkeeper()",
        "-bind", target.meta[0].http_addr, "restore", str(backups),
    ]  # fmt: skip
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    killed: list[int] = []

    def kill(command: Command) -> None:
        if isinstance(command, CopyShardOwner) and not killed:
            run.send_signal(signal.SIGKILL)
            killed.append(run.wait())

    target.before_command(kill)
    run.communicate()
    assert killed == [-signal.SIGKILL]
    target.before_command(None)
    # The command on its way may have been applied: then the rest follows, else all is undone.
    done = restore(target, backups)
    assert journals(backups) == []
    assert "an earlier restore" in done.err
    assert points(target, "telegraf") == points(source, "telegraf")
    known = {place.shard_id for place in metastore(target).places()}
    assert {shard for shards in on_disk(target).values() for shard in shards} == known
