"""What a killed restore leaves is taken away only as far as no other client has a part in it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.runtime.failpoints import VARIABLE
from tests.processes import ForkServer
from tests.wire.cluster_restore.scenario import (
    START_S,
    WEEK_S,
    busy,
    journals,
    metastore,
    on_disk,
    points,
)
from tests.wire.commands import Done, shardkeeper

KILLED = -signal.SIGKILL
TO = ("-db", "telegraf", "-newdb", "again")


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


def flags(cluster: EmbeddedCluster) -> tuple[str, ...]:
    return ("-bind", cluster.meta[0].http_addr, "-timeout", "5s", "restore")


def killed(fork_server: ForkServer, cluster: EmbeddedCluster, backups: Path, at: str) -> Done:
    done = fork_server.start(*flags(cluster), *TO, backups, env={VARIABLE: at}).wait()
    assert done.code == KILLED, done
    return done


def another(cluster: EmbeddedCluster, backups: Path) -> Done:
    """A restore of something else from the same directory."""
    return shardkeeper(*flags(cluster), "-db", "telegraf", "-newdb", "other", backups)


def acknowledged(cluster: EmbeddedCluster, database: str = "again") -> None:
    cluster.write(database, f"cpu,host=new n=1i {START_S + 5}", precision="s")


def has_theirs(cluster: EmbeddedCluster, database: str = "again") -> bool:
    found = cluster.query("SELECT n FROM cpu WHERE host='new'", database=database)
    return "series" in found["results"][0]


@pytest.mark.parametrize("by_command", [False, True])
def test_what_was_complete_is_finished_with_all_that_users_wrote_since(
    source: EmbeddedCluster,
    target: EmbeddedCluster,
    backups: Path,
    fork_server: ForkServer,
    *,
    by_command: bool,
) -> None:
    if by_command:
        with busy(target):
            killed(fork_server, target, backups, "cluster.after-adoption")
    else:
        killed(fork_server, target, backups, "cluster.after-adoption")
    acknowledged(target)
    target.query("CREATE USER ann WITH PASSWORD 'a-secret'; GRANT READ ON again TO ann")
    done = another(target, backups)
    assert done, done
    assert "it is complete now" in done.err
    assert has_theirs(target)
    assert metastore(target).users[0].privileges
    assert points(target, "other") == points(source, "telegraf")
    assert journals(backups) == []


@pytest.mark.parametrize("at", ["restore.uploaded", "restore.mid-upload", "cluster.commanded"])
def test_a_database_by_command_that_users_wrote_to_is_left_and_named(
    target: EmbeddedCluster, backups: Path, fork_server: ForkServer, at: str
) -> None:
    with busy(target):
        killed(fork_server, target, backups, at)
    acknowledged(target)
    done = another(target, backups)
    assert done, done
    assert "database 'again' was created by a restore that did not end, and is left" in done.err
    assert "holds more than was sent" in done.err
    assert has_theirs(target)
    assert journals(backups) == []


@pytest.mark.parametrize("at", ["restore.read-back:3", "restore.mid-upload", "cluster.commanded"])
def test_a_database_by_command_that_users_wrote_to_is_not_dropped_by_the_same_restore(
    target: EmbeddedCluster, backups: Path, fork_server: ForkServer, at: str
) -> None:
    """It may go on, if the points are in no copy's way; else it stays as it is."""
    with busy(target):
        killed(fork_server, target, backups, at)
    acknowledged(target)
    done = shardkeeper(*flags(target), *TO, backups)
    assert has_theirs(target)
    if not done:
        assert done.code == 14, done
        assert "database 'again' was created by a restore that did not end, and is left" in done.err
        assert "holds more than was sent" in done.err


@pytest.mark.parametrize(
    "at",
    [
        "restore.uploaded:2",
        "cluster.shards-created",
        "cluster.commanded",
        "store.before-replace",  # the record's: the databases are created, it knows only names
    ],
)
def test_a_database_by_command_that_nobody_used_is_taken_away(
    source: EmbeddedCluster,
    target: EmbeddedCluster,
    backups: Path,
    fork_server: ForkServer,
    at: str,
) -> None:
    with busy(target):
        killed(fork_server, target, backups, at)
    done = another(target, backups)
    assert done, done
    assert metastore(target).database("again") is None
    assert points(target, "other") == points(source, "telegraf")
    known = {place.shard_id for place in metastore(target).places()}
    assert {shard for shards in on_disk(target).values() for shard in shards} <= known


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("CREATE CONTINUOUS QUERY q ON again BEGIN SELECT mean(n) INTO d FROM cpu "
         "GROUP BY time(1h) END", "another client has created continuous queries"),
        ("CREATE USER ann WITH PASSWORD 'a-secret'; GRANT READ ON again TO ann",
         "another client has granted rights"),
        ("CREATE RETENTION POLICY more ON again DURATION 9d REPLICATION 1",
         "another client has changed its retention policies"),
        ("ALTER RETENTION POLICY autogen ON again DURATION 9000d",
         "another client has changed its retention policies"),
    ],
)  # fmt: skip
def test_a_database_without_owners_that_somebody_changed_is_left_and_named(
    target: EmbeddedCluster, backups: Path, fork_server: ForkServer, statement: str, why: str
) -> None:
    killed(fork_server, target, backups, "restore.uploaded")
    target.query(statement)
    before = metastore(target).database("again")
    done = another(target, backups)
    assert done, done
    assert why in done.err
    assert metastore(target).database("again") == before


def test_a_database_of_the_same_name_and_numbers_that_somebody_made_since_is_theirs(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, fork_server: ForkServer
) -> None:
    """Killed before anything was set; the empty cluster gives the numbers that were planned."""
    at = {VARIABLE: "cluster.after-journal"}
    assert fork_server.start(*flags(target), backups, env=at).wait().code == KILLED
    target.query("CREATE DATABASE telegraf WITH REPLICATION 2")
    for week in range(3):
        target.write("telegraf", f"cpu,host=new n=1i {START_S + week * WEEK_S}", precision="s")
    there = {place.shard_id for place in metastore(target).places()}
    assert there <= {place.shard_id for place in metastore(source).places()}
    done = another(target, backups)
    assert done, done
    assert "its shards have owners, which this restore did not give them" in done.err
    assert has_theirs(target, "telegraf")


def test_a_record_of_an_earlier_version_is_finished_as_it_was_then(
    target: EmbeddedCluster, backups: Path, fork_server: ForkServer
) -> None:
    killed(fork_server, target, backups, "cluster.after-adoption")
    [record] = backups.glob(".shardkeeper.restore-*")
    output = json.loads(record.read_bytes())
    for key in ("proved", "policies", "sent"):
        del output[key]
    record.write_text(json.dumps(output))
    acknowledged(target)
    done = another(target, backups)
    assert done, done
    assert "it is complete now" in done.err
    assert has_theirs(target)


@pytest.mark.parametrize("at", ["store.before-replace", "store.after-replace"])
def test_a_kill_while_the_record_is_replaced_leaves_one_of_the_two(
    target: EmbeddedCluster, backups: Path, fork_server: ForkServer, at: str
) -> None:
    with busy(target):
        killed(fork_server, target, backups, at)
        assert len(journals(backups)) == 1
    assert another(target, backups)
    assert metastore(target).database("again") is None
    assert journals(backups) == []
