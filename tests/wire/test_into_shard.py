"""One archive into a shard that is there: `restore -shard … -newshard …`.

On an embedded cluster, or on any real one (`make wire BIND=…`), and on single servers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.clients.connect import open_source
from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.clients.source_address import Address
from resources.engine.events import Event, MetaRestored, Run
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.run import restore
from resources.engine.restore_target import restore_target
from resources.errors import ReadBackMismatch
from resources.model import NodeInfo, ShardPlace
from resources.protocol.commands import CreateShardGroup
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from tests.influxd import Influxd
from tests.wire.any_cluster import START_S, WEEK_S, AnyCluster, first_cluster
from tests.wire.commands import Done, at, backup, influxd_restore, shardkeeper
from tests.wire.points import points

T0 = START_S * 10**9
ALL = "SELECT * FROM cpu GROUP BY *"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyCluster]:
    with first_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def database(cluster: AnyCluster, here: Path) -> Iterator[str]:
    """A database of two copies in groups of several shards, and a backup of it."""
    name = cluster.filled()
    assert run(cluster, "backup", "-db", name, here)
    yield name
    cluster.drop(name)


def run(cluster: AnyCluster, *words: object) -> Done:
    return shardkeeper("-bind", cluster.bind, *words)


def places(cluster: AnyCluster, name: str) -> list[ShardPlace]:
    return [place for place in cluster.metastore().places() if place.database == name]


def owners(cluster: AnyCluster, place: ShardPlace) -> list[NodeInfo]:
    ids = {owner.node_id for owner in place.shard.owners}
    return [node for node in cluster.nodes if node.id in ids]


def lose(cluster: AnyCluster, place: ShardPlace, *nodes: NodeInfo) -> None:
    """Files of a shard are gone from disks, and the metastore knows nothing of that."""
    for node in nodes or owners(cluster, place):
        assert CoordinatorClient(node.tcp_addr).remove_shard(place.shard_id)


def test_a_shard_whose_files_are_lost_gets_them_back_on_every_owner(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    before, metastore = cluster.query(ALL, database=database), cluster.metastore()
    place = places(cluster, database)[1]
    lose(cluster, place)
    cluster.wait_for(cluster.query(ALL, database=database), ALL, database)
    assert cluster.query(ALL, database=database) != before
    flags = ("restore", "-shard", place.shard_id, "-newshard", place.shard_id, here)
    planned = run(cluster, *flags[:-1], "-plan", "-json", here)
    assert planned, planned
    [shard] = json.loads(planned.out)["shards"]
    nodes = [node.tcp_addr for node in owners(cluster, place)]
    assert [shard["new_shard"], [o["tcp_addr"] for o in shard["owners"]]] == [place.shard_id, nodes]
    done = run(cluster, *flags)
    assert done, done
    cluster.wait_for(before, ALL, database)
    assert cluster.metastore().databases == metastore.databases
    copying = " ".join(f"Copying data to {node}..." for node in nodes)
    assert f"\n{copying} Done. Restored shard {place.shard_id} into shard" in done.out
    [receipt] = here.glob("*.receipt.json")
    [proved] = json.loads(receipt.read_bytes())["shards"]
    assert [copy["node"] for copy in proved["copies"]] == nodes
    assert {copy["readBack"] for copy in proved["copies"]} == {"identical"}
    again = run(cluster, *flags)  # every copy is what the archive holds, so there is nothing to do
    assert again, again
    cluster.wait_for(before, ALL, database)


def test_a_copy_that_is_whole_stays_and_the_others_are_filled(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    before = cluster.query(ALL, database=database)
    place = places(cluster, database)[0]
    lost, whole = owners(cluster, place)
    lose(cluster, place, lost)
    kept = CoordinatorClient(whole.tcp_addr).list_shards()[place.shard_id]
    done = run(cluster, "restore", "-shard", place.shard_id, "-newshard", place.shard_id, here)
    assert done, done
    cluster.wait_for(before, ALL, database)
    assert CoordinatorClient(whole.tcp_addr).list_shards()[place.shard_id] == kept


def test_a_shard_of_another_database_takes_the_points_at_the_same_place_in_its_group(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    other = cluster.fresh("other")
    cluster.query(f'CREATE DATABASE "{other}" WITH REPLICATION 2')
    meta = MetaClient(cluster.bind)
    for at_ns in {place.group.start_time_ns for place in places(cluster, database)}:
        meta.execute(CreateShardGroup(other, "autogen", at_ns))
    olds, news = places(cluster, database), places(cluster, other)
    assert len(olds) == len(news) > 1
    for old, new in zip(olds, news, strict=True):
        flags = ("-db", database, "-newdb", other, "-shard", old.shard_id)
        done = run(cluster, "restore", *flags, "-newshard", new.shard_id, here)
        assert done, done
    cluster.wait_for(cluster.query(ALL, database=database), ALL, other)
    point = f"cpu,host=h3 n=99i {START_S + 3}"  # it lies in the shard that later writes go to
    for name in (database, other):
        cluster.write(name, point)
    cluster.wait_for(cluster.query(ALL, database=database), ALL, other)


def test_what_cannot_take_the_points_is_refused_and_nothing_is_touched(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    other = cluster.fresh("other")
    cluster.query(f'CREATE DATABASE "{other}" WITH REPLICATION 2')
    cluster.write(other, "\n".join(f"cpu,host=h{host} n=1i {START_S}" for host in range(20)))
    mine, [theirs, *_] = places(cluster, database), places(cluster, other)
    first, second = mine[0], mine[1]
    later = next(p for p in mine if p.group.id != first.group.id)
    taken = cluster.metastore(), cluster.on_disk()
    name, old = re.escape(database), first.shard_id
    for flags, code, complaint in (
        (["-newshard", old], 2, "-newshard needs -shard"),
        (["-shard", old, "-newshard", old, "-newrf", 2], 2, "-newrf does not go with -newshard"),
        (["-shard", old, "-newshard", old, "-newdb", "x"], 2, "-newdb needs -db"),
        (["-shard", 2**50, "-newshard", old], 1, f"shard {2**50} does not exist"),
        (["-shard", old, "-newshard", 2**50], 14, rf"has no shard {2**50}"),
        (["-shard", old, "-newshard", theirs.shard_id], 14, f"not to '{name}'.'autogen'"),
        (["-shard", old, "-newshard", later.shard_id], 14, "is for points from 2020-"),
        (["-shard", old, "-newshard", second.shard_id], 14, "is number 2 of .* was number 1 of"),
        (["-db", database, "-newdb", other, "-shard", old, "-newshard", theirs.shard_id], 14,
         f"shard {theirs.shard_id} on .* is not empty: it has 1 file"),
    ):  # fmt: skip
        refused = run(cluster, "restore", *flags, here)
        assert (refused.code, bool(re.search(complaint, refused.err))) == (code, True), refused
        if code != 2:
            planned = run(cluster, "restore", "-plan", *flags, here)
            assert planned.code == code, planned
    assert (cluster.metastore(), cluster.on_disk()) == taken


@pytest.mark.fault(73)
def test_a_point_that_somebody_writes_meanwhile_is_not_deleted(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    place = places(cluster, database)[0]
    host = lost_host(cluster, database, place)
    point = f"cpu,host={host} n=77i {START_S + 5000}"

    def emit(event: Event) -> None:
        if isinstance(event, MetaRestored):  # the shard was seen to be empty
            cluster.write(database, point)

    repository = BackupRepository.open(here)
    options = RestoreOptions(Limits(database, shard_id=place.shard_id), new_shard_id=place.shard_id)
    connection = open_source(Address(bind=cluster.bind))
    target = restore_target(connection, repository, Run(emit), options.new_shard_id)
    with pytest.raises(ReadBackMismatch) as failed:
        restore(target, repository.current(), options)
    for node in owners(cluster, place):
        assert f"on {node.tcp_addr} holds more than was sent, and is left so" in str(failed.value)
    found = cluster.query(f"SELECT n FROM cpu WHERE host = '{host}' AND n = 77", database=database)
    assert [row[1] for row in found[0]["series"][0]["values"]] == [77]


def lost_host(cluster: AnyCluster, database: str, place: ShardPlace) -> str:
    """The tag of a series that is gone with a shard of the first group."""
    first = f"SELECT * FROM cpu WHERE time < {place.group.end_time_ns} GROUP BY *"
    held = tags(cluster.query(first, database=database))
    lose(cluster, place)
    return (held - tags(cluster.query(first, database=database))).pop()


def test_without_one_of_its_owners_a_shard_is_not_filled(
    cluster: AnyCluster, database: str, here: Path
) -> None:
    if cluster.stop is None or cluster.start is None:
        pytest.skip("no data node can be stopped (make wire STOP_NODE=… START_NODE=…)")
    place = places(cluster, database)[0]
    lose(cluster, place)
    *others, down = owners(cluster, place)
    cluster.stop(down.tcp_addr)
    try:
        done = run(cluster, "restore", "-shard", place.shard_id, "-newshard", place.shard_id, here)
        assert done.code == 1, done
        assert down.tcp_addr in done.err
        assert "every owner of the shard must be up" in done.err
        for node in others:
            assert place.shard_id not in CoordinatorClient(node.tcp_addr).list_shards()
    finally:
        cluster.start(down.tcp_addr)


# --- single servers -----------------------------------------------------------------------


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


@pytest.mark.wire
def test_shards_that_another_tool_left_empty_on_a_single_server_are_filled(
    source: Influxd, target: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db, new = fresh(), fresh()
    source.create_database(db)
    source.write(db, [f"m,k=a v={week} {T0 + week * WEEK_S * 10**9}" for week in range(3)])
    backup(source, backups, "-db", db)
    first, *others = numbers(source, db)
    # The original makes all shards of a database, and fills the one that was asked for.
    influxd_restore(target, backups, "-db", db, "-newdb", new, "-shard", str(first))
    filled, *empty = numbers(target, new)
    for old, into in zip(others, empty, strict=True):
        flags = ("restore", *at(target), "-db", db, "-newdb", new, "-shard", old, "-newshard")
        refused = shardkeeper(*flags, filled, backups)
        assert refused.code == 14, refused
        done = shardkeeper(*flags, into, backups)
        assert done, done
        assert f"shard {old} to shard {into}..." in done.out
    assert points(target, new) == points(source, db)


def tags(results: Any) -> set[str]:
    return {series["tags"]["host"] for series in results[0].get("series", [])}


def numbers(server: Influxd, db: str) -> list[int]:
    [result] = server.query("SHOW SHARDS")
    rows: list[list[Any]] = next(s["values"] for s in result["series"] if s["name"] == db)
    return [row[0] for row in rows]
