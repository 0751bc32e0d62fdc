"""Restores into a cluster that others change meanwhile: clients, a new leader, another restore."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.cluster import atomic_commit, incremental_commit
from resources.model import NodeID
from resources.protocol.commands import Command, SetData
from tests.wire.cluster_restore.scenario import (
    START_S,
    WEEK_S,
    WEEKS,
    busy,
    fill,
    metastore,
    nobody_hears,
    on_disk,
    points,
    restore,
    right_before_it_is_set,
)
from tests.wire.commands import shardkeeper


@pytest.mark.fault(73)
def test_what_others_change_in_the_moment_before_it_is_set_is_put_back(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
) -> None:
    """A database, points in a new shard of another, a user: each is seen before it is undone."""
    fill(target, "mine", replication=1)

    def somebody_else() -> None:
        target.query("CREATE DATABASE racer; CREATE USER ann WITH PASSWORD 'a-secret'")
        target.write("mine", f"cpu,host=h1 n=1i {START_S + 99 * WEEK_S}", precision="s")

    right_before_it_is_set(target, somebody_else)
    done = restore(target, backups)
    assert done, done
    assert "setting it undid that change, and the restore has made it again" in done.err
    for what in ("database 'racer'", "database 'mine'", "user 'ann'"):
        assert what in done.err
    assert "IS IN NO DATABASE" not in done.err
    now = metastore(target)
    assert {db.name for db in now.databases} == {"mine", "racer", "telegraf"}
    assert [user.name for user in now.users] == ["ann"]
    answers = [answer[0]["series"][0]["values"] for answer in points(target, "mine")]
    assert {values[-1][0] for values in answers} == {(START_S + 99 * WEEK_S) * 10**9}
    assert points(target, "telegraf") == points(source, "telegraf")


def test_what_others_change_is_put_back_by_commands_as_far_as_they_go(
    target: EmbeddedCluster, backups: Path
) -> None:
    """They need no moment without other changes."""
    fill(target, "mine")
    target.query("CREATE USER eve WITH PASSWORD 'a-secret'; CREATE USER bob WITH PASSWORD 'other'")
    target.query("CREATE DATABASE old; GRANT READ ON mine TO eve")

    def somebody_else() -> None:
        target.query("CREATE DATABASE racer WITH DURATION 9d NAME two; DROP DATABASE old")
        target.query("CREATE USER ann WITH PASSWORD 'a-secret'; GRANT READ ON mine TO ann")
        target.query("DROP USER bob; GRANT ALL PRIVILEGES TO eve; REVOKE READ ON mine FROM eve")

    right_before_it_is_set(target, somebody_else)
    hook, sets = target.group.before_command, list[Command]()
    assert hook is not None

    def count(command: Command) -> None:
        sets.extend([command] * isinstance(command, SetData))
        hook(command)

    target.before_command(count)
    done = restore(target, backups)
    assert done, done
    assert len(sets) == 1
    now = metastore(target)
    assert {db.name for db in now.databases} == {"mine", "racer", "telegraf"}
    racer = now.database("racer")
    assert racer is not None
    assert [rp.name for rp in racer.retention_policies] == ["two"]
    assert {user.name: user.admin for user in now.users} == {"eve": True, "ann": False}
    rights = {u.name: [g.database for g in u.privileges if g.privilege] for u in now.users}
    assert rights == {"eve": [], "ann": ["mine"]}
    for what in ("database 'racer'", "database 'old'", "user 'ann'", "user 'bob'", "user 'eve'"):
        assert what in done.err


def test_a_database_of_the_same_name_in_the_same_moment_is_theirs(
    target: EmbeddedCluster, backups: Path
) -> None:
    fill(target, "mine")

    def somebody_else() -> None:
        target.query("CREATE DATABASE telegraf WITH DURATION 9d NAME hers")

    right_before_it_is_set(target, somebody_else)
    done = restore(target, backups)
    assert done.code == 1
    assert "the client's are there, and the restore's are not" in done.err
    now = metastore(target).database("telegraf")
    assert now is not None
    assert [rp.name for rp in now.retention_policies] == ["hers"]


def test_a_change_that_nobody_saw_before_it_was_lost_is_reported(
    target: EmbeddedCluster, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_commit, "SEEN_WITHIN_S", 0.1)
    fill(target, "mine")
    nobody_hears(target)
    right_before_it_is_set(target, lambda: target.query("CREATE DATABASE racer"), seen=False)
    done = restore(target, backups)
    assert done, done
    assert "another change of the metastore may have been lost" in done.err


@pytest.mark.fault(73)
def test_a_shard_that_the_metastore_lost_in_between_is_named_with_its_nodes(
    target: EmbeddedCluster, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_commit, "SEEN_WITHIN_S", 0.1)
    nobody_hears(target)
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


def test_the_choice_of_a_leader_is_not_taken_for_a_lost_change(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
) -> None:
    target.change_leader(1)
    done = restore(target, backups)
    assert done, done
    assert "may have been lost" not in done.err
    assert points(target, "telegraf") == points(source, "telegraf")


@pytest.mark.parametrize(("replica_n", "copies"), [(1, 1), (2, 2), (7, 3)])
def test_a_busy_cluster_gets_as_many_copies_as_asked_for_by_commands_alone(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, replica_n: int, copies: int
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
    monkeypatch.setattr(incremental_commit, "QUIET_WITHIN_POLLS", 3)
    with EmbeddedCluster(tmp_path / "two", meta_nodes=1, data_nodes=2) as two:
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
    target: EmbeddedCluster, backups: Path, tmp_path: Path
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


def test_the_lease_of_a_killed_restore_is_waited_for_and_it_is_reported_how_long(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
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
