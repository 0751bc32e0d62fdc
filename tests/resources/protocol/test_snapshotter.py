from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import BadReply, PeerClosedEarly, ShardkeeperError
from resources.model import ShardID
from resources.protocol.snapshotter import (
    MUX_HEADER,
    DatabasePaths,
    MetastoreBackup,
    MetastoreUpdate,
    Request,
    RetentionPolicyPaths,
    SeriesFileBackup,
    ShardBackup,
    ShardExport,
    ShardUpdate,
    request,
)
from resources.protocol.stream import StreamReader
from tests.resources.protocol.parsing import parse_all
from tests.resources.protocol.vectors import REQUEST_METASTORE, REQUEST_SHARD, UPLOAD_HEAD

SINCE_NS = 1_577_934_245_000_000_000
SHARD_REQUEST = ShardBackup(ShardID(6), SINCE_NS, database="other", policy="autogen")
UPDATE = MetastoreUpdate("db", "new", "rp", "", b"\x08\x00\x10\x01")

ids = st.integers(0, 2**64 - 1).map(ShardID)
times = st.none() | st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=20)
requests = st.one_of(
    st.builds(ShardBackup, ids, times, names, names),
    st.just(MetastoreBackup()),
    st.just(SeriesFileBackup()),
    st.builds(DatabasePaths, names),
    st.builds(RetentionPolicyPaths, names, names),
    st.builds(ShardExport, ids, times, times),
    st.builds(MetastoreUpdate, names, names, names, names, st.binary(max_size=200)),
    st.builds(ShardUpdate, ids),
)


def test_requests_are_those_of_the_go_client_byte_for_byte() -> None:
    assert MUX_HEADER + MetastoreBackup().encode() == REQUEST_METASTORE
    assert MUX_HEADER + SHARD_REQUEST.encode() == REQUEST_SHARD
    assert MUX_HEADER + ShardUpdate(ShardID(0x35)).encode() == UPLOAD_HEAD


def test_the_server_side_reads_the_go_client() -> None:
    assert parse_all(request, REQUEST_METASTORE[1:], step=1000) == MetastoreBackup()
    assert parse_all(request, REQUEST_SHARD[1:], step=1000) == SHARD_REQUEST
    assert parse_all(request, UPLOAD_HEAD[1:], step=1000) == ShardUpdate(ShardID(0x35))


def test_names_are_escaped_as_go_escapes_them() -> None:
    wire = DatabasePaths('a<b>&\u2028"\\é😀').encode()
    assert rb'"BackupDatabase":"a\u003cb\u003e\u0026\u2028\"\\' + "é😀".encode() + b'"' in wire


@given(requests, st.integers(1, 400))
def test_both_directions_agree(asked: Request, step: int) -> None:
    assert parse_all(request, asked.encode(), step=step) == asked


@pytest.mark.parametrize("asked", [SHARD_REQUEST, UPDATE, ShardUpdate(ShardID(7))])
def test_a_request_cut_anywhere_is_noticed(asked: Request) -> None:
    wire = asked.encode()
    whole = len(wire) if isinstance(asked, MetastoreUpdate | ShardUpdate) else len(wire) - 1
    for cut in range(whole):
        with pytest.raises(PeerClosedEarly):
            parse_all(request, wire[:cut], step=7)
    assert parse_all(request, wire[:whole], step=7) == asked


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\x01{}", MetastoreBackup()),
        (b'\x00{"shardid":7,"SINCE":null,"ExtraKey":[{}]}', ShardBackup(ShardID(7))),
        (b'\x00{"Type":6,"ShardID":18446744073709551615}', ShardBackup(ShardID(2**64 - 1))),
        (b'\x00\n {"ShardID" : null }', ShardBackup(ShardID(0))),
        (b'\x03{"backupDatabase":"DB"}', DatabasePaths("DB")),
        (b"\x06{}", MetastoreUpdate("", "", "", "", b"")),
        (b'\x06{"UploadSize":2}\nab', MetastoreUpdate("", "", "", "", b"ab")),
        (b'\x06{"UploadSize":2}?ab', MetastoreUpdate("", "", "", "", b"ab")),
        (
            b'\x05{"ExportStart":"1970-01-01T00:00:01.5Z"}',
            ShardExport(ShardID(0), 1_500_000_000, None),
        ),
    ],
)
def test_the_server_side_is_as_lenient_as_the_real_one(body: bytes, expected: Request) -> None:
    assert parse_all(request, body, step=1) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"\x08{}",
        b"\xff{}",
        b"\x01null",
        b"\x01[]",
        b"\x01{nonsense}",
        b'\x00{"ShardID":-1}',
        b'\x00{"ShardID":1.0}',
        b'\x00{"ShardID":true}',
        b'\x00{"ShardID":"1"}',
        b'\x00{"ShardID":18446744073709551616}',
        b'\x00{"Since":""}',
        b'\x00{"Since":"yesterday"}',
        b'\x00{"Since":0}',
        b'\x01{"Since":"yesterday"}',
        b'\x03{"BackupDatabase":7}',
        b'\x06{"UploadSize":-1}\n',
        b'\x06{"UploadSize":9223372036854775808}\n',
        b'\x06{"UploadSize":67108865}\n',
        b"\x01{" + b" " * 70_000 + b"}",
        b"\x01" + b'{"a":' * 20_000,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_the_real_server_rejects_is_refused(body: bytes) -> None:
    with pytest.raises(BadReply):
        parse_all(request, body, step=100)


def test_a_huge_upload_size_takes_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(BadReply, match="UploadSize"):
        parse_all(request, b'\x06{"UploadSize":9223372036854775807}\n', step=100)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_tar_behind_the_upload_head_is_left_in_the_reader() -> None:
    reader = StreamReader()
    reader.feed(UPLOAD_HEAD[1:] + b"db/rp/1/x.tsm")
    with contextlib.suppress(StopIteration):
        next(request(reader))
    with pytest.raises(StopIteration) as rest:
        next(reader.read_exactly(13, "tar"))
    assert rest.value.value == b"db/rp/1/x.tsm"


@given(st.integers(0, 9), st.binary(max_size=200), st.integers(1, 50))
def test_arbitrary_bytes_are_refused_politely(kind: int, body: bytes, step: int) -> None:
    with contextlib.suppress(ShardkeeperError):
        parse_all(request, bytes([kind]) + body, step=step)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(["ShardID", "since", "BACKUPDATABASE", "UploadSize", "ExportEnd", "x"])


@given(st.integers(0, 6), st.dictionaries(keys, json_values))
def test_arbitrary_fields_are_refused_politely(kind: int, fields: dict[str, object]) -> None:
    with contextlib.suppress(ShardkeeperError):
        parse_all(request, bytes([kind]) + json.dumps(fields).encode() + b"\n", step=1000)


def test_a_payload_is_not_in_the_repr() -> None:
    assert "meta" not in repr(UPDATE)
