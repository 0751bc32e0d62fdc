"""The same client against a real influxd, on good days and bad ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from resources.clients.peer_kind import PeerKind, probe_kind
from resources.clients.snapshotter import SnapshotterClient
from resources.errors import BadReply, PeerClosedEarly, PeerRefused, PeerUnreachable
from resources.model import (
    DatabaseInfo,
    Metastore,
    RetentionPolicyInfo,
    ShardGroupID,
    ShardGroupInfo,
    ShardID,
    ShardInfo,
)
from resources.protocol.meta import decode_metastore, encode_metastore, trimmed
from resources.protocol.snapshotter import ShardPath
from tests.influxd import Influxd, wait_until
from tests.wire.raw import asked_once, raw_shard

pytestmark = pytest.mark.wire

T0_NS = 1_600_000_000_000_000_000
WEEK_NS = 604_800_000_000_000
END_MARKER = bytes(1024)


@dataclass(frozen=True)
class Source:
    """A database of two shards, the first of two files."""

    server: Influxd
    client: SnapshotterClient
    db: str
    shards: list[ShardID]


@pytest.fixture
def source(influxd: Influxd, request: pytest.FixtureRequest) -> Iterator[Source]:
    db = request.node.name[:100].replace("/", "_")
    client = SnapshotterClient(influxd.bind_addr)
    influxd.create_database(db)
    influxd.write(db, f"m v=1 {T0_NS}\nm v=2 {T0_NS + WEEK_NS}")
    shards = [path.shard_id for path in client.shard_paths(db)]
    raw_shard(client, shards[0])  # a backup writes the cache into a first file
    influxd.write(db, f"m v=3 {T0_NS + 1}")
    yield Source(influxd, client, db, shards)
    influxd.drop_database(db)
    influxd.drop_database(copy_of(db))  # no error if it is not there


def copy_of(db: str) -> str:
    return f"copy of {db}"


def members(stream: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    return found


def member(name: str, content: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry.tobuf() + content + bytes(-len(content) % 512)


def readdressed(stream: bytes, path: ShardPath) -> list[bytes]:
    return [
        member(f"{path}/{name.rpartition('/')[2]}", content)
        for name, content in members(stream).items()
    ]


def import_copy(source: Source) -> dict[ShardID, ShardID]:
    meta = trimmed(source.client.metastore(), database=source.db)
    return source.client.import_metastore(source.db, copy_of(source.db), "", "", meta)


def points(source: Source, db: str) -> list[list[object]]:
    [result] = source.server.query("SELECT v FROM m", db=db)
    return [row for series in result.get("series", []) for row in series["values"]]


# --- good days ----------------------------------------------------------------------------


def test_the_metastore_reads_and_writes_alike(source: Source) -> None:
    raw = source.client.metastore()
    metastore = decode_metastore(raw)
    assert metastore.database(source.db) is not None
    assert encode_metastore(metastore) == raw


def test_shards_are_listed_by_server_database_and_policy(source: Source) -> None:
    expected = [ShardPath(source.db, "autogen", shard_id) for shard_id in source.shards]
    assert len(expected) == 2
    assert source.client.shard_paths(source.db) == expected
    assert source.client.shard_paths(source.db, "autogen") == expected
    assert set(source.client.shard_paths()) >= set(expected)


def test_a_database_without_shards_lists_none(source: Source) -> None:
    source.server.create_database(copy_of(source.db))
    assert source.client.shard_paths(copy_of(source.db)) == []


def test_a_shard_is_streamed_whole_and_by_what_changed(source: Source) -> None:
    whole = raw_shard(source.client, source.shards[0])
    assert whole.endswith(END_MARKER)
    assert len(whole) % 512 == 0
    assert len(members(whole)) == 2
    assert raw_shard(source.client, source.shards[0], since_ns=2**62 * 2 - 1) == END_MARKER
    assert raw_shard(source.client, source.shards[0], since_ns=0) == whole


def test_a_backup_comes_back_from_an_import_and_uploads(source: Source) -> None:
    archives = {shard_id: raw_shard(source.client, shard_id) for shard_id in source.shards}
    new_ids = import_copy(source)
    assert new_ids.keys() == archives.keys()
    for shard_id, archive in archives.items():
        path = ShardPath(copy_of(source.db), "autogen", new_ids[shard_id])
        with source.client.upload(new_ids[shard_id]) as sending:
            for piece in [*readdressed(archive, path), END_MARKER]:
                sending.sendall(piece)
            sending.finish()
        there = members(raw_shard(source.client, new_ids[shard_id]))
        assert list(there.values()) == list(members(archive).values())
    assert points(source, copy_of(source.db)) == points(source, source.db)
    assert len(points(source, source.db)) == 3


def test_a_policy_is_imported_under_another_name(source: Source) -> None:
    meta = trimmed(source.client.metastore(), database=source.db, durations={"autogen": WEEK_NS})
    source.client.import_metastore(source.db, copy_of(source.db), "autogen", "kept", meta)
    db = decode_metastore(source.client.metastore()).database(copy_of(source.db))
    assert db is not None
    assert db.default_retention_policy == "kept"
    assert [(rp.name, rp.duration_ns) for rp in db.retention_policies] == [("kept", WEEK_NS)]


# --- bad days -----------------------------------------------------------------------------


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.shard_paths("nope"),
        lambda client: client.shard_paths("nope", "autogen"),
        lambda client: asked_once(client, ShardID(999_999)),
        lambda client: asked_once(client, ShardID(2**64 - 1)),
    ],
    ids=["database", "policy", "shard", "highest shard"],
)
def test_what_is_not_there_is_an_empty_reply(
    influxd: Influxd, ask: Callable[[SnapshotterClient], object]
) -> None:
    with pytest.raises(PeerClosedEarly, match="empty reply while") as caught:
        ask(SnapshotterClient(influxd.bind_addr))
    assert "log" in caught.value.hint


def test_a_policy_that_is_not_there_is_an_empty_reply(source: Source) -> None:
    with pytest.raises(PeerClosedEarly, match="empty reply while listing shards"):
        source.client.shard_paths(source.db, "nope")


def test_a_database_is_not_imported_over_another(source: Source) -> None:
    import_copy(source)
    before = decode_metastore(source.client.metastore()).database(copy_of(source.db))
    with pytest.raises(PeerRefused, match="refused"):
        import_copy(source)
    assert decode_metastore(source.client.metastore()).database(copy_of(source.db)) == before


def big_metastore(n_groups: int) -> bytes:
    groups = tuple(
        ShardGroupInfo(
            ShardGroupID(n),
            T0_NS + n * WEEK_NS,
            T0_NS + (n + 1) * WEEK_NS,
            deleted_at_ns=None,
            truncated_at_ns=None,
            shards=(ShardInfo(ShardID(n)),),
        )
        for n in range(1, n_groups + 1)
    )
    policy = RetentionPolicyInfo("autogen", 0, WEEK_NS, 1, groups)
    return encode_metastore(
        Metastore(
            term=0,
            index=1,
            cluster_id=1,
            databases=(DatabaseInfo("big", "autogen", (policy,)),),
            users=(),
            data_nodes=(),
            meta_nodes=(),
            max_node_id=0,
            max_shard_group_id=n_groups,
            max_shard_id=n_groups,
        )
    )


def test_metadata_too_big_for_an_old_server_is_noticed(influxd: Influxd) -> None:
    if not influxd.version.startswith(("1.5", "1.6", "1.7")):
        pytest.skip("only servers 1.5 to 1.7 take an import in a single read")
    client = SnapshotterClient(influxd.bind_addr)
    meta = big_metastore(9000)
    assert len(meta) > 160_000
    with pytest.raises((PeerRefused, PeerUnreachable, PeerClosedEarly)) as caught:
        client.import_metastore("big", "bigger", "", "", meta)
    assert f"cannot take {len(meta)} bytes of metadata" in caught.value.hint
    assert decode_metastore(client.metastore()).database("bigger") is None


@pytest.mark.fault(65)
def test_an_upload_into_a_shard_that_is_not_there_is_noticed_once_it_is_big(
    influxd: Influxd,
) -> None:
    piece = member("db/rp/999999/000000001-000000001.tsm", bytes(1_000_000))

    def send_much() -> None:
        with SnapshotterClient(influxd.bind_addr).upload(ShardID(999_999)) as sending:
            for _ in range(50):
                sending.sendall(piece)
            sending.finish()

    with pytest.raises(PeerUnreachable, match=r"while (uploading|finishing)") as caught:
        send_much()
    assert "log" in caught.value.hint


@pytest.mark.parametrize("end", ["walks away", "fails"])
def test_an_upload_given_up_between_two_files_leaves_the_shard_empty(
    source: Source, end: str
) -> None:
    """Ended by FIN the server would keep the first file; ended by RST it keeps none."""
    [old, _] = source.shards
    archive = raw_shard(source.client, old)
    new = import_copy(source)[old]
    pieces = readdressed(archive, ShardPath(copy_of(source.db), "autogen", new))
    log_start = source.server.log_path.stat().st_size
    try:
        with source.client.upload(new) as sending:
            sending.sendall(pieces[0])
            if end == "fails":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass

    def noticed() -> bool:
        return b"connection reset" in source.server.log_path.read_bytes()[log_start:]

    wait_until(noticed, within_s=20, what="influxd to notice the reset")
    assert raw_shard(source.client, new) == END_MARKER


# --- other ports --------------------------------------------------------------------------


def test_the_http_port_is_reported_from_the_snapshotter(influxd: Influxd) -> None:
    client = SnapshotterClient(influxd.http_addr)
    for ask in (client.metastore, client.shard_paths, lambda: asked_once(client, ShardID(1))):
        with pytest.raises(BadReply, match="not a snapshotter") as caught:
            ask()
        assert "8088" in caught.value.hint


def test_a_server_is_reported_from_its_http_port(influxd: Influxd) -> None:
    assert probe_kind(influxd.bind_addr) is PeerKind.SERVER
    assert probe_kind(influxd.http_addr) is PeerKind.HTTP


def test_a_server_that_was_killed_is_unreachable(influxd_factory: Callable[..., Influxd]) -> None:
    server = influxd_factory()
    client = SnapshotterClient(server.bind_addr)
    client.metastore()
    server.kill()
    with pytest.raises(PeerUnreachable, match="connection refused"):
        client.metastore()
