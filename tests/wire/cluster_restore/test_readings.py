"""What is set or dropped rests on looks that are proven: flips, stale nodes, other leaders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.protocol.meta import decode_metastore
from tests.wire.cluster_restore.meta_proxy import Answered, Asked, MetaProxy
from tests.wire.cluster_restore.scenario import fill, journals, metastore, points, timeless
from tests.wire.commands import Done, shardkeeper

FORCE = "-meta-only-overwrite-force"


@pytest.fixture
def proxy(target: EmbeddedCluster) -> Iterator[MetaProxy]:
    fill(target, "mine")
    target.query("CREATE USER ann WITH PASSWORD 'a-secret'; GRANT READ ON mine TO ann")
    with MetaProxy(target.meta[0].http_addr) as running:
        yield running


def restore(proxy: MetaProxy, directory: Path, *flags: object) -> Done:
    return shardkeeper("-bind", proxy.address, "restore", *flags, directory)


def hash_flipped(raw: bytes) -> bytes:
    """A bit of a password's hash, which no parser objects to."""
    at = raw.index(b"$2a$") + 20
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize("at", [1, 2, 4, 8, 12, 15, 17, 19, 21, 25])
def test_a_flip_in_one_look_is_never_set(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, proxy: MetaProxy, at: int
) -> None:
    before = metastore(target)

    def flip(asked: Asked, answered: Answered) -> Answered:
        if asked.is_reading and proxy.scans == at:
            return answered.with_body(hash_flipped(answered.body))
        return answered

    proxy.reply = flip
    done = restore(proxy, backups)
    assert done, done
    assert metastore(target).users == before.users
    assert metastore(target).database("mine") == before.database("mine")
    assert points(target, "telegraf") == points(source, "telegraf")


def test_a_flip_in_every_look_is_seen_by_asking_the_meta_nodes_themselves(
    target: EmbeddedCluster, backups: Path, proxy: MetaProxy
) -> None:
    before = metastore(target)

    def flip(asked: Asked, answered: Answered) -> Answered:
        return answered.with_body(hash_flipped(answered.body)) if asked.is_reading else answered

    proxy.reply = flip
    done = restore(proxy, backups)
    assert done.code == 1
    assert "has another metastore of index" in done.err
    assert timeless(metastore(target)) == timeless(before)
    assert journals(backups) == []


def test_what_arrives_damaged_is_set_right(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, proxy: MetaProxy
) -> None:
    before, first = metastore(target), list[bool]()

    def flip(asked: Asked) -> Asked:
        if asked.is_setting and not first:
            first.append(True)
            return Asked(asked.method, asked.path, hash_flipped(asked.body))
        return asked

    proxy.request = flip
    done = restore(proxy, backups)
    assert done, done
    assert "arrived damaged on its way (user 'ann') and was set once more" in done.err
    assert metastore(target).users == before.users
    assert points(target, "telegraf") == points(source, "telegraf")


@pytest.mark.parametrize("how", ["a cache", "a node that stood still"])
@pytest.mark.parametrize("what", ["restore", "overwrite", "backup"])
def test_a_stale_metastore_is_neither_set_nor_backed_up(
    target: EmbeddedCluster, backups: Path, proxy: MetaProxy, tmp_path: Path, what: str, how: str
) -> None:
    """A cache keeps the headers of its day; a node that stood still begins with its own."""
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    assert shardkeeper("-bind", target.meta[0].http_addr, "backup", mine)
    stale = target.group.encoded
    index = str(decode_metastore(stale).index)
    target.query("CREATE DATABASE since")
    before = metastore(target)

    def old(asked: Asked, answered: Answered) -> Answered:
        if not asked.is_reading:
            return answered
        headers = answered.headers
        if how == "a cache":
            headers = tuple(
                (name, index if name.title() == "Influxdb-Metaindex" else value)
                for name, value in headers
            )
        return Answered(answered.status, headers, stale)

    proxy.reply = old
    if what == "backup":
        new = tmp_path / "new"
        new.mkdir(mode=0o700)
        done = shardkeeper("-bind", proxy.address, "backup", new)
        assert not list(new.glob("*.manifest"))
    else:
        done = restore(
            proxy, backups if what == "restore" else mine, *[FORCE] * (what != "restore")
        )
    assert done.code == 1, done
    assert "index" in done.err
    assert timeless(metastore(target)) == timeless(before)


def test_a_leader_that_is_none_any_more_sets_nothing(
    source: EmbeddedCluster, target: EmbeddedCluster, backups: Path, proxy: MetaProxy
) -> None:
    """It sends commands on to the new one, which knows more than the look did."""
    first = list[bool]()

    def another_leads(asked: Asked) -> Asked:
        if asked.is_setting and not first:
            first.append(True)
            target.change_leader(1)
            target.query("CREATE DATABASE since")
        return asked

    proxy.request = another_leads
    done = restore(proxy, backups)
    assert metastore(target).database("since") is not None
    assert done, done
    assert points(target, "telegraf") == points(source, "telegraf")
