"""A cluster as it stands: names that only its own network knows, https, releases, orphans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.model import ShardID
from tests.certificates import Authority
from tests.tunnel import Tunnel
from tests.wire.commands import doctor, shardkeeper

T0 = 1_600_000_000 * 10**9
WEEK_NS = 7 * 86_400 * 10**9
ELSEWHERE = "cluster.invalid"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path / "cluster", 2, 2, hostname=ELSEWHERE) as running:
        running.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        running.write("telegraf", "\n".join(f"m v={n} {T0 + n * WEEK_NS}" for n in range(3)))
        yield running


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def bind(cluster: EmbeddedCluster, at: int = 0) -> tuple[str, str]:
    return ("-bind", f"127.0.0.1:{cluster.meta[at].listener.port}")


@pytest.mark.parametrize("at", [0, 1])
def test_nodes_that_advertise_unknown_names_are_reached_by_the_map(
    cluster: EmbeddedCluster, backups: Path, at: int
) -> None:
    """Through the meta node that follows, too, which names the leader."""
    flags = (*bind(cluster, at), "-map", f"{ELSEWHERE}=127.0.0.1")
    done = shardkeeper(*flags, "backup", backups)
    assert done, done
    assert f"node {cluster.data[0].tcp_addr}, db telegraf" in done.out
    restored = shardkeeper(*flags, "restore", "-db", "telegraf", "-newdb", "again", backups)
    assert restored, restored
    merged = shardkeeper(*flags, "merge", "-db", "telegraf", backups)
    assert merged, merged
    diagnosed, output = doctor(*flags)
    assert diagnosed, output
    port = cluster.data[1].tcp.port
    assert f"(at 127.0.0.1:{port})" in output[f"data node {ELSEWHERE}:{port}"]["answer"]
    [series] = cluster.query("SELECT count(v) FROM m", database="again")["results"][0]["series"]
    assert series["values"] == [[0, 3]]


def test_names_that_nobody_here_knows_are_reported_with_the_map(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    leader, follower = (0, 1) if cluster.meta[0].leads else (1, 0)
    done = shardkeeper(*bind(cluster, leader), "backup", backups)
    assert done.code == 1
    assert "unknown host" in done.err
    assert "-map" in done.err
    _, output = doctor(*bind(cluster, leader))
    for node in cluster.data:
        assert "-map" in output[f"data node {node.tcp_addr}"]["next_step"]
    _, output = doctor(*bind(cluster, follower))
    assert "-map" in output["metastore"]["next_step"]


def test_https_of_data_nodes_is_reported_by_the_meta_nodes_and_spoken(
    cluster: EmbeddedCluster, backups: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca").mkdir()
    authority = Authority.make(tmp_path / "ca")
    context = authority.server(names=f"DNS:{ELSEWHERE}")
    here = [f"127.0.0.1:{node.http.port}" for node in cluster.data]
    cluster.group.http_scheme = "https"
    with Tunnel(here[0], tls=context) as one, Tunnel(here[1], tls=context) as two:
        flags = (
            *(*bind(cluster), "-map", f"{ELSEWHERE}=127.0.0.1", "-ca", authority.ca_file),
            *("-map", f"{cluster.data[0].http_addr}={one.address}"),
            *("-map", f"{cluster.data[1].http_addr}={two.address}"),
        )
        assert shardkeeper(*flags, "backup", backups)
        merged = shardkeeper(*flags, "merge", "-db", "telegraf", backups)
        assert merged, merged
        assert one.connections
        _, output = doctor(*flags)
    assert "over https" in output[f"HTTP of {cluster.data[0].tcp_addr}"]["answer"]
    assert any(question.startswith("certificate of") for question in output)


def test_a_release_with_other_numbers_is_reported_before_any_call(
    cluster: EmbeddedCluster, backups: Path
) -> None:
    cluster.group.release = "1.8.10-c1.1.1"
    flags = (*bind(cluster), "-map", f"{ELSEWHERE}=127.0.0.1")
    done = shardkeeper(*flags, "backup", backups)
    assert done.code == 16, done
    assert "c1.1.2" in done.err
    assert "nothing was sent" in shardkeeper(*flags, "show-shards", "-m").err
    diagnosed, output = doctor(*flags)
    assert diagnosed.code == 1
    assert "c1.1.2" in output["release"]["next_step"]
    assert not any(question.startswith("data node") for question in output)


def test_what_the_metastore_does_not_know_and_what_owners_miss_is_reported(
    cluster: EmbeddedCluster,
) -> None:
    cluster.data[0].store.create("telegraf", "autogen", ShardID(9999))
    unrestorable = min(cluster.data[1].store.shards())
    cluster.data[1].store.remove(unrestorable)
    diagnosed, output = doctor(*bind(cluster), "-map", f"{ELSEWHERE}=127.0.0.1")
    assert diagnosed.code == 0
    assert "9999" in output["orphans"]["answer"]
    assert cluster.data[0].tcp_addr in output["orphans"]["answer"]
    assert f": {unrestorable}" in output["copies"]["answer"]


def test_a_node_that_is_down_is_named_with_its_address(cluster: EmbeddedCluster) -> None:
    cluster.stop_node(1)
    diagnosed, output = doctor(*bind(cluster), "-map", f"{ELSEWHERE}=127.0.0.1")
    assert diagnosed.code == 1
    node = output[f"data node {cluster.data[1].tcp_addr}"]
    assert node["status"] == "failed"
    assert "connection refused" in node["answer"]
    assert output[f"data node {cluster.data[0].tcp_addr}"]["status"] == "ok"
