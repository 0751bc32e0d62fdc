"""Files of a store, given to a real influxd: it answers the same, and deletes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.snapshotter import SnapshotterClient
from resources.embedded.influxql.answers import deletion
from resources.embedded.influxql.parser import parse
from resources.embedded.influxql.statements import Delete, DropSeries
from resources.embedded.shards.line_protocol import parse_lines
from resources.embedded.shards.store import ShardStore
from resources.model import ShardID
from resources.protocol.tar import END_MARKER, encode_header, padding
from resources.tsm.layout import SEPARATOR
from tests.influxd import Influxd
from tests.resources.embedded.influxql.single import NOW_NS, SingleNode
from tests.resources.tsm.answers import Rows, answered, kept, shard
from tests.resources.tsm.points import (
    DELETIONS,
    T0,
    S,
    deletable,
    everything,
    left_over,
    lines,
    plain,
)

pytestmark = pytest.mark.wire

ONE = ShardID(1)


def empty_shard(server: Influxd, db: str) -> ShardID:
    """The number of the one, empty shard of a new database."""
    pattern = f"{db} pattern"
    server.create_database(pattern, with_="DURATION INF SHARD DURATION 52000d")
    server.write(pattern, f"m v=1 {T0}")
    client = SnapshotterClient(server.bind_addr)
    [shard_id] = client.import_metastore(pattern, db, "", "", client.metastore()).values()
    server.drop_database(pattern)
    return shard_id


def upload(server: Influxd, db: str, store: ShardStore) -> None:
    """Put what a store saves into a server, as a restore does."""
    shard_id = empty_shard(server, db)
    with (
        store.snapshot(ONE) as members,
        SnapshotterClient(server.bind_addr).upload(shard_id) as sending,
    ):
        for member in members:
            data = member.path.read_bytes()
            name = f"{db}/autogen/{shard_id}/{member.path.name}"
            sending.sendall(encode_header(name, len(data), 0) + data + padding(len(data)))
        sending.sendall(END_MARKER)
        sending.finish()


def held(store: ShardStore) -> Rows:
    return {found.key: plain(found.times, found.values) for found in store.points(ONE)}


def write(store: ShardStore, text: str) -> None:
    parsed = parse_lines(text.encode(), now_ns=NOW_NS)
    assert not parsed.errors
    store.write(ONE, parsed.points)


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    store = ShardStore(tmp_path / "node", clock=lambda: NOW_NS)
    store.create("db", "autogen", ONE)
    return store


def test_the_same_lines_are_the_same_file(influxd: Influxd, store: ShardStore) -> None:
    text = "\n".join(lines(everything()))
    influxd.create_database("same")
    influxd.write("same", text)
    write(store, text)
    [path] = influxd.flush("same")
    with store.snapshot(ONE) as [member]:
        if influxd.version.startswith("1.6.7"):
            assert member.path.read_bytes() == path.read_bytes()
        assert held(store) == kept([path]) == answered(influxd, "same")


@pytest.mark.parametrize("index_version", ["inmem", "tsi1"])
def test_a_server_answers_what_a_store_holds(
    influxd_factory: Callable[..., Influxd], store: ShardStore, index_version: str
) -> None:
    server = influxd_factory(index_version=index_version)
    written = list(lines(everything()))
    third = len(written) // 3
    for part in (written[: 2 * third], written[third:], written[:third]):
        write(store, "\n".join(part))
        store.flush(ONE)
    write(store, f"even float=-1 {T0}")
    upload(server, "db", store)
    assert len(server.tsm_files("db")) == 4
    assert answered(server, "db") == held(store)
    store.compact(ONE)
    upload(server, "compacted", store)
    assert len(server.tsm_files("compacted")) == 1
    assert answered(server, "compacted") == held(store)


def test_deletions_leave_the_same_points_and_are_read_by_a_server(
    influxd_factory: Callable[..., Influxd], tmp_path: Path
) -> None:
    node = SingleNode(tmp_path / "node")
    node.create_database("db")
    node.write("db", "\n".join(lines(deletable())))
    assert list(node.store.shards()) == [ONE]
    node.store.flush(ONE)
    for q in DELETIONS:
        [statement] = parse(q)
        assert isinstance(statement, Delete | DropSeries)
        gone = deletion(statement, node, "db", NOW_NS)
        node.store.delete(ONE, gone.wanted, gone.min_time_ns, gone.max_time_ns)
    left = {of.key: list(points) for of, points in left_over().items()}
    assert held(node.store) == left
    assert {key.partition(SEPARATOR)[0] for key in node.keys(ONE)} == {
        key.partition(SEPARATOR)[0] for key in left
    }

    # An upload takes no tombstones, so the files go under a server that is stopped.
    server = influxd_factory()
    shard_id = empty_shard(server, "db")
    server.stop()
    place = server.data_dir / "db" / "autogen" / str(shard_id)
    with node.store.snapshot(ONE) as members:
        assert [member.path.suffix for member in members] == [".tombstone", ".tsm"]
        for member in members:
            (place / member.path.name).write_bytes(member.path.read_bytes())
    server.start()
    assert answered(server, "db") == left == kept(server.tsm_files("db"))


def test_a_store_holds_what_a_server_saved(influxd: Influxd, store: ShardStore) -> None:
    influxd.create_database("saved")
    influxd.write("saved", lines(everything()))
    paths = influxd.flush("saved")
    with store.overlay(ONE) as taking:
        for path in paths:
            taking.add(path.name, [path.read_bytes()])
    assert held(store) == kept(paths)
    assert dict(store.keys(ONE)) == {
        found.key: found.type for file, _ in shard(paths) for found in file.index()
    }
    write(store, f"even float=-1 {T0 + 10 * S}")
    assert held(store)[b"even#!~#float"][1] == (T0 + 10 * S, -1.0)
