"""What an operator does with a cluster, on an embedded one or on any real one.

`make test` runs this on the embedded cluster, `make wire BIND=host:8091` on the cluster of that
meta node, in databases of its own. What is asked is asked of every data node in turn.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.influxd import wait_until
from tests.wire.any_cluster import START_S, WEEK_S, AnyCluster, first_cluster, second_cluster
from tests.wire.commands import Done, influxd_ctl

HOUR_S = 3600
HOSTS, WEEKS, HOURS = 20, 3, 5
COMPACTED_WITHIN_S = 60.0
SUMS = "SELECT count(n), sum(n), sum(usage) FROM cpu"
ALL = "SELECT * FROM cpu GROUP BY *"
MAIN = "from pipelines.ctl.main import influxd_ctl; influxd_ctl()"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyCluster]:
    with first_cluster(tmp_path_factory.mktemp("first")) as running:
        yield running


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyCluster]:
    with second_cluster(tmp_path_factory.mktemp("second")) as running:
        yield running


@pytest.fixture
def database(cluster: AnyCluster) -> Iterator[str]:
    """A database of two copies and 300 points in three shard groups; gone afterwards."""
    name = cluster.fresh()
    cluster.query(f'CREATE DATABASE "{name}" WITH REPLICATION 2')
    rows = [
        f"cpu,host=h{host} usage={host}.25,n={host * hour}i "
        f"{START_S + week * WEEK_S + hour * HOUR_S + host}"
        for host in range(HOSTS)
        for week in range(WEEKS)
        for hour in range(HOURS)
    ]
    cluster.write(name, "\n".join(rows))
    yield name
    cluster.drop(name)


def back_up(cluster: AnyCluster, database: str, directory: Path) -> Done:
    done = influxd_ctl("-bind", cluster.bind, "backup", "-db", database, directory)
    assert done, done
    return done


def restore(cluster: AnyCluster, directory: Path, *flags: object) -> Done:
    return influxd_ctl("-bind", cluster.bind, "restore", *flags, directory)


def copied(done: Done) -> list[str]:
    return [line for line in done.out.splitlines() if line.startswith("Backing up node ")]


def answers(cluster: AnyCluster, database: str) -> tuple[Any, Any]:
    """Sums and points, once all data nodes say the same of them."""
    sums, points = (cluster.query(text, database=database) for text in (SUMS, ALL))
    cluster.wait_for(sums, SUMS, database)
    cluster.wait_for(points, ALL, database)
    assert "series" in sums[0]
    return sums, points


def left(directory: Path) -> list[Path]:
    return list(directory.glob(".shardkeeper.restore-*"))


def test_only_what_changed_is_copied_again(cluster: AnyCluster, database: str, here: Path) -> None:
    shards = len(cluster.owners(database))
    assert len(copied(back_up(cluster, database, here))) == shards
    assert copied(back_up(cluster, database, here)) == []
    cluster.write(database, f"cpu,host=h1 usage=9,n=7i {START_S + 60}")
    assert len(copied(back_up(cluster, database, here))) == 1
    cluster.query("DELETE FROM cpu WHERE host = 'h2'", database=database)
    assert copied(back_up(cluster, database, here))
    # What was deleted leaves the files a moment later, and that is a change as well.
    wait_until(
        lambda: not copied(back_up(cluster, database, here)),
        within_s=COMPACTED_WITHIN_S,
        what="a backup that finds nothing new",
    )


@pytest.mark.parametrize("replica_n", [None, 1, 3, 99])
def test_every_node_of_the_same_cluster_answers_alike_under_another_name(
    cluster: AnyCluster, database: str, here: Path, replica_n: int | None
) -> None:
    back_up(cluster, database, here)
    flags = () if replica_n is None else ("-newrf", replica_n)
    name = cluster.fresh("again")
    done = restore(cluster, here, "-db", database, "-newdb", name, *flags)
    assert done, done
    copies = min(replica_n or 2, len(cluster.nodes))
    assert set(cluster.owners(name)) == {copies}
    sums, points = answers(cluster, database)
    cluster.wait_for(sums, SUMS, name)
    cluster.wait_for(points, ALL, name)
    assert left(here) == []


def test_what_was_restored_takes_writes_like_any_database(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    back_up(cluster, database, here)
    name = cluster.fresh("again")
    assert restore(cluster, here, "-db", database, "-newdb", name)
    sums, _ = answers(cluster, database)
    cluster.wait_for(sums, SUMS, name)
    for each in (database, name):
        # A point that is there already, one more of a known week, one of a week of its own.
        times = (START_S + 1, START_S + 77, START_S + 50 * WEEK_S)
        cluster.write(each, "\n".join(f"cpu,host=h1 usage=1,n=1i {at}" for at in times))
    sums, points = answers(cluster, database)
    cluster.wait_for(sums, SUMS, name)
    cluster.wait_for(points, ALL, name)


def test_a_second_cluster_has_every_point_too(
    cluster: AnyCluster, other: AnyCluster, database: str, here: Path
) -> None:
    back_up(cluster, database, here)
    name = other.fresh("moved")
    numbers = {p.shard_id for p in cluster.metastore().places() if p.database == database}
    was_empty = other.is_empty()
    done = restore(other, here, "-db", database, "-newdb", name)
    assert done, done
    sums, points = answers(cluster, database)
    other.wait_for(sums, SUMS, name)
    other.wait_for(points, ALL, name)
    if was_empty:
        now = {p.shard_id for p in other.metastore().places() if p.database == name}
        assert now == numbers


def test_a_database_that_is_there_is_refused_in_the_originals_words(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    back_up(cluster, database, here)
    before = cluster.metastore().database(database)
    done = restore(cluster, here, "-db", database)
    assert done.code == 1
    assert "Restoring meta data... Error.\n" in done.out
    assert (
        "restore: operation exited with error: problem setting snapshot: cannot restore into "
        "non-empty cluster\n"
    ) in done.err
    assert cluster.metastore().database(database) == before


def test_databases_that_others_create_meanwhile_are_all_there_afterwards(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    back_up(cluster, database, here)
    created: list[str] = []
    done = threading.Event()

    def create() -> None:
        while not done.is_set():
            name = cluster.fresh("racer")
            cluster.query(f'CREATE DATABASE "{name}"')
            created.append(name)

    others = threading.Thread(target=create)
    others.start()
    try:
        names = {n: cluster.fresh("again") for n in (1, 2, 3)}
        output = [
            restore(cluster, here, "-db", database, "-newdb", name, "-newrf", replica_n)
            for replica_n, name in names.items()
        ]
    finally:
        done.set()
        others.join()
    assert all(output), output
    assert created
    there = {db.name for db in cluster.metastore().databases}
    assert set(created) <= there
    sums, points = answers(cluster, database)
    for replica_n, name in names.items():
        assert set(cluster.owners(name)) == {min(replica_n, len(cluster.nodes))}
        cluster.wait_for(sums, SUMS, name)
        cluster.wait_for(points, ALL, name)


def test_points_that_others_write_meanwhile_are_all_there_afterwards(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    back_up(cluster, database, here)
    busy = cluster.fresh("busy")
    cluster.query(f'CREATE DATABASE "{busy}" WITH REPLICATION 1')
    written = 0
    done = threading.Event()

    def write() -> None:
        nonlocal written
        while not done.is_set():
            # Each is the first of its week and makes a shard group.
            cluster.write(busy, f"cpu,host=h n=1i,usage=1 {START_S + written * WEEK_S}")
            written += 1

    others = threading.Thread(target=write)
    others.start()
    try:
        output = restore(cluster, here, "-db", database, "-newdb", cluster.fresh("again"))
    finally:
        done.set()
        others.join()
    assert output, output
    assert written
    [result] = cluster.query("SELECT count(n) FROM cpu", database=busy)
    assert result["series"][0]["values"][0][1] == written


def test_a_node_that_is_down_is_gone_around(cluster: AnyCluster, database: str, here: Path) -> None:
    with stopped(cluster) as node:
        done = back_up(cluster, database, here)
        assert len(copied(done)) == len(cluster.owners(database))
        assert not any(node in line for line in copied(done))
        assert f"data node {node} does not answer" in done.err
        before = cluster.metastore()
        refused = restore(cluster, here, "-db", database, "-newdb", cluster.fresh("no"))
        assert refused.code == 1
        assert node in refused.err
        assert cluster.metastore().databases == before.databases
    name = cluster.fresh("again")
    assert restore(cluster, here, "-db", database, "-newdb", name)
    sums, _ = answers(cluster, database)
    cluster.wait_for(sums, SUMS, name)


def test_a_node_that_stops_while_it_is_restored_into_leaves_nothing_half_done(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    node_down = stopped(cluster)
    back_up(cluster, database, here)
    before = cluster.metastore().databases
    orphans = orphaned(cluster)
    name = cluster.fresh("again")
    flags = ("-db", database, "-newdb", name, "-newrf", "3")
    run = begin_restore(cluster, here, *flags)
    assert run.stdout is not None
    for line in run.stdout:
        if "Restoring meta data... Done" in line:
            break
    with node_down:
        run.communicate(timeout=120)
        failed = run.returncode != 0
        now = cluster.metastore().databases
        assert failed is (now == before)
    if failed:
        assert restore(cluster, here, *flags)
    sums, points = answers(cluster, database)
    cluster.wait_for(sums, SUMS, name)
    cluster.wait_for(points, ALL, name)
    assert left(here) == []
    assert orphaned(cluster) == orphans


def test_a_restore_that_is_killed_is_finished_or_taken_away_by_the_next(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    back_up(cluster, database, here)
    orphans = orphaned(cluster)
    for after, name in ((0, cluster.fresh("killed")), (4, cluster.fresh("killed"))):
        flags = ("-db", database, "-newdb", name)
        run = begin_restore(cluster, here, *flags)
        assert run.stdout is not None
        seen = 0
        for line in run.stdout:
            seen += line.startswith(("Restoring meta data... Done", "Copying data"))
            if seen > after:
                break
        run.send_signal(signal.SIGKILL)
        run.communicate()
        # The killed one may just have ended well; then its name is taken.
        again = restore(cluster, here, *flags)
        assert again or "cannot restore into non-empty " in again.err, again
        sums, points = answers(cluster, database)
        cluster.wait_for(sums, SUMS, name)
        cluster.wait_for(points, ALL, name)
        assert left(here) == []
    assert orphaned(cluster) == orphans


def test_users_and_their_grants_move_to_another_cluster(
    cluster: AnyCluster, other: AnyCluster, database: str, here: Path
) -> None:
    if not (cluster.ours and other.ours):
        pytest.skip("a cluster with databases or users of others is not restored into as a whole")
    ann, bob = cluster.fresh("ann"), cluster.fresh("bob")
    cluster.query(f"CREATE USER \"{ann}\" WITH PASSWORD 'a-secret' WITH ALL PRIVILEGES")
    cluster.query(f"CREATE USER \"{bob}\" WITH PASSWORD 'b-secret'")
    cluster.query(f'GRANT READ ON "{database}" TO "{bob}"')
    back_up(cluster, database, here)
    for name in [db.name for db in other.metastore().databases if db.name != "_internal"]:
        other.drop(name)
    assert ann in restore(other, here, "-users", "-plan").out
    done = restore(other, here, "-users")
    assert done, done
    there = {user.name: user for user in other.metastore().users}
    ours = {user.name: user for user in cluster.metastore().users}
    assert there[ann] == ours[ann]
    assert there[bob] == ours[bob]
    for name in (ann, bob):
        cluster.query(f'DROP USER "{name}"')
        other.query(f'DROP USER "{name}"')
    other.drop(database)


# --- how ----------------------------------------------------------------------------------


class stopped:
    """One data node is down for the block; it is back, and the others know, afterwards."""

    def __init__(self, cluster: AnyCluster) -> None:
        if cluster.stop is None or cluster.start is None:
            pytest.skip("no command stops a data node (make wire BIND=… STOP_NODE=… START_NODE=…)")
        self._stop, self._start = cluster.stop, cluster.start
        self._node = cluster.nodes[-1].tcp_addr

    def __enter__(self) -> str:
        self._stop(self._node)
        return self._node

    def __exit__(self, *_: object) -> None:
        self._start(self._node)


def begin_restore(cluster: AnyCluster, directory: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", MAIN, "-bind", cluster.bind, "restore", *flags, directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def orphaned(cluster: AnyCluster) -> set[int]:
    """Shards on a disk that no database knows."""
    known = {place.shard_id for place in cluster.metastore().places()}
    return {shard for shards in cluster.on_disk().values() for shard in shards} - known
