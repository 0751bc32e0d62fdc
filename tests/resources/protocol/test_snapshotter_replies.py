from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, PeerClosedEarly, ShardkeeperError
from resources.model import ShardID
from resources.protocol.snapshotter import (
    IDMap,
    MetastoreReply,
    OddPath,
    ShardPath,
    ShardPaths,
    id_map,
    metastore_reply,
    shard_paths,
    what_answered_instead,
)
from resources.protocol.stream import Parsing, StreamReader
from tests.resources.protocol.parsing import parse_all
from tests.resources.protocol.vectors import (
    ID_MAP,
    ID_MAP_FIVE,
    ID_MAP_REFUSED,
    METASTORE,
    METASTORE_REPLY,
)

MAGIC = ID_MAP[:8]
PATHS = ShardPaths(
    (
        ShardPath("telegraf", "autogen", ShardID(1)),
        ShardPath("sp ace", "dots.and-dash", ShardID(2**64 - 1)),
    )
)
PATHS_WIRE = b'{"Paths":["telegraf/autogen/1","sp ace/dots.and-dash/18446744073709551615"]}\n'
FIVE = IDMap(
    tuple(
        (ShardID(old), ShardID(new)) for old, new in [(5, 16), (1, 12), (2, 13), (3, 14), (4, 15)]
    )
)


# --- metastore ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 338])
def test_a_real_metastore_reply_reads_and_writes_alike(step: int) -> None:
    reply = parse_all(metastore_reply, METASTORE_REPLY, step=step)
    assert reply == MetastoreReply(METASTORE)
    assert reply.encode() == METASTORE_REPLY


@pytest.mark.parametrize("cut", range(len(METASTORE_REPLY)))
def test_a_metastore_reply_cut_anywhere_is_noticed(cut: int) -> None:
    if cut == 16 + len(METASTORE):  # the node behind it is not needed
        assert parse_all(metastore_reply, METASTORE_REPLY[:cut], step=7).meta == METASTORE
        return
    with pytest.raises(PeerClosedEarly):
        parse_all(metastore_reply, METASTORE_REPLY[:cut], step=7)


@given(st.binary(max_size=300), st.none() | st.just({"ID": 4}), st.integers(1, 400))
def test_metastore_replies_agree_in_both_directions(
    meta: bytes, node: dict[str, Any] | None, step: int
) -> None:
    reply = MetastoreReply(meta, node)
    assert parse_all(metastore_reply, reply.encode(), step=step) == reply


@pytest.mark.parametrize("claimed", [2**63, 2**64 - 1, 64 * 2**20 + 1])
def test_a_metastore_of_incredible_length_takes_no_memory(claimed: int) -> None:
    wire = MAGIC + claimed.to_bytes(8, "big") + METASTORE
    tracemalloc.start()
    with pytest.raises(BadReply, match=f"meta claims {claimed} bytes"):
        parse_all(metastore_reply, wire, step=len(wire))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        (b"\x00\x00\x00\x00\x59\x59\x01\x02" + METASTORE_REPLY[8:], "expected magic 0x59590101"),
        (METASTORE_REPLY + b"\x00", "goes on after its end"),
        (METASTORE_REPLY[:-5] + b"nul?\n", "node is not JSON"),
        (METASTORE_REPLY[:-13] + (2).to_bytes(8, "big") + b"17", "node is not a JSON object"),
        (METASTORE_REPLY[:-13] + (2**40).to_bytes(8, "big"), "node claims 1099511627776 bytes"),
    ],
)
def test_what_is_no_metastore_reply_is_refused(wire: bytes, complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint):
        parse_all(metastore_reply, wire, step=50)


def test_a_metastore_is_not_in_the_repr() -> None:
    assert "telegraf" not in repr(MetastoreReply(METASTORE))


# --- shard paths --------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_shard_paths_agree_in_both_directions(step: int) -> None:
    assert PATHS.encode() == PATHS_WIRE
    assert parse_all(shard_paths, PATHS_WIRE, step=step) == PATHS


def test_no_shards_are_null() -> None:
    assert ShardPaths(()).encode() == b'{"Paths":null}\n'
    assert parse_all(shard_paths, b'{"Paths":null}\n', step=5) == ShardPaths(())
    assert parse_all(shard_paths, b'{"Paths":[]}\n', step=5) == ShardPaths(())


def test_a_server_on_windows_separates_with_backslashes() -> None:
    reply = parse_all(shard_paths, rb'{"Paths":["db\\rp\\7"]}' + b"\n", step=5)
    assert reply.paths == (ShardPath("db", "rp", ShardID(7)),)


@pytest.mark.parametrize("cut", range(len(PATHS_WIRE)))
def test_shard_paths_cut_anywhere_are_noticed(cut: int) -> None:
    with pytest.raises(PeerClosedEarly):
        parse_all(shard_paths, PATHS_WIRE[:cut], step=7)


@pytest.mark.fault(88)
@pytest.mark.parametrize(
    "path",
    [
        "db/rp",
        "7",
        "",
        "db/rp/1/",
        "db/rp/",
        "db/rp/-1",
        "db/rp/+1",
        "db/rp/1.0",
        "db/rp/0x1",
        "db/rp/01",
        "db/rp/ 1",
        "db/rp/1\n",
        "db/rp/\u0661",
        "db/rp/18446744073709551616",
        "db/rp/" + "9" * 5000,
        7,
        None,
        ["db", "rp", 1],
    ],
    ids=lambda path: ascii(path)[:30],
)
def test_a_path_that_is_no_shard_is_refused(path: object) -> None:
    wire = json.dumps({"Paths": ["db/rp/1", path]}).encode() + b"\n"
    with pytest.raises(BadReply):
        parse_all(shard_paths, wire, step=1000)


@pytest.mark.parametrize(
    "path",
    [
        *("../rp/1", "db/../1", "./rp/1", "db//1", "d\u202eb/rp/1", "\x1b[0m/rp/1"),
        *("a/b/c/1", "../../etc/1", "/db/rp/1", "dc1/graphite/autogen/1"),
    ],
)
def test_a_path_under_a_name_that_none_may_have_is_set_aside(path: str) -> None:
    """A configuration file can make a database with a slash, and the others are to be saved."""
    wire = json.dumps({"Paths": ["db/rp/2", path]}).encode() + b"\n"
    found = parse_all(shard_paths, wire, step=1000)
    assert found.paths == (ShardPath("db", "rp", ShardID(2)),)
    assert found.odd == (OddPath(path, ShardID(1)),)


@pytest.mark.parametrize(
    "line", [b"", b"null", b"[]", b"{}", b'{"Paths":"db/rp/1"}', b'{"Paths":{}}', b'{"paths":[]}']
)
def test_what_are_no_shard_paths_is_refused(line: bytes) -> None:
    with pytest.raises(BadReply):
        parse_all(shard_paths, line + b"\n", step=3)


def test_nothing_may_follow_the_shard_paths() -> None:
    with pytest.raises(BadReply, match="after its end"):
        parse_all(shard_paths, PATHS_WIRE + b"{}", step=1000)


# --- ID map -------------------------------------------------------------------------------


def test_real_id_maps_read_and_write_alike() -> None:
    one = IDMap(((ShardID(6), ShardID(22)),))
    for wire, expected in [(ID_MAP, one), (ID_MAP_REFUSED, IDMap(())), (ID_MAP_FIVE, FIVE)]:
        assert parse_all(id_map, wire, step=9) == expected
        assert expected.encode() == wire


@pytest.mark.parametrize("cut", range(len(ID_MAP_FIVE)))
def test_an_id_map_cut_anywhere_is_noticed(cut: int) -> None:
    with pytest.raises(PeerClosedEarly):
        parse_all(id_map, ID_MAP_FIVE[:cut], step=7)


@pytest.mark.parametrize("n_pairs", [2**20 + 1, 2**60, 2**63, 2**64 - 1])
def test_an_id_map_of_incredible_length_takes_no_memory(n_pairs: int) -> None:
    tracemalloc.start()
    with pytest.raises(BadReply, match=f"claims {n_pairs} pairs"):
        parse_all(id_map, MAGIC + n_pairs.to_bytes(8, "big"), step=16)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(
    "wire",
    [
        ID_MAP + b"\x00",
        b"\x01" + ID_MAP[1:],
        IDMap(((ShardID(1), ShardID(2)), (ShardID(1), ShardID(3)))).encode(),
        IDMap(((ShardID(1), ShardID(3)), (ShardID(2), ShardID(3)))).encode(),
    ],
    ids=["longer", "magic", "old twice", "new twice"],
)
def test_what_is_no_id_map_is_refused(wire: bytes) -> None:
    with pytest.raises(BadReply):
        parse_all(id_map, wire, step=5)


# --- all of them --------------------------------------------------------------------------


@pytest.mark.parametrize("parse", [metastore_reply, shard_paths, id_map])
@given(wire=st.binary(max_size=100), step=st.integers(1, 50), with_magic=st.booleans())
def test_arbitrary_bytes_are_refused_politely(
    parse: Callable[[StreamReader], Parsing[object]], wire: bytes, step: int, with_magic: bool
) -> None:
    with contextlib.suppress(ShardkeeperError):
        parse_all(parse, MAGIC * with_magic + wire, step=step)


@given(st.binary(max_size=20), st.integers(0, len(METASTORE_REPLY)))
def test_a_damaged_reply_is_refused_politely_or_only_other(noise: bytes, at: int) -> None:
    wire = METASTORE_REPLY[:at] + noise + METASTORE_REPLY[at + len(noise) :]
    with contextlib.suppress(ShardkeeperError):
        parse_all(metastore_reply, wire, step=33)


def test_another_protocol_is_recognised() -> None:
    assert "8088" in what_answered_instead(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text")
    assert "TLS" in what_answered_instead(b"\x15\x03\x01\x00\x02\x02\x46")
    # A database may be called HTTP, and a tar stream begins with its name.
    assert not what_answered_instead(b"HTTP/1.1 400 rp/7/000000001-000000001.tsm" + bytes(60))
    assert not what_answered_instead(METASTORE_REPLY)
    assert not what_answered_instead(b"")
