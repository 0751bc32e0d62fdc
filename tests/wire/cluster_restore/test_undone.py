"""Restores into a cluster that fail or are killed: all is undone, at once or by the next run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock

import pytest
from msgspec.structs import replace

from resources.embedded.cluster import EmbeddedCluster
from resources.engine.cluster import atomic_commit
from resources.protocol.commands import Command, CopyShardOwner, DropDatabase, SetData
from resources.protocol.meta import encode_metastore
from tests.wire.cluster_restore.scenario import (
    fill,
    journals,
    metastore,
    nobody_hears,
    on_disk,
    points,
    restore,
    right_before_it_is_set,
    timeless,
)


def test_a_node_that_is_down_at_the_start_leaves_everything_as_it_was(
    target: EmbeddedCluster, backups: Path
) -> None:
    target.stop_node(1)
    before = metastore(target)
    done = restore(target, backups)
    assert done.code == 1
    assert target.data[1].tcp_addr in done.err
    assert metastore(target) == before
    assert journals(backups) == []


@pytest.mark.fault(63, 65)
def test_a_restore_that_fails_is_undone_on_every_node(
    target: EmbeddedCluster, backups: Path
) -> None:
    fill(target, "mine")
    before, disks = metastore(target), on_disk(target)

    def no_owners(command: Command) -> None:
        if isinstance(command, CopyShardOwner):
            target.group.execute(SetData(without_database(target, "telegraf")))

    target.before_command(no_owners)
    done = restore(target, backups)
    assert done.code == 1
    assert timeless(metastore(target)) == timeless(before)
    assert on_disk(target) == disks
    assert journals(backups) == []


def without_database(cluster: EmbeddedCluster, name: str) -> bytes:
    now = cluster.group.metastore
    kept = tuple(database for database in now.databases if database.name != name)
    return encode_metastore(replace(now, databases=kept))


@pytest.mark.fault(63, 64)
def test_what_has_owners_when_a_node_goes_down_is_finished_once_it_is_up_again(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
) -> None:
    """Whether the node's copies hold what users wrote is not known, so nothing is dropped.

    Nor is what it has got, without reading it back.
    """
    first = Lock()

    def go_down(command: Command) -> None:
        if isinstance(command, CopyShardOwner) and first.acquire(blocking=False):
            target.stop_node(2)

    target.before_command(go_down)
    failed = restore(target, backups, "-receipts", "off")
    assert failed.code == 1
    assert "run restore again from here" in failed.err
    assert "whether it holds more than was sent is not known" in failed.err
    assert len(journals(backups)) == 1
    target.before_command(None)
    again = restore(target, backups, "-receipts", "off")
    assert again.code == 1
    assert "is not finished yet" in again.err
    target.start_node(2)
    finished = restore(target, backups, "-receipts", "off")
    assert finished.code == 14
    assert "it is complete now" in finished.err
    assert points(target, "telegraf") == points(source, "telegraf")
    known = {place.shard_id for place in metastore(target).places()}
    assert {shard for shards in on_disk(target).values() for shard in shards} == known
    assert journals(backups) == []


@pytest.mark.fault(63)
def test_a_node_that_goes_down_once_its_copies_were_read_back_is_named_and_nothing_is_undone(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
) -> None:
    first = Lock()

    def go_down(command: Command) -> None:
        if isinstance(command, CopyShardOwner) and first.acquire(blocking=False):
            target.stop_node(2)

    target.before_command(go_down)
    done = restore(target, backups)
    assert done, done
    assert "a data node has gone away meanwhile" in done.err
    assert journals(backups) == []
    target.start_node(2)
    assert points(target, "telegraf") == points(source, "telegraf")


def test_what_a_node_keeps_because_it_went_down_is_taken_away_by_the_next_run(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
) -> None:
    before, first = metastore(target), Lock()

    def go_down(command: Command) -> None:
        ours = isinstance(command, DropDatabase) and command.name == "telegraf"
        if ours and first.acquire(blocking=False):
            target.stop_node(2)

    one = target.data[1]
    one.snapshotter.faults.before_shard = lambda shard_id: one.store.remove(shard_id)
    target.before_command(go_down)
    failed = restore(target, backups)
    assert failed.code == 1
    assert "run restore again from here" in failed.err
    assert timeless(metastore(target)) == timeless(before)
    assert len(journals(backups)) == 1
    target.before_command(None)
    again = restore(target, backups)
    assert again.code == 1
    assert "is not undone yet" in again.err
    target.start_node(2)
    one.snapshotter.faults.before_shard = None
    assert on_disk(target)[target.data[2].tcp_addr]
    assert restore(target, backups)
    assert points(target, "telegraf") == points(source, "telegraf")
    known = {place.shard_id for place in metastore(target).places()}
    assert {shard for shards in on_disk(target).values() for shard in shards} == known
    assert journals(backups) == []


def test_on_an_empty_cluster_a_change_that_nobody_saw_undoes_the_restore(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have given the numbers that the restore keeps to shards of its own."""
    monkeypatch.setattr(atomic_commit, "SEEN_WITHIN_S", 0.1)
    nobody_hears(target)
    right_before_it_is_set(target, lambda: target.query("CREATE DATABASE racer"), seen=False)
    done = restore(target, backups)
    assert done.code == 1
    assert metastore(target).database("telegraf") is None
    assert not any(on_disk(target).values())
    target.before_command(None)
    assert restore(target, backups)
    assert points(target, "telegraf") == points(source, "telegraf")


@pytest.mark.fault(26, 63)
def test_a_killed_restore_is_undone_by_the_next(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path
) -> None:
    fill(target, "mine")
    command = [
        sys.executable, "-c", "from pipelines.ctl.main import shardkeeper; shardkeeper()",
        "-bind", target.meta[0].http_addr, "restore", str(backups),
    ]  # fmt: skip
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    killed, first = list[int](), Lock()  # several commands come at once

    def kill(command: Command) -> None:
        if isinstance(command, CopyShardOwner) and first.acquire(blocking=False):
            run.send_signal(signal.SIGKILL)
            killed.append(run.wait())

    target.before_command(kill)
    run.communicate()
    assert killed == [-signal.SIGKILL]
    target.before_command(None)
    # The command on its way may have been applied: then the rest follows, else all is undone.
    done = restore(target, backups)
    assert journals(backups) == []
    assert "an earlier restore" in done.err
    assert points(target, "telegraf") == points(source, "telegraf")
    known = {place.shard_id for place in metastore(target).places()}
    assert {shard for shards in on_disk(target).values() for shard in shards} == known
