"""The original programs, and ours, take a dev cluster for the real thing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.model import ShardID
from tests.influxd import Influxd, wait_until
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.wire.commands import (
    backup,
    influxd_backup,
    influxd_restore,
    restore,
    shardkeeper,
    verify,
)
from tests.wire.points import Points, count, points, wait_for_points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000 * 10**9
WEEK = 7 * 86_400 * 10**9
DB = "telegraf"


def fill(server: Influxd) -> Points:
    """Four shards, all types that HTTP takes, extremes and odd names; two policies."""
    server.create_database(DB)
    server.query(f'CREATE RETENTION POLICY "sp äce" ON {DB} DURATION INF REPLICATION 1')
    for policy in ("autogen", "sp äce"):
        for week in range(2):
            at = T0 + week * WEEK
            server.write(
                DB,
                [
                    rf"cpu,host=h{n % 7},re\ gion=eu\ west "
                    f'load={n / 7},n={n - 25}i,up={"true" if n % 2 else "false"},note="n° {n}\\"" '
                    f"{at + n * 1_000_000_007}"
                    for n in range(200)
                ]
                + [
                    f"edge i=9223372036854775807i,f=1.7976931348623157e308 {at}",
                    f"edge i=-9223372036854775808i,f=5e-324 {at + 1}",
                    f'edge s="{"long " * 500}" {at + 2}',
                ],
                rp=policy,
            )
    written = points(server, DB)
    assert count(written) == 2 * 2 * (200 * 4 + 5)
    return written


def wait_until_there(server: Influxd, expected: Points) -> None:
    """`influxd restore` does not wait for its last shard to be taken in."""

    def there() -> bool:
        try:
            return points(server, DB) == expected
        except AssertionError:  # "shard is disabled"
            return False

    wait_until(there, within_s=10, what="the last upload to be taken in")


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[DevInfluxd]:
    with DevInfluxd(tmp_path / "dev") as server:
        yield server


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory


@pytest.fixture
def other(tmp_path: Path) -> Iterator[DevInfluxd]:
    with DevInfluxd(tmp_path / "other") as server:
        yield server


def test_a_dev_server_answers_like_influxd_after_the_same_writes(
    dev: DevInfluxd, influxd: Influxd
) -> None:
    influxd.query(f"DROP DATABASE {DB}")
    try:
        assert fill(dev) == fill(influxd)
    finally:
        influxd.drop_database(DB)


def test_influxd_backs_a_dev_server_up_and_restores_it_into_another(
    dev: DevInfluxd, other: DevInfluxd, tmp_path: Path
) -> None:
    written = fill(dev)
    influxd_backup(dev, tmp_path / "backup")
    influxd_restore(other, tmp_path / "backup")
    wait_until_there(other, written)
    assert (dev.log, other.log) == ([], [])


def test_influxd_s_backup_of_a_dev_server_fits_influxd_and_the_other_way_round(
    dev: DevInfluxd, other: DevInfluxd, influxd: Influxd, tmp_path: Path
) -> None:
    written = fill(dev)
    name = f"db-{secrets.token_hex(4)}"
    influxd_backup(dev, tmp_path / "there")
    influxd_restore(influxd, tmp_path / "there", "-db", DB, "-newdb", name)
    wait_for_points(influxd, name, written)
    influxd_backup(influxd, tmp_path / "back", "-db", name)
    influxd_restore(other, tmp_path / "back", "-db", name, "-newdb", DB)
    wait_until_there(other, written)
    influxd.drop_database(name)


def test_shardkeeper_backs_a_dev_server_up_verifies_and_restores_it(
    dev: DevInfluxd, other: DevInfluxd, backups: Path
) -> None:
    written = fill(dev)
    backup(dev, backups)
    verify(backups)
    restore(other, backups)
    assert points(other, DB) == written


def test_what_was_deleted_comes_back_from_influxd_s_backup_as_it_does_elsewhere(
    dev: DevInfluxd, other: DevInfluxd, tmp_path: Path
) -> None:
    written = fill(dev)
    for shard_id in range(1, 5):
        dev.node.store.flush(ShardID(shard_id))
    dev.query(f"DELETE FROM cpu WHERE time >= {T0} AND time < {T0 + 50_000_000_350}", db=DB)
    assert points(dev, DB) != written
    assert dev.tombstone_files(DB)
    influxd_backup(dev, tmp_path / "backup")
    influxd_restore(other, tmp_path / "backup")
    wait_until_there(other, written)


def test_shardkeeper_copies_only_what_changed_on_a_dev_server(
    dev: DevInfluxd, other: DevInfluxd, backups: Path
) -> None:
    fill(dev)
    backup(dev, backups)
    first = len(list(backups.glob("*.tar.gz")))
    dev.write(DB, f"cpu,host=new load=1 {T0 + 5}")
    backup(dev, backups)
    assert len(list(backups.glob("*.tar.gz"))) == first + 1
    restore(other, backups)
    assert points(other, DB) == points(dev, DB)


def test_influxd_backs_up_one_data_node_s_shards_and_its_restore_into_a_cluster_is_lost(
    tmp_path: Path,
) -> None:
    with EmbeddedCluster(tmp_path / "cluster", 1, 2) as cluster:
        node = DevInfluxd(tmp_path / "node", cluster.data[0])
        written = fill(node)
        assert points(DevInfluxd(tmp_path / "node2", cluster.data[1]), DB) == written
        influxd_backup(node, tmp_path / "backup")
        influxd_restore(node, tmp_path / "backup", "-db", DB, "-newdb", "lost")
        ownerless = [p for p in cluster.group.metastore.places() if not p.shard.owners]
        assert {place.database for place in ownerless} == {"lost"}
        assert count(points(node, "lost")) == 0
        # The points are on the disk of the node that was asked.
        stored = node.node.store.shards
        wait_until(
            lambda: any(s.database == "lost" and s.num_files for s in stored().values()),
            within_s=10,
            what="an upload to be taken in",
        )


def test_shardkeeper_refuses_to_restore_into_a_dev_cluster_s_node_as_into_a_server(
    tmp_path: Path, backups: Path, dev: DevInfluxd
) -> None:
    fill(dev)
    backup(dev, backups)
    with EmbeddedCluster(tmp_path / "cluster", 1, 1) as cluster:
        node = cluster.data[0]
        done = shardkeeper(
            "restore",
            "-host", node.tcp_addr,
            "-http", f"http://{node.http_addr}",
            backups,
        )  # fmt: skip
        assert done.code != 0
        assert cluster.group.metastore.databases == ()
