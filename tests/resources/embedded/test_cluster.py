"""A dev cluster as its users see it: points placed, copied, lost and found again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.data.copies import WriteFailed
from resources.embedded.data.writes import series_hash
from resources.embedded.listener import HOST, AddressTaken
from resources.embedded.meta.group import NoLeader
from resources.embedded.ports import Ports
from resources.embedded.server import EmbeddedServer
from resources.embedded.server_errors import Refusal
from resources.errors import UsageError
from resources.model import ShardID
from tests.influxd import wait_until
from tests.resources.embedded.asking import RESET, get, http, post, say

T0 = 1_600_000_000 * 10**9
DAY = 86_400 * 10**9
ROOT = Path(__file__).parents[3]


def values(cluster: EmbeddedCluster | EmbeddedServer, q: str, **how: Any) -> list[list[Any]]:
    [result] = cluster.query(q, database="db", **how)["results"]
    assert "error" not in result, result
    return [row for series in result.get("series", []) for row in series["values"]]


def filled(cluster: EmbeddedCluster, replication: int = 2) -> list[str]:
    """Write 60 series, a point each; returns their keys."""
    cluster.query(f"CREATE DATABASE db WITH REPLICATION {replication}")
    series = [f"m,host=h{n}" for n in range(60)]
    cluster.write("db", "\n".join(f"{key} v={n} {T0}" for n, key in enumerate(series)))
    return series


# --- where points go ----------------------------------------------------------------------


def test_a_series_is_in_the_shard_of_its_hash_at_all_its_owners(cluster: EmbeddedCluster) -> None:
    series = filled(cluster)
    shards = [place.shard for place in cluster.group.metastore.places()]
    assert len(shards) == 3
    for shard_at, shard in enumerate(shards):
        expected = sorted(
            f"{key}#!~#v".encode() for key in series if series_hash(key.encode()) % 3 == shard_at
        )
        owners = {owner.node_id for owner in shard.owners}
        assert len(owners) == 2
        for node in cluster.data:
            there = shard.id in node.store.shards()
            assert there is (node.id in owners)
            if there:
                assert list(node.store.keys(shard.id)) == expected


def test_every_node_answers_with_all_points(cluster: EmbeddedCluster) -> None:
    filled(cluster)
    for at in range(3):
        assert values(cluster, "SELECT count(v), sum(v) FROM m", at=at) == [[0, 60, 1770]]


def test_points_of_other_weeks_make_other_groups(cluster: EmbeddedCluster) -> None:
    cluster.query("CREATE DATABASE db")
    cluster.write("db", "\n".join(f"m v=1 {T0 + week * 7 * DAY}" for week in range(4)))
    groups = {place.group.id for place in cluster.group.metastore.places()}
    assert len(groups) == 4


def test_the_precision_of_a_write_is_the_client_s(server: EmbeddedServer) -> None:
    server.query("CREATE DATABASE db")
    server.write("db", "m v=1 1600000000", precision="s")
    assert values(server, "SELECT v FROM m") == [[T0, 1]]


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/write", "m v=1", 400, "database is required"),
        ("/write?db=no", "m v=1", 404, 'database not found: "no"'),
        (
            "/write?db=db&precision=x",
            "m v=1",
            400,
            'invalid precision "x" (use n, u, ms, s, m or h)',
        ),
        ("/write?db=db&rp=no", "m v=1", 500, "retention policy not found: no"),
        ("/write?db=db", "nonsense", 400, "unable to parse 'nonsense': missing fields"),
        (
            "/write?db=db&rp=day",
            f"m v=1 {T0}",
            400,
            "partial write: points beyond retention policy dropped=1",
        ),
    ],
)
def test_writes_that_cannot_be_are_refused_in_the_server_s_words(
    cluster: EmbeddedCluster, path: str, body: str, status: int, error: str
) -> None:
    cluster.query("CREATE DATABASE db; CREATE RETENTION POLICY day ON db DURATION 1d REPLICATION 1")
    reply = post(cluster.data[0].http_addr, path, body.encode())
    assert (reply.status, reply.json()) == (status, {"error": error})


def test_good_lines_are_written_beside_bad_ones_and_types_do_not_change(
    server: EmbeddedServer,
) -> None:
    server.query("CREATE DATABASE db")
    body = f"m v=1 {T0}\nnonsense\nm v=2 {T0 + 1}".encode()
    reply = post(server.http_addr, "/write?db=db", body)
    assert reply.status == 400
    assert reply.json()["error"].startswith("partial write: unable to parse 'nonsense'")
    reply = post(server.http_addr, "/write?db=db", f"m v=2i {T0 + 2}\nm v=3 {T0 + 3}".encode())
    assert reply.json()["error"].endswith("already exists as type float dropped=1")
    assert values(server, "SELECT v FROM m") == [[T0, 1], [T0 + 1, 2], [T0 + 3, 3]]


# --- what goes ----------------------------------------------------------------------------


def test_dropping_cleans_all_nodes(cluster: EmbeddedCluster) -> None:
    filled(cluster)
    cluster.query("DELETE FROM m WHERE host = 'h0'", database="db")
    assert values(cluster, "SELECT count(v) FROM m") == [[0, 59]]
    cluster.query("DROP DATABASE db")
    assert not any(node.store.shards() for node in cluster.data)
    assert cluster.group.metastore.databases == ()


def test_a_node_that_was_down_keeps_what_was_dropped_meanwhile(cluster: EmbeddedCluster) -> None:
    filled(cluster)
    before = set(cluster.data[0].store.shards())
    cluster.stop_node(0)
    cluster.query("DROP DATABASE db")
    cluster.start_node(0)
    assert set(cluster.data[0].store.shards()) == before != set()


def test_a_command_drops_metadata_only(cluster: EmbeddedCluster) -> None:
    filled(cluster)
    raw = bytes.fromhex("0804c20604") + b"\x0a\x02db"
    assert post(cluster.meta[0].http_addr, "/execute", raw).status == 200
    assert cluster.group.metastore.databases == ()
    assert all(node.store.shards() for node in cluster.data)


# --- bad days -----------------------------------------------------------------------------


def test_copies_differ_after_a_node_was_down(cluster: EmbeddedCluster) -> None:
    filled(cluster, replication=3)
    cluster.stop_node(2)
    cluster.write("db", f"m,host=h0 v=5 {T0 + 1}")
    cluster.start_node(2)
    counted = [values(cluster, "SELECT count(v) FROM m", at=at)[0][1] for at in range(3)]
    assert counted == [61, 61, 60]


def test_copies_can_be_made_to_differ(cluster: EmbeddedCluster) -> None:
    filled(cluster, replication=3)
    cluster.diverge(1, ShardID(1), f"m,host=h0 v=5 {T0 + 1}")
    counted = [values(cluster, "SELECT count(v) FROM m", at=at)[0][1] for at in range(3)]
    assert counted == [60, 61, 60]


def test_a_shard_that_nobody_owns_is_not_read_and_not_written(cluster: EmbeddedCluster) -> None:
    filled(cluster, replication=3)
    cluster.disown(ShardID(1))
    assert values(cluster, "SELECT count(v) FROM m") == []
    with pytest.raises(WriteFailed):
        cluster.write("db", f"m,host=h0 v=5 {T0}")
    reply = post(cluster.data[0].http_addr, "/write?db=db", f"m v=5 {T0}".encode())
    assert (reply.status, reply.json()) == (500, {"error": "write failed"})


def test_an_owner_without_a_copy_answers_nothing(cluster: EmbeddedCluster) -> None:
    filled(cluster, replication=3)
    cluster.data[1].store.remove(ShardID(1))
    assert values(cluster, "SELECT count(v) FROM m", at=1) == []
    assert values(cluster, "SELECT count(v) FROM m", at=0) == [[0, 60]]


def test_without_a_leader_new_groups_cannot_be_made_and_old_ones_written(
    cluster: EmbeddedCluster,
) -> None:
    filled(cluster)
    cluster.group.lose_leader()
    cluster.write("db", f"m,host=h0 v=5 {T0 + 1}")
    with pytest.raises(WriteFailed, match="no leader"):
        cluster.write("db", f"m,host=h0 v=5 {T0 + 70 * DAY}")
    cluster.change_leader(2)
    cluster.write("db", f"m,host=h0 v=5 {T0 + 70 * DAY}")
    cluster.stop_meta_node(0)
    cluster.stop_meta_node(1)
    with pytest.raises(NoLeader):
        cluster.change_leader()


def test_a_node_may_hear_of_changes_late_but_knows_its_own_at_once(
    cluster: EmbeddedCluster,
) -> None:
    first, second = cluster.data[0].meta, cluster.data[1].meta
    cluster.query("CREATE DATABASE early", at=0)
    cluster.delay(0.2)
    cluster.query("CREATE DATABASE late", at=0)
    assert first.metastore.database("late") is not None
    assert second.metastore.database("early") is not None
    assert second.metastore.database("late") is None
    wait_until(lambda: second.metastore.database("late") is not None, within_s=10, what="the news")
    cluster.delay(0)
    cluster.query("DROP DATABASE early; DROP DATABASE late", at=0)
    assert second.metastore.database("late") is None


def test_a_node_that_refuses_resets_and_recovers(cluster: EmbeddedCluster) -> None:
    request = b"GET /ping HTTP/1.0\r\n\r\n"
    cluster.refuse(at=0)
    assert say(cluster.data[0].http_addr, request) == RESET
    assert say(cluster.data[0].tcp_addr, request) == RESET
    cluster.refuse(False)
    assert get(cluster.data[0].http_addr, "/ping").status == 204


def test_with_all_owners_down_a_query_fails(cluster: EmbeddedCluster) -> None:
    filled(cluster, replication=1)
    cluster.stop_node(1)
    [result] = cluster.query("SELECT count(v) FROM m", database="db")["results"]
    assert "no owner of shard" in result["error"]


# --- over HTTP ----------------------------------------------------------------------------


def test_ping_and_vars_say_version_clock_and_figures(server: EmbeddedServer) -> None:
    server.query("CREATE DATABASE db")
    server.write("db", f"m v=1 {T0}\nm v=2 {T0 + 1}")
    server.node.store.flush(ShardID(1))
    ping = get(server.http_addr, "/ping")
    assert (ping.status, ping.headers["X-Influxdb-Version"]) == (204, "1.8.10")
    reply = get(server.http_addr, "/debug/vars").json()
    assert reply["system"]["currentTime"] > reply["system"]["started"]
    by_name = {entry["name"]: entry for entry in reply.values() if "name" in entry}
    assert by_name["tsm1_filestore"]["values"]["numFiles"] == 1
    assert by_name["tsm1_filestore"]["tags"]["id"] == "1"
    assert by_name["shard"]["values"]["writePointsOk"] == 2


def test_a_query_that_cannot_be_parsed_is_a_bad_request(server: EmbeddedServer) -> None:
    reply = get(server.http_addr, "/query?q=x")
    assert reply.status == 400
    assert reply.json()["error"].startswith("error parsing query: found x, expected SELECT")
    assert get(server.http_addr, "/query").json()["error"] == 'missing required parameter "q"'


def test_after_a_statement_that_failed_none_is_executed(server: EmbeddedServer) -> None:
    results = server.query('DROP USER x; CREATE DATABASE y; CREATE DATABASE "a/b"')["results"]
    errors = [result.get("error") for result in results]
    assert errors == ["user not found", "not executed", "not executed"]
    assert server.query('CREATE DATABASE "a/b"')["results"][0]["error"] == "invalid name"
    assert server.meta.metastore.databases == ()


@pytest.mark.parametrize("size", ["-1", "x", "99999999999999999999", str(2**40)])
def test_a_length_beyond_belief_is_refused_before_it_is_read(
    server: EmbeddedServer, size: str
) -> None:
    reply = http(server.http_addr, "POST", "/write?db=db", b"", {"Content-Length": size})
    assert reply.status in (400, 413)


# --- life ---------------------------------------------------------------------------------


def test_points_survive_a_restart_of_their_node_and_of_the_server(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        server.query("CREATE DATABASE db")
        server.write("db", f"m v=1 {T0}")
        addresses = server.http_addr, server.tcp_addr
        index = server.meta.metastore.index
    with EmbeddedServer(tmp_path) as server:
        assert (server.http_addr, server.tcp_addr) == addresses
        assert server.meta.metastore.index == index
        assert server.meta.metastore.term == 0
        assert values(server, "SELECT v FROM m") == [[T0, 1]]


def test_what_changes_nothing_uses_no_index_on_a_single_server(server: EmbeddedServer) -> None:
    server.query("CREATE DATABASE db")
    index = server.meta.metastore.index
    server.query("CREATE DATABASE db; DROP DATABASE nodb")
    assert server.meta.metastore.index == index


def test_a_directory_holds_one_cluster_of_one_size(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path, 1, 2):
        pass
    with pytest.raises(UsageError, match="a cluster of 1 meta and 2 data nodes, not 1 and 3"):
        EmbeddedCluster(tmp_path, 1, 3)
    with pytest.raises(UsageError):
        EmbeddedCluster(tmp_path, 0, 3)


def test_a_port_that_is_taken_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.embedded.listener.BIND_PATIENCE_S", 0.0)
    with EmbeddedServer(tmp_path / "one") as one:
        taken = one.node.http.port
        with pytest.raises(AddressTaken, match=str(taken)):
            EmbeddedServer(tmp_path / "two", ports=(taken, 0))
        with pytest.raises(AddressTaken, match=str(taken)):
            EmbeddedCluster(tmp_path / "three", 1, 1, ports=Ports(((taken, 0),), ((0, 0),)))


def test_a_start_that_fails_halfway_stops_what_had_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedCluster(tmp_path / "cluster", 1, 3) as cluster:
        pass
    monkeypatch.setattr("resources.embedded.listener.BIND_PATIENCE_S", 0.0)
    with socket.socket() as other:
        other.bind((HOST, cluster.data[2].http.port))
        other.listen()
        with pytest.raises(AddressTaken, match=str(cluster.data[2].http.port)), cluster:
            pytest.fail("it has started")
    assert not [node for node in (*cluster.meta, *cluster.data) if node.running]
    with cluster:  # every port is free again
        assert get(cluster.data[0].http_addr, "/ping").status == 204


def test_the_command_prints_addresses_and_runs_until_it_is_reported_to_stop(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "resources.embedded", str(tmp_path / "c"), "--data", "2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, text
            text += line
        reply = json.loads(text)
        assert [node["id"] for node in reply["data"]] == [2, 3]
        assert get(reply["meta"][0]["http"], "/status").status == 200
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_many_points_are_written_at_once(server: EmbeddedServer) -> None:
    server.query("CREATE DATABASE db")
    lines = [f"m,host=h{n % 100} v={n} {T0 + n}" for n in range(20_000)]
    assert post(server.http_addr, "/write?db=db", "\n".join(lines).encode()).status == 204
    assert values(server, "SELECT count(v) FROM m") == [[0, 20_000]]


def test_a_refusal_is_a_shardkeeper_error_with_the_server_s_text(server: EmbeddedServer) -> None:
    with pytest.raises(Refusal) as caught:
        server.write("nodb", "m v=1")
    assert str(caught.value) == 'database not found: "nodb"'


def test_names_that_are_not_utf_8_are_answered_with_replacements(server: EmbeddedServer) -> None:
    server.query("CREATE DATABASE db")
    assert post(server.http_addr, "/write?db=db", b"m\xff,h=\xfe v=1 1").status == 204
    reply = get(server.http_addr, "/query?db=db&q=SHOW+SERIES").json()
    assert reply["results"][0]["series"][0]["values"] == [["m\ufffd,h=\ufffd"]]


def test_an_address_that_is_none_is_a_bad_request(server: EmbeddedServer) -> None:
    assert get(server.http_addr, "http://[/").status == 400


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("CREATE USER u WITH PASSWORD 'x'", None),
        ("CREATE USER u WITH PASSWORD 'y'", "user already exists"),
        ("CREATE DATABASE d WITH DURATION 1m", "retention policy duration must be at least 1h0m0s"),
        (
            "CREATE RETENTION POLICY p ON nodb DURATION 1m REPLICATION 1",
            "retention policy duration must be at least 1h0m0s",
        ),
        ("CREATE RETENTION POLICY p ON no DURATION 1d REPLICATION 1", "database not found: no"),
        ("DROP SHARD 99", "shard not found"),
        ("DROP MEASUREMENT m", "database not found: "),
        ("GRANT READ ON no TO u", "database not found: no"),
        ("SET PASSWORD FOR v = 'x'", "user not found"),
    ],
)
def test_statements_fail_with_a_cluster_s_words(
    cluster: EmbeddedCluster, statement: str, error: str | None
) -> None:
    cluster.query("CREATE USER u WITH PASSWORD 'x'")
    assert cluster.query(statement)["results"][0].get("error") == error
