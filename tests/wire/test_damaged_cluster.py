"""A cluster with damage on a disk: the whole replica is saved, else all that is sound.

On the embedded cluster, which here does as influxdb-cluster 1.8.11-c1.2.0 was seen to do: it
sends a damaged file as it is, and tells the size that a file had when it was opened.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.repository.repository import BackupRepository
from resources.tsm.reader import TSMFile
from resources.tsm.source import BytesSource
from tests.faults.replicas import stored
from tests.wire.commands import Done, shardkeeper
from tests.wire.test_cluster_replicas import backup, create, write_around

Damage = Callable[[bytearray], None]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster of one data node, so that there is one replica."""
    with EmbeddedCluster(tmp_path / "alone", meta_nodes=1, data_nodes=1) as running:
        yield running


def block(key: int) -> Damage:
    """Flip a byte of a value of one key."""

    def flip(data: bytearray) -> None:
        [entry] = list(TSMFile(BytesSource(bytes(data))).index())[key].entries
        data[entry.offset + entry.size - 2] ^= 0xFF

    return flip


def cut(data: bytearray) -> None:
    """Take the footer and a part of the index away, as a file system does after a crash."""
    del data[-10:]


def footer(data: bytearray) -> None:
    data[-2] ^= 0x7F


def index(data: bytearray) -> None:
    [start] = struct.unpack(">Q", data[-8:])
    data[start:-8] = bytes(len(data) - 8 - start)


def nothing_left(data: bytearray) -> None:
    data.clear()


def files(cluster: EmbeddedCluster, node: int, kind: str = "tsm") -> list[Path]:
    return sorted((cluster.data[node].store.directory / "data" / "db").rglob(f"*.{kind}"))


def harm(path: Path, what: Damage) -> None:
    data = bytearray(path.read_bytes())
    what(data)
    path.write_bytes(data)


def flush(cluster: EmbeddedCluster) -> None:
    for node in cluster.data:
        for shard in node.store.shards():
            node.store.flush(shard)


def prefer(cluster: EmbeddedCluster, node: int) -> tuple[str, str]:
    return "-from", cluster.data[node].tcp_addr


def made_of(backups: Path) -> list[str]:
    """The nodes that the newest archives were read from."""
    repository = BackupRepository.open(backups)
    evidences = [archive.entry.details for archive in repository.current().archives.values()]
    return [details.node for details in evidences if details is not None]


def restored(cluster: EmbeddedCluster, backups: Path) -> tuple[Done, dict[str, int]]:
    """Restore under another name; how many points of which host are there then."""
    done = shardkeeper(
        "-bind", cluster.meta[0].http_addr, "restore", "-db", "db", "-newdb", "back", backups
    )
    [result] = cluster.query("SELECT count(v) FROM m GROUP BY host", database="back")["results"]
    return done, {s["tags"]["host"]: s["values"][0][1] for s in result.get("series", [])}


@pytest.mark.parametrize("what", [block(0), cut, footer, index, nothing_left])
@pytest.mark.parametrize("node", [0, 2])
def test_the_archive_is_made_of_a_whole_replica(
    cluster: EmbeddedCluster, backups: Path, what: Damage, node: int
) -> None:
    create(cluster, copies=3)
    flush(cluster)
    [path] = files(cluster, node)
    harm(path, what)
    done = backup(cluster, backups, *prefer(cluster, node))
    assert done.code == 0, done
    assert cluster.data[node].tcp_addr in done.err
    assert cluster.data[node].tcp_addr not in made_of(backups)
    assert len(stored(backups)) == 20
    assert shardkeeper("verify", backups).code == 0


def test_a_damaged_replica_with_more_points_is_saved_and_what_it_misses_is_named(
    tmp_path: Path, backups: Path
) -> None:
    with EmbeddedCluster(tmp_path / "two", meta_nodes=1, data_nodes=2) as two:
        create(two, copies=2)
        write_around(two, 1, range(20, 60))
        flush(two)
        harm(files(two, 0)[0], block(0))
        done = backup(two, backups)
        assert done.code == 3, done
        assert "no node has all of its points" in done.err
        assert "damaged at" in done.err
        assert made_of(backups) == [two.data[0].tcp_addr]


def test_where_every_replica_is_damaged_all_that_is_sound_comes_back_on_every_owner(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    create(cluster, copies=3)
    flush(cluster)
    for node in range(3):
        harm(files(cluster, node)[0], block(1))
    for _ in range(2):
        done = backup(cluster, backups)
        assert done.code == 3, done
        assert "damaged at" in done.err
    done, there = restored(cluster, backups)
    assert done.code == 3, done
    assert "left out" in done.err
    assert there == {"h0": 4, "h2": 4, "h3": 4, "h4": 4}


def test_a_file_that_was_cut_below_its_server_is_saved_with_all_that_is_whole(
    alone: EmbeddedCluster, backups: Path
) -> None:
    """Its server still tells the size that the file had when it was opened."""
    create(alone, copies=1)
    flush(alone)
    [path] = files(alone, 0)
    harm(path, cut)
    done = backup(alone, backups)
    assert done.code == 3, done
    assert "damaged at" in done.err
    done, there = restored(alone, backups)
    assert done.code == 3, done
    assert sum(there.values()) >= 16


def test_of_damaged_tombstones_the_sound_ones_are_applied_and_the_others_named(
    alone: EmbeddedCluster, backups: Path
) -> None:
    create(alone, copies=1)
    flush(alone)
    for host in ("h0", "h1", "h2"):
        alone.query(f"DELETE FROM m WHERE host = '{host}'", database="db")
    [path] = files(alone, 0, "tombstone")
    raw = path.read_bytes()
    second = raw.index(b"\x1f\x8b", raw.index(b"\x1f\x8b") + 1)
    harm(path, lambda data: data.__setitem__(second + 14, data[second + 14] ^ 0x10))
    done = backup(alone, backups)
    assert done.code == 3, done
    assert "2 deletes in it can be read" in done.err
    done, there = restored(alone, backups)
    assert done.code == 3, done
    assert there == {"h1": 4, "h3": 4, "h4": 4}
