"""Merges into live databases of a cluster: every node has every point afterwards.

The embedded cluster stands for influxdb-cluster here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.clients.connect import open_source
from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.clients.snapshotter import SnapshotterClient
from resources.clients.source_address import Address
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.events import (
    Event,
    Run,
)
from resources.engine.merge.merge_plan import MergeOptions
from resources.engine.merge.merge_run import merge
from resources.protocol.commands import Command, CreateShardGroup
from resources.protocol.tar import END_MARKER, encode_header, padding
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from tests.resources.tsm.writing import block, raw_integers, raw_times, tsm_file
from tests.wire.commands import Done, shardkeeper

WEEK_S = 604_800
START_S = 1_600_000_000
T0 = START_S * 10**9
MAIN = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
LINES = [
    f'{name},host=h{host} usage={host}.5,n={host}i,s="h{host}" {START_S + week * WEEK_S + host}'
    for name in ("cpu", r"we\ ird\,x")
    for host in range(20)
    for week in range(3)
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=3, data_nodes=3) as running:
        create(running)
        running.write("telegraf", "\n".join(LINES), precision="s")
        yield running


@pytest.fixture
def backups(tmp_path: Path, cluster: EmbeddedCluster) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    done = run(cluster, "backup", path)
    assert done, done
    return path


def create(cluster: EmbeddedCluster, replication: int = 2) -> None:
    cluster.query(f"CREATE DATABASE telegraf WITH REPLICATION {replication}")


def run(cluster: EmbeddedCluster, *words: object) -> Done:
    return shardkeeper("-bind", cluster.meta[-1].http_addr, "-timeout", "60s", *words)


def answers(cluster: EmbeddedCluster) -> list[Any]:
    """Every point, as each node in turn tells them."""
    q = 'SELECT * FROM "cpu" GROUP BY *; SELECT * FROM "we ird,x" GROUP BY *'
    return [
        cluster.query(q, database="telegraf", at=at)["results"] for at in range(len(cluster.data))
    ]


def traces(cluster: EmbeddedCluster, directory: Path) -> list[str]:
    """What a finished merge has taken away again: database, shards without one, journal."""
    _, now = MetaClient(cluster.meta[0].http_addr).metastore()
    known = {place.shard_id for place in now.places()}
    on_disk = {
        shard_id
        for node in cluster.data
        for shard_id in CoordinatorClient(node.tcp_addr).list_shards()
    }
    return [
        *(db.name for db in now.databases if db.name.startswith("shardkeeper_merge")),
        *(f"shard {shard_id}" for shard_id in sorted(on_disk - known)),
        *(path.name for path in directory.glob(".shardkeeper.merge*")),
    ]


@pytest.mark.parametrize("replication", [1, 2, 3])
def test_what_was_lost_comes_back_on_every_node_and_what_was_written_since_stays(
    cluster: EmbeddedCluster, backups: Path, replication: int
) -> None:
    before = answers(cluster)
    cluster.query("DROP DATABASE telegraf")
    create(cluster, replication)
    cluster.write("telegraf", f"cpu,host=new usage=1 {START_S}", precision="s")
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    found = answers(cluster)
    assert found[1:] == found[:-1]
    new = cluster.query("SELECT usage FROM cpu WHERE host = 'new'", database="telegraf")
    assert new["results"][0]["series"][0]["values"][0][1] == 1
    cluster.query("DROP SERIES FROM cpu WHERE host = 'new'", database="telegraf")
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def test_a_merge_into_what_is_whole_writes_nothing(cluster: EmbeddedCluster, backups: Path) -> None:
    before = answers(cluster)
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    assert done.out.count(" 0 new, 0 replaced") == done.out.count("Merging rp")
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def test_without_a_live_database_restore_is_named(cluster: EmbeddedCluster, backups: Path) -> None:
    cluster.query("DROP DATABASE telegraf")
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done.code == 1
    assert "shardkeeper restore -db telegraf" in done.err
    assert traces(cluster, backups) == []


def test_without_http_a_merge_is_refused_before_anything_is_done(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    done = run(cluster, "-http", "none", "merge", "-db", "telegraf", backups)
    assert done.code == 2
    assert "-http" in done.err
    assert traces(cluster, backups) == []


# --- bad days -----------------------------------------------------------------------------


def lose(cluster: EmbeddedCluster) -> None:
    cluster.query("DROP DATABASE telegraf")
    create(cluster)


def test_a_node_that_hears_of_the_restored_shards_late_is_waited_for(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    before = answers(cluster)
    lose(cluster)
    cluster.delay(0.3)
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    cluster.delay(0)
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def on_first_copy(cluster: EmbeddedCluster, do: Callable[[], None]) -> None:
    """Have something happen when the first points of a merge come into the live database."""
    begun: list[Command] = []

    def hook(command: Command) -> None:
        if isinstance(command, CreateShardGroup) and command.database == "telegraf" and not begun:
            begun.append(command)
            do()

    cluster.before_command(hook)


def test_an_endpoint_that_is_shut_for_a_moment_is_waited_for(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    before = answers(cluster)
    lose(cluster)

    endpoint, output = cluster.data[1].http, list[str]()

    def emit(event: Event) -> None:
        output.append(str(event))
        if "trying again" in output[-1]:
            endpoint.start()

    on_first_copy(cluster, endpoint.stop)
    repository = BackupRepository.open(backups)
    target = open_source(Address(bind=cluster.meta[0].http_addr))
    report = merge(target, repository, MergeOptions(Limits("telegraf")), Run(emit))
    assert report.points == 3 * len(LINES)
    assert any("trying again" in line for line in output)
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def test_a_merge_that_is_killed_goes_on_and_one_that_is_abandoned_leaves_nothing(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    before = answers(cluster)
    lose(cluster)
    words = ["-bind", cluster.meta[0].http_addr, "merge", "-db", "telegraf", str(backups)]
    for abandon in (True, False):
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        on_first_copy(cluster, process.kill)
        assert process.wait(60) == -signal.SIGKILL
        cluster.before_command(None)
        left = traces(cluster, backups)
        assert any(name.startswith("shardkeeper_merge") for name in left)
        if abandon:
            assert run(cluster, "merge", "-abandon", backups)
            assert traces(cluster, backups) == []
            lose(cluster)
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    assert "Restoring meta data" not in done.out  # it went on
    assert answers(cluster) == before
    assert traces(cluster, backups) == []


def test_a_number_of_another_type_is_not_taken_for_the_same(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    """A server writes the float 1.0 as it writes the integer 1."""
    lose(cluster)
    as_floats = [line.replace("i,s=", ",s=") for line in LINES if line.startswith("cpu")]
    assert "n=1," in as_floats[3]
    cluster.write("telegraf", "\n".join(as_floats), precision="s")
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done.code == 3, done
    assert "'cpu'.'n' is integer in the backup and float in 'telegraf'" in done.err
    assert "field type conflict" in done.err
    assert "has another type" in done.err
    assert "60 values were not merged" in done.err  # of every host and week, and no others


def test_unsigned_numbers_arrive(cluster: EmbeddedCluster, backups: Path) -> None:
    """No release takes them over HTTP; files of TSM may hold them."""
    [shard, *_] = (p for p in cluster.group.metastore.places() if p.database == "telegraf")
    highest = block(4, raw_times([T0, T0 + 1]), raw_integers([2**64 - 1, 7]))
    file = tsm_file({b"big#!~#u": [(T0, T0 + 1, highest)]})
    name = f"telegraf/autogen/{shard.shard_id}/000000009-000000001.tsm"
    for node in cluster.data:
        if node.id in {owner.node_id for owner in shard.shard.owners}:
            with SnapshotterClient(node.tcp_addr).upload(shard.shard_id) as upload:
                upload.sendall(encode_header(name, len(file), 0))
                upload.sendall(file + padding(len(file)) + END_MARKER)
                upload.finish()
    assert run(cluster, "backup", backups)
    q = "SELECT * FROM big"
    before = cluster.query(q, database="telegraf")
    assert before["results"][0]["series"][0]["values"] == [[T0, 2**64 - 1], [T0 + 1, 7]]
    lose(cluster)
    done = run(cluster, "merge", "-db", "telegraf", backups)
    assert done, done
    for at in range(len(cluster.data)):
        assert cluster.query(q, database="telegraf", at=at) == before
