"""Restores into a shard that is there (`-newshard`), broken off on the way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.clients.coordinator import CoordinatorClient
from resources.embedded.cluster import EmbeddedCluster
from resources.model import ShardID
from resources.runtime.failpoints import VARIABLE
from tests.processes import ForkServer
from tests.wire.commands import shardkeeper

T0 = 1_600_000_000 * 10**9
ALL = "SELECT * FROM cpu GROUP BY *"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Two nodes that both lost shard 1, of which there is a backup."""
    with EmbeddedCluster(tmp_path / "dev", meta_nodes=1, data_nodes=2) as running:
        running.query("CREATE DATABASE telegraf WITH REPLICATION 2")
        running.write("telegraf", "\n".join(f"cpu,host=h{i} n={i}i {T0 + i}" for i in range(99)))
        yield running


def seen(dev: EmbeddedCluster) -> list[Any]:
    return [dev.query(ALL, database="telegraf", at=at)["results"] for at in range(2)]


@pytest.mark.fault(63)
def test_a_copy_that_was_filled_is_emptied_when_the_other_fails_and_the_same_command_goes_on(
    dev: EmbeddedCluster, backups: Path
) -> None:
    bind = ("-bind", dev.meta[0].http_addr)
    before = seen(dev)
    assert shardkeeper(*bind, "backup", backups)
    whole, broken = (CoordinatorClient(node.tcp_addr) for node in dev.data)
    for node in (whole, broken):
        node.remove_shard(ShardID(1))
    whole.create_shard(ShardID(1), "telegraf", "autogen")
    dev.cut_after(1500, at=1)  # what it lists comes through, what it holds does not
    flags = ("restore", "-shard", 1, "-newshard", 1, backups)
    failed = shardkeeper(*bind, *flags)
    assert failed.code not in (0, 14), failed
    assert f"whether shard 1 on {broken.tcp_addr} was filled is not known" in failed.err
    assert "the same command goes on from there" in failed.err
    assert seen(dev)[0] == [{"statement_id": 0}]
    assert list(whole.list_shards()) == [1]
    dev.cut_after(None)
    again = shardkeeper(*bind, *flags)
    assert again, again
    assert seen(dev) == before


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    "failpoint_request", ["restore.mid-upload", "restore.uploaded", "restore.read-back"]
)
def test_a_run_that_is_killed_is_finished_by_the_same_command(
    dev: EmbeddedCluster, backups: Path, fork_server: ForkServer, failpoint_request: str
) -> None:
    bind = ("-bind", dev.meta[0].http_addr)
    before = seen(dev)
    assert shardkeeper(*bind, "backup", backups)
    for node in dev.data:
        CoordinatorClient(node.tcp_addr).remove_shard(ShardID(1))
    flags = ("restore", "-shard", 1, "-newshard", 1, backups)
    killed = fork_server.start(*bind, *flags, env={VARIABLE: failpoint_request}).wait()
    assert killed.code == -signal.SIGKILL, killed
    again = shardkeeper(*bind, *flags)
    assert again, again
    assert seen(dev) == before
