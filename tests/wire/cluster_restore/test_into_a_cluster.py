"""Restores into a cluster: every node has every point, and what was there stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from tests.wire.cluster_restore.scenario import (
    HOSTS,
    START_S,
    WEEK_S,
    fill,
    journals,
    metastore,
    on_disk,
    points,
    restore,
)
from tests.wire.commands import shardkeeper

NOT_EMPTY = "problem setting snapshot: cannot restore into non-empty cluster"


@pytest.mark.parametrize(("replica_n", "copies"), [(1, 1), (2, 2), (3, 3), (7, 3)])
def test_every_node_answers_with_every_point(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, replica_n: int, copies: int
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
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
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
    target: EmbeddedCluster, backups: Path
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


def test_a_plan_changes_nothing(target: EmbeddedCluster, backups: Path) -> None:
    before = metastore(target)
    assert "nothing was changed" in restore(target, backups, "-plan").out
    assert metastore(target) == before


def test_continuous_queries_come_with_a_database_that_keeps_its_name(
    source: EmbeddedCluster, target: EmbeddedCluster, tmp_path: Path
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
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
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
        "3 shards of _internal in this cluster will be dropped when all is restored" in planned.out
    )
    done = restore(target, backups)
    assert done, done
    assert "3 shards of _internal in this cluster will be dropped" in done.err
    assert points(target, "telegraf") == points(source, "telegraf")
    assert not any("series" in result[0] for result in points(target, "_internal"))
    assert not {shard for shards in on_disk(target).values() for shard in shards} & old
    # Nodes that run find what they have made, and its readers still can read it.
    assert users(target)["ann"][2] == {"_internal": 1}
    target.write("_internal", points_of, precision="s")
    assert points(target, "_internal") == before


def users(cluster: EmbeddedCluster) -> dict[str, tuple[str, bool, dict[str, int]]]:
    return {
        user.name: (
            user.hash,
            user.admin,
            {grant.database: grant.privilege for grant in user.privileges},
        )
        for user in metastore(cluster).users
    }


def test_users_come_when_asked_for_and_those_that_are_there_stay_as_they_are(
    source: EmbeddedCluster, target: EmbeddedCluster, tmp_path: Path
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
    source: EmbeddedCluster, target: EmbeddedCluster, tmp_path: Path
) -> None:
    source.query("CREATE USER ann WITH PASSWORD 'a-secret' WITH ALL PRIVILEGES")
    path = tmp_path / "with-users"
    path.mkdir(mode=0o700)
    assert shardkeeper("-bind", source.meta[0].http_addr, "backup", path)
    assert restore(target, path, "-users", "-db", "telegraf").code == 2
    done = restore(target, path)
    assert "leaves out 1 user ('ann')" in done.err
    assert users(target) == {}
