"""A backup's metastore in the place of the cluster's: `restore -meta-only-overwrite-force`.

On an embedded cluster, or on a real one that no other client uses (`make wire BIND=…`).
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.server import EmbeddedServer
from resources.engine.cluster import atomic_commit
from resources.engine.overwrite.overwrite_run import read_meta_file
from resources.model import INTERNAL_DATABASE, ShardID
from resources.protocol.commands import Command, DropDatabase, SetData
from resources.protocol.meta import decode_metastore
from tests.processes import ForkServer
from tests.wire.any_cluster import START_S, WEEK_S, AnyCluster, first_cluster
from tests.wire.cluster_restore.scenario import nobody_hears, right_before_it_is_set
from tests.wire.commands import Done, shardkeeper

ALL = "SELECT * FROM cpu GROUP BY *"
FORCE = "-meta-only-overwrite-force"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyCluster]:
    with first_cluster(tmp_path_factory.mktemp("cluster")) as running:
        if not running.ours:
            pytest.skip("others use that cluster, and its whole metastore would be replaced")
        yield running


@pytest.fixture
def database(cluster: AnyCluster, here: Path) -> Iterator[str]:
    """A database of which there is a backup."""
    before = cluster.on_disk()
    name = cluster.filled()
    assert run(cluster, "backup", here)
    yield name
    for each in cluster.metastore().databases:
        if each.name != INTERNAL_DATABASE:
            cluster.drop(each.name)
    known = {place.shard_id for place in cluster.metastore().places()}
    for node, shards in cluster.on_disk().items():
        for shard_id in shards - before[node] - known:  # forgotten, and still there
            CoordinatorClient(node).remove_shard(ShardID(shard_id))


def run(cluster: AnyCluster, *words: object) -> Done:
    return shardkeeper("-bind", cluster.bind, *words)


def names(cluster: AnyCluster) -> set[str]:
    databases = cluster.metastore().databases
    return {database.name for database in databases if database.name != INTERNAL_DATABASE}


def numbers(cluster: AnyCluster, database: str) -> list[int]:
    return [p.shard_id for p in cluster.metastore().places() if p.database == database]


def test_what_the_metastore_forgot_comes_back_and_what_was_made_since_can_be_put_back(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    points = cluster.query(ALL, database=database)
    MetaClient(cluster.bind).execute(DropDatabase(database))  # the files stay where they are
    newer = cluster.filled()
    theirs, shards = cluster.query(ALL, database=newer), numbers(cluster, newer)
    before, disks = cluster.metastore(), cluster.on_disk()
    done = run(cluster, "restore", FORCE, here)
    assert done, done
    assert done.out.startswith(f"Using backup directory: {here}\nUsing meta backup: ")
    cluster.wait_for(points, ALL, database)
    assert names(cluster) == {database}
    assert cluster.on_disk() == disks
    assert f"database '{database}' comes back" in done.err
    assert f"database '{newer}' is forgotten" in done.err
    assert f"shards {', '.join(map(str, sorted(shards)))} are forgotten" in done.err
    after = cluster.metastore()
    assert (after.data_nodes, after.meta_nodes, after.cluster_id) == (
        before.data_nodes,
        before.meta_nodes,
        before.cluster_id,
    )
    assert after.max_shard_id == before.max_shard_id >= max(shards)
    assert after.max_shard_group_id == before.max_shard_group_id
    cluster.write(database, f"cpu,host=h1 n=1i {START_S + 99 * WEEK_S}")
    assert min(set(numbers(cluster, database)) - set(numbers_then(before, disks))) > max(shards)

    [replaced] = here.glob("*.replaced.meta")
    assert replaced.stat().st_mode & 0o777 == 0o600
    assert f"restore {FORCE} {replaced}" in done.err
    back = run(cluster, "restore", FORCE, replaced)
    assert back, back
    assert names(cluster) == {newer}
    cluster.wait_for(theirs, ALL, newer)


def numbers_then(metastore: Any, disks: dict[str, set[int]]) -> set[int]:
    return {place.shard_id for place in metastore.places()}.union(*disks.values())


def test_a_database_whose_files_are_gone_too_is_filled_shard_by_shard(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    points = cluster.query(ALL, database=database)
    cluster.drop(database)
    planned = run(cluster, "restore", FORCE, "-plan", here)
    assert planned, planned
    assert "are on no data node: restore -shard N -newshard N" in planned.out
    assert names(cluster) == set()
    assert run(cluster, "restore", FORCE, here)
    for number in numbers(cluster, database):
        done = run(cluster, "restore", "-shard", number, "-newshard", number, here)
        assert done, done
    cluster.wait_for(points, ALL, database)


def test_a_metastore_that_is_the_backups_already_is_left_alone(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    before = cluster.metastore().databases
    done = run(cluster, "restore", FORCE, here)
    assert done, done
    assert cluster.metastore().databases == before
    assert list(here.glob("*.replaced.meta")) == []


def test_a_plan_reports_what_would_change_and_changes_nothing(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    newer = cluster.filled()
    before = cluster.metastore()
    text = run(cluster, "restore", FORCE, "-plan", here)
    assert text, text
    assert f"note: database '{newer}' is forgotten" in text.out
    assert "nothing was changed" in text.out
    events = json.loads(run(cluster, "restore", FORCE, "-plan", "-json", here).out)
    assert events["possible"]
    assert [shard["shard"] for shard in events["overwrite"]["forgotten"]] == numbers(cluster, newer)
    assert events["overwrite"]["recovered"] == []
    assert cluster.metastore() == before
    assert list(here.glob("*.replaced.meta")) == []


@pytest.mark.parametrize(
    "flags",
    [["-db", "x"], ["-shard", 1], ["-newdb", "x"], ["-newrf", 1], ["-newduration", "0s"],
     ["-users"], ["-keep-tombstoned"]],
)  # fmt: skip
def test_flags_about_points_are_refused(flags: list[str], tmp_path: Path) -> None:
    done = shardkeeper("-bind", "127.0.0.1:1", "restore", FORCE, *flags, tmp_path)
    assert done.code == 2
    assert f"{flags[0]} does not go with {FORCE}" in done.err


# --- embedded ones only -------------------------------------------------------------------


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "dev", meta_nodes=3, data_nodes=2) as running:
        running.query("CREATE DATABASE telegraf")
        running.write("telegraf", f"cpu v=1 {START_S * 10**9}")
        yield running


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


@pytest.fixture
def backups(tmp_path: Path, dev: EmbeddedCluster) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    assert shardkeeper("-bind", dev.meta[0].http_addr, "backup", path)
    return path


def test_the_backup_of_another_cluster_or_server_is_refused(
    dev: EmbeddedCluster, backups: Path, tmp_path: Path
) -> None:
    with EmbeddedCluster(tmp_path / "other", meta_nodes=1, data_nodes=1) as other:
        for flags in ([], ["-plan"]):
            done = shardkeeper("-bind", other.meta[0].http_addr, "restore", FORCE, *flags, backups)
            assert done.code == 14, done
            assert f"is of cluster {dev.group.metastore.cluster_id}" in done.err
        assert other.group.metastore.database("telegraf") is None
    with EmbeddedServer(tmp_path / "single") as server:
        where = ("-host", server.tcp_addr, "-http", server.http_addr)
        done = shardkeeper(*where, "restore", FORCE, backups)
        assert done.code == 2
        assert "is a single server" in done.err
    assert list(backups.glob("*.replaced.meta")) == []


@pytest.mark.fault(73)
def test_a_change_that_nobody_saw_before_it_was_lost_is_reported(
    dev: EmbeddedCluster, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_commit, "SEEN_WITHIN_S", 0.1)
    dev.query("CREATE DATABASE since")
    nobody_hears(dev)
    right_before_it_is_set(dev, lambda: dev.query("CREATE DATABASE racer"), seen=False)
    done = shardkeeper("-bind", dev.meta[0].http_addr, "restore", FORCE, backups)
    assert done, done
    assert "another change of the metastore may have been lost" in done.err
    assert [db.name for db in dev.group.metastore.databases] == ["telegraf"]


@pytest.mark.fault(73)
def test_what_others_change_in_the_moment_before_it_is_set_is_put_back_and_kept(
    dev: EmbeddedCluster, backups: Path
) -> None:
    dev.query("CREATE DATABASE since")
    right_before_it_is_set(dev, lambda: dev.query("CREATE DATABASE racer"))
    done = shardkeeper("-bind", dev.meta[0].http_addr, "restore", FORCE, backups)
    assert done, done
    assert (
        "another client changed database 'racer'; setting it undid that change, and the restore "
        "has made it again"
    ) in done.err
    assert [db.name for db in dev.group.metastore.databases] == ["telegraf", "racer"]
    kept = sorted(backups.glob("*.replaced.meta"))
    assert [names_in(path) for path in kept] == [
        ["telegraf", "since"],
        ["telegraf", "since", "racer"],
    ]


def names_in(path: Path) -> list[str]:
    return [db.name for db in decode_metastore(read_meta_file(str(path))).databases]


@pytest.mark.parametrize("ending", ["leader is away", "interrupted"])
def test_what_may_be_replaced_is_kept_whatever_fails_then(
    dev: EmbeddedCluster, backups: Path, fork_server: ForkServer, ending: str
) -> None:
    """The command arrived, and nothing that was to be said after it."""
    dev.query("CREATE DATABASE since; CREATE USER ann WITH PASSWORD 'a-secret'")
    nobody_hears(dev)
    run = fork_server.start(
        "-bind", dev.meta[0].http_addr, "-timeout", "2s", "restore", FORCE, backups
    )

    def fail(command: Command) -> None:
        if not isinstance(command, SetData):
            return
        if ending == "interrupted":
            run.send(signal.SIGTERM)
        else:
            for node in dev.meta:
                node.silent = True  # what was set is not read back

    dev.before_command(fail)
    done = run.wait()
    dev.before_command(None)
    for node in dev.meta:
        node.silent = node.deaf = False
    [kept] = backups.glob("*.replaced.meta")
    assert names_in(kept) == ["telegraf", "since"]
    assert str(kept) in done.err
    assert f"restore {FORCE} {kept} puts it back" in done.err
    assert [db.name for db in dev.group.metastore.databases] == ["telegraf"]
    assert shardkeeper("-bind", dev.meta[0].http_addr, "restore", FORCE, kept)
    assert [db.name for db in dev.group.metastore.databases] == ["telegraf", "since"]
    assert [user.name for user in dev.group.metastore.users] == ["ann"]


def test_a_file_that_is_no_metastore_is_refused(dev: EmbeddedCluster, backups: Path) -> None:
    for content in (b"", b"noise", b"\x0a\x02\x08\x01\x10\x00"):
        file = backups / "x.meta"
        file.write_bytes(content)
        done = shardkeeper("-bind", dev.meta[0].http_addr, "restore", FORCE, file)
        assert done.code == 13, done
        assert "x.meta" in done.err
