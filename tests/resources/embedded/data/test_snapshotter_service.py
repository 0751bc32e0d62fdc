"""The snapshotter of a dev server keeps the manners of a real one, its silence included."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.server import EmbeddedServer
from resources.model import ShardID
from resources.protocol import snapshotter as wire
from resources.protocol.meta import decode_metastore
from resources.protocol.snapshotter import IDMap, id_map
from resources.protocol.tar import END_MARKER, encode_header, padding
from tests.fixtures.wire import capture
from tests.resources.embedded.asking import RESET, get, say
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.resources.protocol.parsing import parse_all
from tests.resources.protocol.vectors import METASTORE, REQUEST_METASTORE

T0 = 1_600_000_000 * 10**9
REAL = Path(capture.__file__).parent
SHARD = b'\x03\x00{"ShardID":1}'
REFUSED = IDMap(()).encode()


@pytest.fixture
def filled(server: EmbeddedServer) -> EmbeddedServer:
    """One shard of two files, of two points each."""
    server.query("CREATE DATABASE db")
    server.write("db", f"m v=1 {T0}\nm v=2 {T0 + 1}")
    server.node.store.flush(ShardID(1))
    server.write("db", f"m v=3 {T0 + 2}\nm v=4 {T0 + 3}")
    server.node.store.flush(ShardID(1))
    return server


def count(server: EmbeddedServer, database: str = "db") -> int:
    [result] = server.query("SELECT count(v) FROM m", database=database)["results"]
    return result["series"][0]["values"][0][1] if "series" in result else 0


def members(tar: bytes) -> list[tarfile.TarInfo]:
    return tarfile.open(fileobj=io.BytesIO(tar), mode="r:").getmembers()


def update(database: str, new: str, meta: bytes, **changes: str) -> bytes:
    policy, new_policy = changes.get("policy", ""), changes.get("new_policy", "")
    return b"\x03" + wire.MetastoreUpdate(database, new, policy, new_policy, meta).encode()


# --- against recordings -------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """What a dev server answers to the script that made the recordings."""
    with DevInfluxd(tmp_path_factory.mktemp("server")) as server:
        yield capture.capture(server)


@pytest.mark.parametrize(
    "name",
    [
        "paths-all",
        "paths-database",
        "paths-policy",
        "paths-none",
        "paths-unknown",
        "shard-unchanged.tar",
        "shard-unknown",
        "import-refused",
    ],
)
def test_a_dev_server_says_byte_for_byte_what_influxd_reported(
    recorded: dict[str, bytes], name: str
) -> None:
    assert recorded[name] == (REAL / name).read_bytes()


def test_an_import_maps_the_same_shards_as_influxd_s(recorded: dict[str, bytes]) -> None:
    real = parse_all(id_map, (REAL / "import").read_bytes(), step=100)
    assert set(parse_all(id_map, recorded["import"], step=100).pairs) == set(real.pairs)


@pytest.mark.parametrize("name", ["shard-1.tar", "shard-3.tar"])
def test_shards_are_the_very_files_that_influxd_makes(
    recorded: dict[str, bytes], name: str
) -> None:
    ours, real = recorded[name], (REAL / name).read_bytes()
    assert len(ours) == len(real)
    assert [(m.name, m.size, m.mode) for m in members(ours)] == [
        (m.name, m.size, m.mode) for m in members(real)
    ]
    headers = real.index(b"\x16\xd1\x16\xd1")
    assert ours[headers:] == real[headers:]


def test_the_metastore_is_in_influxd_s_frame(recorded: dict[str, bytes]) -> None:
    ours, real = recorded["metastore"], (REAL / "metastore").read_bytes()
    assert ours[:8] == real[:8]
    assert ours[-13:] == real[-13:] == bytes(7) + b"\x05null\n"
    databases = decode_metastore(ours[16:-13]).databases
    expected = decode_metastore(real[16:-13]).databases
    assert [db.name for db in databases] == [db.name for db in expected]
    assert databases[0].continuous_queries[0].name == expected[0].continuous_queries[0].name
    assert databases[1] == expected[1]


# --- requests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b'\x03\x00{"ShardID":999}\n', id="no such shard"),
        pytest.param(b'\x03\x05{"ShardID":999}\n', id="no such shard to export"),
        pytest.param(b'\x03\x03{"BackupDatabase":"nope"}\n', id="no such database"),
        pytest.param(
            b'\x03\x04{"BackupDatabase":"db","BackupRetentionPolicy":"nope"}\n', id="no such policy"
        ),
        pytest.param(b"\x03\x02{}\n", id="series files"),
        pytest.param(b"\x03\x09{}\n", id="unknown type"),
        pytest.param(b"\x03\x00[]\n", id="no object"),
        pytest.param(b'\x03\x00{"ShardID":-1}\n', id="negative shard"),
        pytest.param(b'\x03\x00{"ShardID":1,"Since":""}\n', id="no time"),
        pytest.param(b"\x03\x07" + (999).to_bytes(8, "big"), id="upload to no shard"),
    ],
)
def test_every_error_is_silence(filled: EmbeddedServer, request_: bytes) -> None:
    assert say(filled.tcp_addr, request_) == b""
    assert len(filled.node.snapshotter.log) == 1


@pytest.mark.parametrize("half", [b"\x03", b"\x03\x00", b"\x03\x00{", b"\x03\x07\x00"])
def test_a_request_that_ends_early_is_silence(filled: EmbeddedServer, half: bytes) -> None:
    assert say(filled.tcp_addr, half, half_close=True) == b""


def test_only_the_type_byte_decides_and_keys_are_taken_in_any_case(filled: EmbeddedServer) -> None:
    expected = say(filled.tcp_addr, SHARD)
    assert len(members(expected)) == 2
    lenient = b'\x03\x00{"Type":6,"shardid":1,"unknown":[],"SINCE":null}'
    assert say(filled.tcp_addr, lenient) == expected
    assert say(filled.tcp_addr, REQUEST_METASTORE) == say(filled.tcp_addr, b"\x03\x01{}")


def test_a_single_server_resets_what_it_does_not_know(server: EmbeddedServer) -> None:
    assert say(server.tcp_addr, b"GET /status HTTP/1.0\r\n\r\n") == RESET
    assert say(server.tcp_addr, b"\x02\x25") == RESET


# --- backups ------------------------------------------------------------------------------


def test_a_backup_flushes_the_cache_and_repeats_itself_byte_for_byte(
    filled: EmbeddedServer,
) -> None:
    filled.write("db", f"m v=5 {T0 + 4}")
    first = say(filled.tcp_addr, SHARD)
    assert first == say(filled.tcp_addr, SHARD)
    assert [member.name for member in members(first)] == [
        f"db/autogen/1/{n:09d}-000000001.tsm" for n in (1, 2, 3)
    ]
    assert first.endswith(END_MARKER)
    assert not first[: -len(END_MARKER)].endswith(bytes(1024))


def test_since_takes_what_is_later_and_not_what_is_equal(filled: EmbeddedServer) -> None:
    with filled.node.store.snapshot(ShardID(1)) as files:
        mtimes = [file.mtime_ns for file in files]
        names = [file.name for file in files]

    def since(since_ns: int) -> list[str]:
        request = wire.ShardBackup(ShardID(1), since_ns)
        return [m.name for m in members(say(filled.tcp_addr, b"\x03" + request.encode()))]

    assert since(mtimes[1] - 1) == [n for n, t in zip(names, mtimes, strict=True) if t >= mtimes[1]]
    assert since(mtimes[1]) == []
    filled.node.snapshotter.faults.coarse_ns = 10**9
    assert since(mtimes[1] - 1) == []  # the clock had not ticked yet


def test_member_times_are_rounded_to_the_nearest_second(filled: EmbeddedServer) -> None:
    with filled.node.store.snapshot(ShardID(1)) as files:
        expected = [(file.mtime_ns + 500_000_000) // 10**9 for file in files]
    assert [member.mtime for member in members(say(filled.tcp_addr, SHARD))] == expected


def test_a_tombstone_travels_in_front_of_its_file(filled: EmbeddedServer) -> None:
    filled.query(f"DELETE FROM m WHERE time = {T0}", database="db")
    kinds = [member.name.rpartition(".")[2] for member in members(say(filled.tcp_addr, SHARD))]
    assert kinds == ["tombstone", "tsm", "tsm"]


def test_an_export_has_whole_blocks_within_both_bounds_and_nothing_without(
    filled: EmbeddedServer,
) -> None:
    def export(start: int | None, end: int | None) -> bytes:
        request = wire.ShardExport(ShardID(1), start, end)
        return say(filled.tcp_addr, b"\x03" + request.encode())

    assert [m.size for m in members(export(T0, T0 + 9))] == [
        m.size for m in members(say(filled.tcp_addr, SHARD))
    ]
    assert len(members(export(T0 + 2, T0 + 2))) == 1
    assert export(T0 + 100, T0 + 200) == export(None, None) == END_MARKER


def test_a_snapshot_in_progress_is_refused_as_often_as_reported(filled: EmbeddedServer) -> None:
    filled.node.snapshotter.faults.in_progress = 2
    assert [bool(say(filled.tcp_addr, SHARD)) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("n_bytes", [0, 1, 511, 512, 1024])
def test_replies_are_cut_where_reported(filled: EmbeddedServer, n_bytes: int) -> None:
    whole = say(filled.tcp_addr, SHARD)
    filled.node.tcp.faults.cut_after = n_bytes
    assert say(filled.tcp_addr, SHARD) == whole[:n_bytes]
    filled.node.tcp.faults.reset = True
    assert say(filled.tcp_addr, SHARD)[-len(RESET) :] == RESET


# --- uploads ------------------------------------------------------------------------------


@pytest.fixture
def upload_into(filled: EmbeddedServer) -> tuple[EmbeddedServer, bytes, int]:
    """A server, the tar of its shard 1 renamed for an empty shard, and that one's ID."""
    meta = say(filled.tcp_addr, b"\x03\x01{}")
    size = int.from_bytes(meta[8:16], "big")
    reply = say(filled.tcp_addr, update("db", "copy", meta[16 : 16 + size]))
    [(_, new)] = parse_all(id_map, reply, step=100).pairs
    tar = b""
    with tarfile.open(fileobj=io.BytesIO(say(filled.tcp_addr, SHARD))) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            name = member.name.replace("db/autogen/1/", f"copy/autogen/{new}/")
            tar += encode_header(name, len(data), 0) + data + padding(len(data))
    return filled, tar, new


def sent(server: EmbeddedServer, shard_id: int, tar: bytes, *, half_close: bool = True) -> bytes:
    head = b"\x03\x07" + shard_id.to_bytes(8, "big")
    return say(server.tcp_addr, head + tar, half_close=half_close)


def test_an_upload_is_taken_in_silence_with_or_without_half_close(
    upload_into: tuple[EmbeddedServer, bytes, int],
) -> None:
    server, tar, new = upload_into
    assert sent(server, new, tar + END_MARKER, half_close=False) == b""
    assert count(server, "copy") == 4
    assert sent(server, new, tar + END_MARKER) == b""
    assert count(server, "copy") == 4


def test_padding_beyond_the_end_is_unread_and_resets(
    upload_into: tuple[EmbeddedServer, bytes, int],
) -> None:
    server, tar, new = upload_into
    assert sent(server, new, tar + END_MARKER + bytes(10_240)) == RESET
    assert count(server, "copy") == 4


def test_an_upload_cut_between_members_counts_as_complete(
    upload_into: tuple[EmbeddedServer, bytes, int],
) -> None:
    server, tar, new = upload_into
    assert sent(server, new, tar[: tar.index(b"copy/", 1)]) == b""
    assert count(server, "copy") == 2


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda tar: tar[:-700], id="cut inside a member"),
        pytest.param(lambda tar: END_MARKER, id="nothing inside"),
        pytest.param(lambda tar: b"", id="nothing at all"),
        pytest.param(lambda tar: tar.replace(b"\x16\xd1\x16\xd1", bytes(4)), id="no TSM files"),
    ],
)
def test_what_is_no_shard_is_not_taken(
    upload_into: tuple[EmbeddedServer, bytes, int], spoil: Callable[[bytes], bytes]
) -> None:
    server, tar, new = upload_into
    assert sent(server, new, spoil(tar)) == b""
    assert count(server, "copy") == 0


def test_members_of_other_places_and_other_kinds_are_passed_over(
    upload_into: tuple[EmbeddedServer, bytes, int],
) -> None:
    server, _, new = upload_into
    data = b"\x16\xd1\x16\xd1"
    names = [
        "db/autogen/1/000000001-000000001.tsm",
        f"./copy/autogen/{new}/000000001-000000001.tsm",
        f"copy/autogen/{new}7/000000001-000000001.tsm",
        f"copy/autogen/{new}/../1/000000009-000000001.tsm",
        f"copy/autogen/{new}/000000001-000000001.tombstone",
        f"copy/autogen/{new}/fields.idx",
    ]
    tar = b"".join(encode_header(name, 4, 0) + data + padding(4) for name in names)
    assert sent(server, new, tar + END_MARKER) == b""
    stored = server.node.store.shards()
    assert (stored[ShardID(new)].num_files, stored[ShardID(1)].num_files) == (0, 2)


def test_a_file_of_the_same_name_is_written_over(
    upload_into: tuple[EmbeddedServer, bytes, int],
) -> None:
    server, tar, new = upload_into
    server.write("copy", f"m v=9 {T0 + 9}")
    server.node.store.flush(ShardID(new))
    assert count(server, "copy") == 1
    sent(server, new, tar + END_MARKER)
    assert count(server, "copy") == 4


# --- imports of metadata ------------------------------------------------------------------


def test_an_import_numbers_afresh_and_leaves_queries_users_and_owners_behind(
    server: EmbeddedServer,
) -> None:
    server.query("CREATE DATABASE db")
    server.write("db", f"m v=1 {T0}")
    reply = say(server.tcp_addr, update("", "", METASTORE))
    pairs = parse_all(id_map, reply, step=100).pairs
    assert dict(pairs) == {n: n + 1 for n in range(1, 7)}
    store = server.meta.metastore
    assert [db.name for db in store.databases] == ["db", "telegraf", "other"]
    assert sorted(server.node.store.shards()) == list(range(1, 8))
    assert say(server.tcp_addr, update("", "", METASTORE)) == REFUSED


def test_one_policy_is_imported_under_another_name_and_becomes_the_default(
    server: EmbeddedServer,
) -> None:
    asked = update("telegraf", "t2", METASTORE, policy="short", new_policy="brief")
    assert len(say(server.tcp_addr, asked)) == 16 * 3
    db = server.meta.metastore.database("t2")
    assert db is not None
    assert (db.default_retention_policy, [rp.name for rp in db.retention_policies]) == (
        "brief",
        ["brief"],
    )
    assert {(s.database, s.policy) for s in server.node.store.shards().values()} == {
        ("t2", "brief")
    }


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(update("nope", "", METASTORE), id="no such database"),
        pytest.param(update("telegraf", "", METASTORE, policy="nope"), id="no such policy"),
        pytest.param(update("telegraf", "taken", METASTORE), id="a name that is taken"),
        pytest.param(update("telegraf", "", b"abcd"), id="no metadata"),
        pytest.param(update("telegraf", "", b""), id="an empty payload"),
    ],
)
def test_an_import_that_is_refused_answers_an_empty_map(
    server: EmbeddedServer, request_: bytes
) -> None:
    server.query("CREATE DATABASE taken")
    before = server.meta.metastore
    assert say(server.tcp_addr, request_) == REFUSED
    assert server.meta.metastore == before


def test_a_short_read_of_large_metadata_is_refused(server: EmbeddedServer) -> None:
    server.node.snapshotter.faults.short_read_bytes = 100
    assert say(server.tcp_addr, update("telegraf", "", METASTORE)) == REFUSED
    server.node.snapshotter.faults.short_read_bytes = len(METASTORE)
    assert say(server.tcp_addr, update("telegraf", "", METASTORE)) != REFUSED


def test_a_cluster_takes_an_import_and_nobody_can_read_it(cluster: EmbeddedCluster) -> None:
    node = cluster.data[0]
    reply = say(node.tcp_addr, update("telegraf", "", METASTORE))
    pairs = parse_all(id_map, reply, step=100).pairs
    assert len(pairs) == 5
    assert sorted(node.store.shards()) == [new for _, new in pairs]
    assert not cluster.data[1].store.shards()
    listed = get(cluster.meta[0].http_addr, "/show-shards").json()
    assert [shard["owners"] for shard in listed] == [[]] * 5
    body = f"m v=1 {T0}".encode()
    head = f"POST /write?db=telegraf HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert say(node.http_addr, head + body).startswith(b"HTTP/1.0 500 ")
    for at in range(3):
        counted = cluster.query("SELECT count(v) FROM m", database="telegraf", at=at)
        assert "series" not in counted["results"][0]
