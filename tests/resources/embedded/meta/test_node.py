"""Meta nodes over HTTP: the leader, what is known, what is refused."""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.meta.node import LeaseTable
from resources.model import NodeID, ShardID
from resources.protocol import commands as cmd
from resources.protocol.commands import Command, decode_response
from resources.protocol.jwt import signed_token
from resources.protocol.meta import decode_metastore, encode_metastore
from tests.resources.embedded.asking import form, get, http, post
from tests.resources.protocol.vectors import CLUSTER_METASTORE

T0 = 1_600_000_000 * 10**9


def execute(cluster: EmbeddedCluster, command: Command | bytes, at: int = 0) -> cmd.Response:
    raw = command if isinstance(command, bytes) else command.encode()
    reply = post(cluster.meta[at].http_addr, "/execute", raw)
    assert reply.status == 200, reply
    return decode_response(reply.body)


def snapshot(cluster: EmbeddedCluster, at: int = 0) -> bytes:
    return get(cluster.meta[at].http_addr, "/?index=0").body


# --- replies ------------------------------------------------------------------------------


def test_every_reply_has_the_index_of_before_and_the_request_s_id(cluster: EmbeddedCluster) -> None:
    before = decode_metastore(snapshot(cluster)).index
    raw = cmd.CreateDatabase("db").encode()
    reply = http(cluster.meta[0].http_addr, "POST", "/execute", raw, {"X-Request-Id": "mine"})
    assert reply.headers["Influxdb-Metaindex"] == str(before)
    assert reply.headers["X-Request-Id"] == reply.headers["Request-Id"] == "mine"
    assert reply.body == b"\x08\x00\x18" + bytes([before + 1])


def test_snapshots_are_compressed_for_those_who_take_it(cluster: EmbeddedCluster) -> None:
    reply = get(cluster.meta[0].http_addr, "/?index=0", {"Accept-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(reply.body) == snapshot(cluster)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/execute", 404), ("HEAD", "/ping", 400), ("PUT", "/", 400)],
)
def test_paths_and_methods_that_do_not_fit(
    cluster: EmbeddedCluster, method: str, path: str, status: int
) -> None:
    assert http(cluster.meta[0].http_addr, method, path).status == status


def test_an_index_that_is_none_is_refused_with_the_snapshot_behind_it(
    cluster: EmbeddedCluster,
) -> None:
    for path in ("/", "/?index=x", "/?index=-1"):
        reply = get(cluster.meta[0].http_addr, path)
        assert (reply.status, reply.body) == (400, b"error parsing index\n" + snapshot(cluster))


def test_a_poll_far_ahead_is_answered_by_the_next_change(cluster: EmbeddedCluster) -> None:
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(get, cluster.meta[1].http_addr, "/?index=1030")
        with pytest.raises(TimeoutError):
            polling.result(timeout=0.05)
        execute(cluster, cmd.CreateDatabase("db"))
        store = decode_metastore(polling.result(timeout=5).body)
    assert store.index < 1030
    assert store.database("db") is not None


# --- commands -----------------------------------------------------------------------------


def test_a_rejected_command_uses_up_an_index_and_changes_nothing_else(
    cluster: EmbeddedCluster,
) -> None:
    before = decode_metastore(snapshot(cluster))
    response = execute(cluster, bytes.fromhex("0803ba06020a00"))
    assert response.error == "database name required"
    assert decode_metastore(snapshot(cluster)) == replace(before, index=before.index + 1)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", 'unable to unmarshal command: proto: required field "type" not set'),
        (b"\x08", "unable to unmarshal command: unexpected EOF"),
    ],
)
def test_what_is_no_command_is_refused(cluster: EmbeddedCluster, raw: bytes, error: str) -> None:
    reply = post(cluster.meta[0].http_addr, "/execute", raw)
    assert (reply.status, reply.json()) == (400, {"error": error})
    assert reply.headers["X-Influxdb-Error"] == error


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(bytes.fromhex("0811aa07040a020801"), id="metadata that lacks fields"),
        pytest.param(bytes.fromhex("0811aa0700"), id="no metadata"),
        pytest.param(bytes.fromhex("0811"), id="no payload"),
        pytest.param(bytes.fromhex("0823"), id="a type without a handler"),
        pytest.param(bytes.fromhex("0807"), id="a legacy type"),
        pytest.param(bytes.fromhex("0803c206060a046e6f6462"), id="another's payload"),
        pytest.param(bytes.fromhex("0804c20600"), id="a payload without its name"),
    ],
)
def test_poison_is_refused_and_remembered_and_the_cluster_lives(
    cluster: EmbeddedCluster, raw: bytes
) -> None:
    before = snapshot(cluster)
    response = execute(cluster, raw)
    assert "poison" in (response.error or "")
    assert [poison.raw for poison in cluster.group.poison] == [raw]
    assert snapshot(cluster) == before
    assert execute(cluster, cmd.CreateDatabase("db")).error is None


def test_metadata_that_is_set_is_stored_as_sent_but_for_term_and_index(
    cluster: EmbeddedCluster,
) -> None:
    response = execute(cluster, cmd.SetData(CLUSTER_METASTORE))
    store = decode_metastore(snapshot(cluster))
    assert store.index == response.index
    sent = decode_metastore(CLUSTER_METASTORE)
    assert encode_metastore(replace(store, index=sent.index, term=sent.term)) == CLUSTER_METASTORE


def test_setting_stale_metadata_undoes_what_came_between(cluster: EmbeddedCluster) -> None:
    execute(cluster, cmd.CreateDatabase("db"))
    scanned = decode_metastore(snapshot(cluster))

    def race(command: Command) -> None:
        if isinstance(command, cmd.SetData):
            cluster.group.execute(cmd.CreateDatabase("racer"))

    cluster.before_command(race)
    response = execute(cluster, cmd.SetData(encode_metastore(scanned)))
    assert response.index == scanned.index + 2
    assert decode_metastore(snapshot(cluster)).database("racer") is None


def test_metadata_without_meta_nodes_leaves_no_leader_to_be_found(cluster: EmbeddedCluster) -> None:
    store = decode_metastore(snapshot(cluster))
    cluster.group.change(lambda store: replace(store, meta_nodes=()))
    assert post(cluster.meta[1].http_addr, "/execute", b"\x08\x20\xa2\x08\x00").status == 503
    assert get(cluster.meta[0].http_addr, "/lease?name=x&nodeid=7").status == 503
    cluster.group.change(lambda _: store)
    assert get(cluster.meta[0].http_addr, "/lease?name=x&nodeid=7").status == 200


# --- leaders and followers ----------------------------------------------------------------


def test_a_follower_names_the_leader_with_scheme_and_path(cluster: EmbeddedCluster) -> None:
    leader, follower = (cluster.meta[at].http_addr for at in (0, 1))
    reply = post(follower, "/execute", cmd.CreateDatabase("db").encode())
    assert (reply.status, reply.body) == (307, b"")
    assert reply.headers["Location"] == f"http://{leader}/execute"
    reply = get(follower, "/lease?name=x&nodeid=7")
    assert (reply.status, reply.headers["Location"]) == (
        307,
        f"http://{leader}/lease?name=x&nodeid=7",
    )
    for path, body in (
        ("/user", '{"action":"create","user":{"name":"u","password":"p"}}'),
        ("/truncate-shards", "delay=1m"),
    ):
        assert form(follower, path, body).headers["Location"] == f"http://{leader}{path}"


def test_another_leads_when_the_leader_stops_and_nobody_with_one_of_three(
    cluster: EmbeddedCluster,
) -> None:
    execute(cluster, cmd.CreateDatabase("db"))
    before = decode_metastore(snapshot(cluster))
    cluster.stop_meta_node(0)
    assert get(cluster.meta[2].http_addr, "/ping").body.decode() == cluster.meta[1].raft_addr
    index = execute(cluster, cmd.CreateDatabase("two"), at=1).index
    after = decode_metastore(snapshot(cluster, 2))
    assert (index, after.term) == (before.index + 2, before.term + 1)
    cluster.stop_meta_node(1)
    assert get(cluster.meta[2].http_addr, "/ping").body == b""
    reply = post(cluster.meta[2].http_addr, "/execute", cmd.CreateDatabase("three").encode())
    assert (reply.status, reply.json()) == (503, {"error": "no leader"})
    cluster.start_meta_node(0)
    assert decode_metastore(snapshot(cluster, 0)).database("two") is not None
    assert get(cluster.meta[0].http_addr, "/ping?all=true").status == 500


def test_leases_are_one_owner_s_until_they_end_or_the_leader_changes(
    cluster: EmbeddedCluster,
) -> None:
    def lease(node_id: int, at: int = 0) -> tuple[int, int]:
        reply = get(cluster.meta[at].http_addr, f"/lease?name=shardkeeper&nodeid={node_id}")
        return reply.status, reply.json()["owner"]

    assert [lease(7), lease(7), lease(8)] == [(200, 7), (200, 7), (409, 7)]
    cluster.change_leader(1)
    assert lease(8, at=1) == (200, 8)


def test_a_lease_that_has_ended_is_free() -> None:
    leases = LeaseTable()
    leases.duration_s = -1
    leases.acquire("x", NodeID(7))
    assert leases.acquire("x", NodeID(8)).owner == 8


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", b"lease name required\n"),
        ("?name=x", b"node ID required\n"),
        ("?name=x&nodeid=a", b"invalid node ID\n"),
    ],
)
def test_leases_without_name_or_number_are_refused(
    cluster: EmbeddedCluster, query: str, text: bytes
) -> None:
    reply = get(cluster.meta[0].http_addr, f"/lease{query}")
    assert (reply.status, reply.body) == (400, text)


def test_a_stale_follower_answers_from_what_it_knew(cluster: EmbeddedCluster) -> None:
    cluster.stale(1)
    execute(cluster, cmd.CreateDatabase("db"))
    assert decode_metastore(snapshot(cluster, 1)).database("db") is None
    assert decode_metastore(snapshot(cluster, 2)).database("db") is not None
    cluster.stale(1, False)
    assert snapshot(cluster, 1) == snapshot(cluster, 0)


# --- shards -------------------------------------------------------------------------------


def test_show_shards_says_not_found_of_a_copy_that_is_missing_or_whose_node_is_down(
    cluster: EmbeddedCluster,
) -> None:
    cluster.query("CREATE DATABASE db")
    cluster.write("db", f"m v=1 {T0}")
    cluster.data[1].store.remove(ShardID(1))
    cluster.stop_node(2)
    [shard] = get(cluster.meta[0].http_addr, "/show-shards?verbose=true").json()
    owners = {owner["id"]: owner for owner in shard["owners"]}
    assert (owners[4]["state"], owners[4]["err"]) == ("hot", "")
    assert owners[4]["size"] > 0
    for gone in (5, 6):
        assert (owners[gone]["state"], owners[gone]["err"]) == ("", "not found")
        assert owners[gone]["last-modified"] == "0001-01-01T00:00:00Z"
    data = get(cluster.meta[0].http_addr, "/show-cluster").json()["data"]
    assert [(node["status"], node["version"] != "") for node in data] == [
        ("joined", True),
        ("joined", True),
        ("joined", False),
    ]


def test_an_owner_that_is_no_node_breaks_show_shards_for_all(cluster: EmbeddedCluster) -> None:
    assert get(cluster.meta[0].http_addr, "/show-shards").body == b"null\n"
    cluster.query("CREATE DATABASE db")
    cluster.write("db", f"m v=1 {T0}")
    execute(cluster, cmd.CopyShardOwner(ShardID(1), NodeID(999)))
    reply = get(cluster.meta[0].http_addr, "/show-shards")
    assert (reply.status, reply.body) == (500, b"Internal Server Error\n")


def test_a_shard_is_copied_and_its_new_owner_answers(cluster: EmbeddedCluster) -> None:
    cluster.query("CREATE DATABASE db WITH REPLICATION 1")
    cluster.write("db", f"m v=1 {T0}")
    [owner] = [at for at, node in enumerate(cluster.data) if node.store.shards()]
    source, target = cluster.data[owner], cluster.data[(owner + 1) % 3]
    [shard_id] = source.store.shards()
    asked = f"src={source.tcp_addr}&dest={target.tcp_addr}&shard={shard_id}"
    assert form(cluster.meta[0].http_addr, "/copy-shard", asked).status == 204
    removal = f"src={source.tcp_addr}&shard={shard_id}"
    assert form(cluster.meta[0].http_addr, "/remove-shard", removal).status == 204
    assert not source.store.shards()
    for at in range(3):
        counted = cluster.query("SELECT count(v) FROM m", database="db", at=at)
        assert counted["results"][0]["series"][0]["values"] == [[0, 1]]


# --- who may ask --------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> EmbeddedCluster:
    auth = MetaAuth(enabled=True, shared_secret="shared", internal_shared_secret="internal")
    return EmbeddedCluster(tmp_path / "guarded", 1, 1, auth=auth)


def test_credentials_of_every_kind_are_taken_or_refused_as_by_a_real_meta_node(
    guarded: EmbeddedCluster,
) -> None:
    def status(header: str = "", path: str = "/status") -> tuple[int, str]:
        headers = {"Authorization": header} if header else {}
        reply = get(guarded.meta[0].http_addr, path, headers)
        return reply.status, reply.json().get("error", "") if reply.status != 200 else ""

    def bearer(user: str, secret: str, lifetime_s: int = 60) -> str:
        return "Bearer " + signed_token(user, secret, time.time(), lifetime_s=lifetime_s)

    with guarded:
        assert status() == (400, "must create admin user first")
        guarded.query("CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
        basic = "Basic " + base64.b64encode(b"admin:secret").decode()
        for good in (
            basic,
            "Token admin:secret",
            bearer("admin", "shared"),
            bearer("", "internal"),
        ):
            assert status(good) == (200, "")
        assert status(path="/status?u=admin&p=secret") == (200, "")
        assert status() == (401, "unable to parse authentication credentials")
        assert status("Token admin:wrong") == (401, "authorization failed")
        assert status(bearer("", "shared")) == (401, "signature is invalid")
        assert status(bearer("admin", "internal")) == (401, "signature is invalid")
        assert status(bearer("admin", "shared", -1)) == (401, "signature is invalid")
        assert status(bearer("nobody", "shared")) == (401, "user not found")
        assert status("Bearer x")[1].startswith("token is malformed")
        reply = get(guarded.meta[0].http_addr, "/status")
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="InfluxDB"'


def test_users_are_made_over_http_and_their_password_is_a_hash(cluster: EmbeddedCluster) -> None:
    def user(text: str) -> tuple[int, bytes]:
        reply = post(cluster.meta[0].http_addr, "/user", text.encode())
        return reply.status, reply.body

    assert get(cluster.meta[0].http_addr, "/user").json() == {}
    created = '{"action":"create","user":{"name":"u","password":"p"}}'
    assert user(created) == (200, b"")
    assert user(created) == (400, b'{"error":"user already exists"}')
    [listed] = get(cluster.meta[0].http_addr, "/user").json()["users"]
    assert listed["name"] == "u"
    assert listed["hash"].startswith("$")
    assert get(cluster.meta[0].http_addr, "/user?name=x").status == 404
    assert user('{"action":"delete","user":{"name":"u"}}')[0] == 200


# --- what stays ---------------------------------------------------------------------------


def test_everything_is_there_after_a_restart_at_the_same_addresses(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path, 3, 2) as cluster:
        cluster.query("CREATE DATABASE db")
        cluster.write("db", f"m v=1 {T0}")
        addresses = [node.http_addr for node in (*cluster.meta, *cluster.data)]
        before = cluster.group.metastore
    with EmbeddedCluster(tmp_path, 3, 2) as cluster:
        assert [node.http_addr for node in (*cluster.meta, *cluster.data)] == addresses
        assert cluster.group.metastore.databases == before.databases
        index = execute(cluster, cmd.CreateDatabase("two")).index
        assert index is not None
        assert index > before.index + 1  # an election came between
        counted = cluster.query("SELECT count(v) FROM m", database="db")
        assert counted["results"][0]["series"][0]["values"] == [[0, 1]]


def test_polls_end_when_their_node_stops(cluster: EmbeddedCluster) -> None:
    host, _, port = cluster.meta[2].http_addr.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(b"GET /?index=99999 HTTP/1.0\r\n\r\n")
        cluster.stop_meta_node(2)
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass
