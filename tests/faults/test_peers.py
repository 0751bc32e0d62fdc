"""One node's trouble delays its own shards only; any meta node can serve a run.

On real clusters: tests/faults/peers.py.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.engine.options import Retry
from resources.errors import ShardkeeperError
from resources.model import ShardID
from tests.faults.trouble import Slow
from tests.wire.cluster_restore.scenario import points
from tests.wire.commands import Done, shardkeeper

T0, WEEK = 1_600_000_000 * 10**9, 604_800 * 10**9
WEEKS = 5
SAVED = re.compile(r"Backing up node (\S+), db m, rp rp, shard \d+")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as running:
        running.query("CREATE DATABASE m WITH REPLICATION 1 SHARD DURATION 7d NAME rp")
        running.query("CREATE DATABASE twice WITH REPLICATION 2 SHARD DURATION 7d NAME rp")
        for name in ("m", "twice"):
            lines = [
                f"cpu,host=h{host} v={week} {T0 + week * WEEK + host}"
                for week in range(WEEKS)
                for host in range(40)
            ]
            running.write(name, "\n".join(lines))
        yield running


@pytest.fixture
def backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Retry, "patience_s", 2.0)
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def when_first_read(cluster: EmbeddedCluster, at: int, do: Callable[[], object]) -> None:
    """Have something happen when the first whole shard of a data node is asked for."""
    node, once = cluster.data[at], threading.Lock()

    def before(_: ShardID) -> None:
        if once.acquire(blocking=False):
            do()

    node.snapshotter.faults.before_shard = before


def back_up(cluster: EmbeddedCluster, backups: Path, *flags: object) -> Done:
    bind = cluster.meta[2].http_addr
    return shardkeeper(
        "-bind", bind, "-timeout", "2s", *flags, "backup", "-full", "-db", "m", backups
    )


def test_others_are_saved_and_the_node_is_waited_for_once(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    tcp = cluster.data[1].tcp_addr
    when_first_read(cluster, 1, cluster.data[1].stop)
    began = time.monotonic()
    done = back_up(cluster, backups)
    assert done.code == 3, done
    saved = SAVED.findall(done.out)
    assert set(saved) == {cluster.data[0].tcp_addr, cluster.data[2].tcp_addr}
    assert len(saved) + done.err.count(" failed: ") == 3 * WEEKS
    assert done.err.count("everything else is done") == 1
    assert all(tcp in line for line in done.err.splitlines() if " failed: " in line)
    assert time.monotonic() - began < 15  # six attempts with their pauses, for five shards: 75


def test_a_node_that_is_back_loses_nothing(cluster: EmbeddedCluster, backups: Path) -> None:
    node = cluster.data[1]

    def restart() -> None:
        node.stop()
        threading.Timer(0.5, node.start).start()

    when_first_read(cluster, 1, restart)
    done = back_up(cluster, backups)
    assert done, done
    assert len(SAVED.findall(done.out)) == 3 * WEEKS


def test_a_node_that_stands_still_costs_one_time_out(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    faults = cluster.data[1].tcp.faults
    when_first_read(cluster, 1, lambda: setattr(faults, "hang", True))
    began = time.monotonic()
    done = back_up(cluster, backups)
    faults.hang = False
    assert done.code == 3, done
    assert len(SAVED.findall(done.out)) >= 2 * WEEKS
    assert "no answer while" in done.err
    assert time.monotonic() - began < 20  # a time-out for each shard and attempt: 60


def test_a_node_that_stands_still_does_not_keep_the_others_waiting(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    """All of the others' shards are copied while the first of its own is waited for."""
    seen, others, goes_on = set[ShardID](), set[ShardID](), threading.Event()
    in_time: list[bool] = []

    def before(shard_id: ShardID, *, is_its: bool) -> None:
        if shard_id not in seen:
            seen.add(shard_id)  # asked for its files, so that its cache is written out
        elif is_its:
            in_time.append(goes_on.wait(30))
        else:
            others.add(shard_id)
            if len(others) == 2 * WEEKS:
                goes_on.set()

    for at, node in enumerate(cluster.data):
        node.snapshotter.faults.before_shard = partial(before, is_its=at == 1)
    bind = cluster.meta[2].http_addr
    done = shardkeeper("-bind", bind, "backup", "-full", "-db", "m", backups)
    assert done, done
    assert in_time
    assert all(in_time)


@pytest.mark.fault(8)
def test_a_node_that_trickles_is_given_up_by_default(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    slow = Slow(cluster.data[1].tcp_addr)
    slow.slow.set()
    done = back_up(cluster, backups, "-map", slow.way)
    assert done.code == 3, done
    assert "bytes a second, less than 1024" in done.err
    assert len(SAVED.findall(done.out)) == 2 * WEEKS
    slow.close()


def test_another_replica_is_read_at_once(cluster: EmbeddedCluster, backups: Path) -> None:
    when_first_read(cluster, 1, cluster.data[1].stop)
    bind = cluster.meta[0].http_addr
    done = shardkeeper("-bind", bind, "-timeout", "2s", "backup", "-db", "twice", backups)
    assert done, done


def test_a_restore_survives_the_meta_node_that_it_was_reported_of(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    bind = cluster.meta[2]
    source = ("-bind", bind.http_addr, "-timeout", "2s")
    assert shardkeeper(*source, "backup", "-db", "twice", backups)
    when_first_read(cluster, 0, bind.stop)
    done = shardkeeper(*source, "restore", "-db", "twice", "-newdb", "again", backups)
    assert done, done
    assert not list(backups.glob(".shardkeeper.restore-*"))


def test_a_run_that_fails_is_undone_through_another_meta_node(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    bind = cluster.meta[2]
    source = ("-bind", bind.http_addr, "-timeout", "2s")
    assert shardkeeper(*source, "backup", "-db", "twice", backups)

    def refuse(_: ShardID) -> None:
        if bind.running:
            bind.stop()
        raise ShardkeeperError("no file of it can be read")

    cluster.data[1].snapshotter.faults.before_shard = refuse
    done = shardkeeper(*source, "restore", "-db", "twice", "-newdb", "again", backups)
    assert done.code not in (0, 3), done
    [shown] = cluster.query("SHOW DATABASES")["results"]
    assert ["again"] not in shown["series"][0]["values"]
    assert not list(backups.glob(".shardkeeper.restore-*"))


@pytest.fixture
def source(cluster: EmbeddedCluster, backups: Path) -> Path:
    bind = cluster.meta[0].http_addr
    assert shardkeeper("-bind", bind, "backup", "-db", "m", backups)
    return backups


def restore(cluster: EmbeddedCluster, source: Path, *flags: object) -> Done:
    bind = cluster.meta[0].http_addr
    return shardkeeper("-bind", bind, *flags, "restore", "-db", "m", "-newdb", "again", source)


def test_a_node_that_is_back_in_a_restore_loses_nothing(
    cluster: EmbeddedCluster, source: Path
) -> None:
    """It goes away while its first shard is read back, and comes when the others are done."""
    node, others = cluster.data[1], set[ShardID]()

    def note(shard_id: ShardID) -> None:
        others.add(shard_id)
        if len(others) == 2 * WEEKS:
            threading.Timer(0.3, node.start).start()

    for at in (0, 2):
        cluster.data[at].snapshotter.faults.before_shard = note
    when_first_read(cluster, 1, node.stop)
    done = restore(cluster, source, "-timeout", "2s")
    assert done, done
    assert done.err.count("everything else is done") == 1
    assert points(cluster, "again") == points(cluster, "m")


def test_a_node_that_stays_away_fails_a_restore_when_all_else_is_done(
    cluster: EmbeddedCluster, source: Path
) -> None:
    node, others = cluster.data[1], set[ShardID]()
    for at in (0, 2):
        cluster.data[at].snapshotter.faults.before_shard = others.add
    when_first_read(cluster, 1, node.stop)
    done = restore(cluster, source, "-timeout", "2s")
    assert done.code not in (0, 3), done
    assert node.tcp_addr in done.err
    assert len(others) == 2 * WEEKS
    node.start()
    again = restore(cluster, source)
    assert again, again
    assert points(cluster, "again") == points(cluster, "m")


def test_a_node_that_stands_still_keeps_one_upload_waiting(
    cluster: EmbeddedCluster, source: Path
) -> None:
    others, goes_on, in_time = set[ShardID](), threading.Event(), list[bool]()

    def note(shard_id: ShardID) -> None:
        others.add(shard_id)
        if len(others) == 2 * WEEKS:
            goes_on.set()

    for at in (0, 2):
        cluster.data[at].snapshotter.faults.before_shard = note
    cluster.data[1].snapshotter.faults.before_shard = lambda _: in_time.append(goes_on.wait(30))
    done = restore(cluster, source)
    assert done, done
    assert in_time == [True] * WEEKS
