"""The HTTP client against peers that answer oddly, and what it never says."""

from __future__ import annotations

import json
import socket
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from resources.clients import http
from resources.clients.http import InfluxHTTP, Ping, Series
from resources.errors import (
    BadReply,
    CredentialsRefused,
    PeerRefused,
    PeerSilent,
    PeerUnreachable,
    ShardkeeperError,
    UsageError,
)
from resources.model import ShardID
from resources.protocol.server_vars import ServerVars, ShardStats, server_vars
from tests.resources.clients.peer import answers, closed_port, peer, resets, silent

CANARY = "s3cr3t/CANARY@é"
DATE = "Mon, 23 Nov 2026 00:51:03 GMT"


def reply(body: object = None, *, status: str = "200 OK", **headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(raw)}", "", ""])
    return head.encode() + raw


Ask = Callable[[InfluxHTTP], object]
ASKS: dict[str, Ask] = {
    "ping": InfluxHTTP.ping,
    "server_vars": InfluxHTTP.server_vars,
    "query": lambda client: client.query("SHOW DATABASES"),
    "databases": InfluxHTTP.databases,
    "stream": lambda client: list(client.stream("SELECT * FROM m")),
}
every_ask = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


# --- who answers --------------------------------------------------------------------------


def test_a_ping_tells_version_and_build() -> None:
    full = reply(status="204 No Content", X_Influxdb_Version="v1.6.7~rc0", X_Influxdb_Build="OSS")
    with peer(answers(full)) as addr:
        assert InfluxHTTP(addr).ping() == Ping("1.6.7~rc0", "OSS")
    with peer(answers(reply(X_Influxdb_Version="1.3.0"))) as addr:
        assert InfluxHTTP(addr).ping() == Ping("1.3.0", "")


@pytest.mark.parametrize(
    "odd", [reply(b"<html>"), reply(X_Influxdb_Version=""), reply(X_Influxdb_Version="9" * 101)]
)
def test_another_web_server_is_noticed(odd: bytes) -> None:
    with peer(answers(odd)) as addr, pytest.raises(BadReply) as caught:
        InfluxHTTP(addr).ping()
    assert str(caught.value) == f"{addr}: answers HTTP, but not as InfluxDB does"
    assert "8086" in caught.value.hint


@every_ask
def test_redirects_are_not_followed(ask: Ask) -> None:
    found: list[bytes] = []

    def elsewhere(connection: socket.socket) -> None:
        found.append(connection.recv(65536))

    with peer(elsewhere) as target:
        moved = reply(status="301 Moved", Location=f"http://{target}/")
        with (
            peer(answers(moved)) as addr,
            pytest.raises(BadReply, match=r"a redirect \(HTTP 301\)"),
        ):
            ask(InfluxHTTP(addr, user="u", password=CANARY))
    assert found == []


@pytest.mark.parametrize("location", ["http://[", "http://a:b:c/", "//", "\xff"])
@every_ask
def test_a_redirect_to_nowhere_is_a_redirect_too(ask: Ask, location: str) -> None:
    moved = reply(status="307 Moved", Location=location)
    with peer(answers(moved)) as addr, pytest.raises(BadReply, match="a redirect"):
        ask(InfluxHTTP(addr))


@pytest.mark.fault(79)
@every_ask
@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_refused_credentials_have_their_own_exit_status(ask: Ask, status: str) -> None:
    no = reply({"error": f"authorization failed for {CANARY}"}, status=status)
    with peer(answers(no)) as addr, pytest.raises(CredentialsRefused) as caught:
        ask(InfluxHTTP(addr, user="u", password=CANARY))
    assert caught.value.exit_code == 12
    assert caught.value.hint
    assert str(caught.value) == f"{addr}: authorization failed for *** (HTTP {status[:3]})"


@every_ask
def test_an_error_of_the_server_is_told(ask: Ask) -> None:
    no = reply({"error": "timeout\x1b[31m\n"}, status="500 Internal Server Error")
    with peer(answers(no)) as addr, pytest.raises(PeerRefused) as caught:
        ask(InfluxHTTP(addr))
    assert str(caught.value) == f"{addr}: timeout\\x1b[31m\\n (HTTP 500)"


@every_ask
@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable"])
def test_a_proxy_without_its_server_may_be_tried_again(ask: Ask, status: str) -> None:
    busy = answers(reply(b"<html>", status=status))
    with peer(busy) as addr, pytest.raises(PeerUnreachable) as caught:
        ask(InfluxHTTP(addr))
    assert caught.value.retryable


@every_ask
def test_a_closed_port_is_named(ask: Ask) -> None:
    addr = closed_port()
    with pytest.raises(PeerUnreachable) as caught:
        ask(InfluxHTTP(addr))
    assert str(caught.value) == f"{addr}: no HTTP connection, or it broke"


@every_ask
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n", b"\x00"])
def test_what_is_no_http_is_unreachable(ask: Ask, answer: bytes) -> None:
    with peer(answers(answer)) as addr, pytest.raises((PeerUnreachable, BadReply)) as caught:
        ask(InfluxHTTP(addr))
    assert str(caught.value).startswith(f"{addr}: ")


@every_ask
def test_a_reset_is_unreachable(ask: Ask) -> None:
    with peer(resets) as addr, pytest.raises(PeerUnreachable):
        ask(InfluxHTTP(addr))


def test_a_reply_cut_short_is_unreachable() -> None:
    whole = reply({"results": [{"series": []}]})
    with peer(answers(whole[:-5])) as addr, pytest.raises(PeerUnreachable):
        InfluxHTTP(addr).query("q")


@every_ask
def test_silence_ends(ask: Ask) -> None:
    enough = threading.Event()

    def hold(_: socket.socket) -> None:
        enough.wait(20)

    with peer(hold) as addr:
        with pytest.raises(PeerUnreachable, match="does not answer in time"):
            ask(InfluxHTTP(addr, timeout_s=0.2))
        enough.set()


def test_a_reply_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1\r\n \r\n")
            time.sleep(0.01)

    monkeypatch.setattr(http, "PATIENCE", 2)
    with peer(trickle) as addr, pytest.raises(PeerUnreachable, match="never ends"):
        InfluxHTTP(addr, timeout_s=0.2).query("q")


@pytest.mark.fault(90)
def test_a_reply_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1000)
    long = answers(reply(b" " * 1001))
    with peer(long) as addr, pytest.raises(BadReply, match="goes on beyond 1000 bytes"):
        InfluxHTTP(addr).server_vars()


# --- queries ------------------------------------------------------------------------------


def test_a_query_is_posted_with_its_text_in_the_body() -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        while not heard[0].endswith(b"%22a+b%22"):
            heard[0] += connection.recv(65536)
        connection.sendall(reply({"results": [{}]}))

    with peer(listen) as addr:
        assert InfluxHTTP(addr, user="ü", password="p").query('DROP "a b"', db="d&b") == []
    head, body = heard[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /query?epoch=ns&db=d%26b HTTP/1.1\r\n")
    assert b"Authorization: Basic w7w6cA==" in head  # UTF-8
    assert body == b"q=DROP+%22a+b%22"


def test_series_of_all_results_come_in_order() -> None:
    body: dict[str, Any] = {
        "results": [
            {"statement_id": 0, "series": [{"name": "m", "columns": ["time"], "values": [[1]]}]},
            {"statement_id": 1},
            {
                "statement_id": 2,
                "series": [
                    {
                        "name": "n",
                        "tags": {"host": "a"},
                        "columns": ["time", "v"],
                        "values": [[9007199254740993, None], [2, 1.5]],
                    },
                    {"columns": ["x"]},
                ],
            },
        ]
    }
    with peer(answers(reply(body))) as addr:
        assert InfluxHTTP(addr).query("q") == [
            Series("m", {}, ("time",), ((1,),)),
            Series("n", {"host": "a"}, ("time", "v"), ((9007199254740993, None), (2, 1.5))),
            Series("", {}, ("x",), ()),
        ]


@pytest.mark.parametrize(
    ("body", "error", "what"),
    [
        ({"results": [{}, {"error": "no such"}]}, PeerRefused, "no such"),
        ({"error": "no such"}, PeerRefused, "no such"),
        ({"results": [{"partial": True}]}, BadReply, "the result was cut off"),
        ({"results": [{"series": [{"partial": True}]}]}, BadReply, "the result was cut off"),
        ({"results": 7}, BadReply, "unexpected reply: results is not an array"),
        ({"results": [7]}, BadReply, "unexpected reply: a result is not an object"),
        ({"results": [{"series": {}}]}, BadReply, "unexpected reply: series is not an array"),
        ({"results": [{"series": [1]}]}, BadReply, "unexpected reply: a series is not an object"),
        (
            {"results": [{"series": [{"columns": ["a"], "values": [[1, 2]]}]}]},
            BadReply,
            "unexpected reply: a series lacks its shape",
        ),
        ([], BadReply, "unexpected reply: it is not an object"),
        (b"{", BadReply, "its reply is not JSON: "),
        (b"[" * 100_000, BadReply, "its reply nests too deep"),
        (b'{"results":[{"series":NaN}]}', BadReply, "its reply is not JSON: NaN"),
    ],
)
def test_a_result_that_is_none_is_an_error(
    body: object, error: type[ShardkeeperError], what: str
) -> None:
    with peer(answers(reply(body))) as addr, pytest.raises(error) as caught:
        InfluxHTTP(addr).query("q")
    assert str(caught.value).startswith(f"{addr}: {what}")


# --- /debug/vars --------------------------------------------------------------------------


def entry(name: str, shard_id: object, **values: object) -> dict[str, object]:
    return {"name": name, "tags": {"id": shard_id, "path": "/d"}, "values": values}


VARS: dict[str, Any] = {
    "system": {
        "currentTime": "2026-11-23T00:51:03.442150109Z",
        "started": "2026-11-23T00:51:03.402597923Z",
        "uptime": 0,
    },
    "cmdline": ["influxd"],
    "memstats": None,
    "httpd:127.0.0.1:8086": {"name": "httpd", "tags": {"bind": ":8086"}, "values": {"req": 1}},
    "shard:/d/1:1": entry("shard", "1", writePointsOk=12, diskBytes=42),
    "tsm1_filestore:/d/1:1": entry("tsm1_filestore", "1", numFiles=2, diskBytes=101),
    "tsm1_filestore:/d/2:2": entry("tsm1_filestore", str(2**64 - 1), numFiles=1),
    "shard:/d/3:3": entry("shard", "3", writePointsOk=1),
}


def test_debug_vars_tell_time_and_shards() -> None:
    with peer(answers(reply(VARS))) as addr:
        said = InfluxHTTP(addr).server_vars()
    assert said.current_time_ns == 1_795_395_063_442_150_109
    assert said.started_ns == 1_795_395_063_402_597_923
    assert said.shards == {
        ShardID(1): ShardStats(num_files=2, disk_bytes=101, write_points_ok=12),
        ShardID(2**64 - 1): ShardStats(num_files=1, disk_bytes=0, write_points_ok=0),
    }


@pytest.mark.parametrize("system", [None, 7, {}, {"currentTime": 7}, {"currentTime": "now"}])
def test_the_date_header_less_a_second_stands_in_for_the_time(system: object) -> None:
    with peer(answers(reply({"system": system}, Date=DATE))) as addr:
        said = InfluxHTTP(addr).server_vars()
    assert said.current_time_ns == 1_795_395_062_000_000_000
    assert said.started_ns is None


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": ""}])
def test_without_any_time_there_are_no_vars(headers: dict[str, str]) -> None:
    timeless = answers(reply({}, **headers))
    with peer(timeless) as addr, pytest.raises(BadReply, match="does not tell the server's time"):
        InfluxHTTP(addr).server_vars()


@pytest.mark.parametrize(
    "odd",
    [
        entry("tsm1_filestore", 1, numFiles=1),
        entry("tsm1_filestore", "-1", numFiles=1),
        entry("tsm1_filestore", "\u0661", numFiles=1),
        entry("tsm1_filestore", str(2**64), numFiles=1),
        entry("tsm1_filestore", "9" * 5000, numFiles=1),
        {"name": "tsm1_filestore", "tags": [], "values": {}},
        {"name": "tsm1_filestore", "tags": {"id": "1"}, "values": 7},
        "tsm1_filestore",
    ],
)
def test_odd_entries_are_left_out(odd: object) -> None:
    body = {"system": VARS["system"], "odd": odd}
    with peer(answers(reply(body))) as addr:
        assert InfluxHTTP(addr).server_vars().shards == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["name", "tags", "values"]), json_values))
def test_any_entry_is_survived(odd: dict[str, object]) -> None:
    body = json.dumps({"a": {"name": "tsm1_filestore", **odd}}).encode()
    shards = server_vars([body], lambda: 0).shards
    assert all(isinstance(stats.num_files, int) for stats in shards.values())


def as_influxd_writes(members: dict[str, object]) -> bytes:
    lines = (
        f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in members.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def test_the_lines_of_influxd_and_any_other_layout_say_the_same() -> None:
    layouts = [
        as_influxd_writes(VARS),
        json.dumps(VARS).encode(),
        json.dumps(VARS, indent=1).encode(),
    ]
    said: list[ServerVars] = []
    for layout in layouts:
        with peer(answers(reply(layout))) as addr:
            said.append(InfluxHTTP(addr).server_vars())
    assert said[0].shards.keys() == {1, 2**64 - 1}
    assert said[0] == said[1] == said[2]


def test_a_line_that_is_no_member_is_left_out_and_a_reply_without_its_end_is_none() -> None:
    lines = as_influxd_writes(VARS)
    odd = lines.replace(b'/d/1:1"', b'/d": /1:1"')
    with peer(answers(reply(odd))) as addr:
        assert InfluxHTTP(addr).server_vars().shards.keys() == {2**64 - 1}
    for cut in (lines.removesuffix(b"}\n"), lines[: lines.rindex(b",")]):
        with peer(answers(reply(cut))) as addr, pytest.raises(BadReply, match="does not end"):
            InfluxHTTP(addr).server_vars()


def test_an_error_instead_of_figures_is_told_without_the_password() -> None:
    with peer(answers(reply({"error": f"no, {CANARY}"}))) as addr, pytest.raises(PeerRefused) as no:
        InfluxHTTP(addr, user="u", password=CANARY).server_vars()
    assert str(no.value) == f"{addr}: no, ***"


def test_only_what_matters_of_many_figures_is_kept() -> None:
    members: dict[str, object] = {"system": VARS["system"]}
    for i in range(3000):
        filler = dict.fromkeys("abcdefghijklmnopqrstuvw", i)
        for name in ("tsm1_filestore", "tsm1_cache", "tsm1_engine", "shard", "tsm1_wal"):
            members[f"{name}:/d/{i}"] = entry(name, str(i), numFiles=1, **filler)
    lines = as_influxd_writes(members).splitlines(keepends=True)
    tracemalloc.start()
    shards = server_vars(iter(lines), lambda: 0).shards
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(shards) == 3000
    assert peak < 1000 * len(shards)


# --- addresses and secrets ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("h", "http://h:8086"),
        ("h:1", "http://h:1"),
        ("[::1]:1", "http://[::1]:1"),
        ("http://h", "http://h:8086"),
        ("https://h:443/influx/", "https://h:443/influx"),
        ("https://u:p@[::1]:1", "https://[::1]:1"),
    ],
)
def test_addresses_become_urls_without_credentials(address: str, url: str) -> None:
    assert InfluxHTTP(address).base_url == url


@pytest.mark.parametrize(
    "address",
    [
        "ftp://u:s3cr3t@h",
        "http://u:s3cr3t@h:x",
        "http://u:s3cr3t@",
        "http://u:s3cr3t@h?q=1",
        "http://u:s3cr3t@[::1",
        "u:s3cr3t@h",
        "http://u:s3cr3t@h@i j",
        "",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        InfluxHTTP(address)
    assert "s3cr3t" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.fault(79)
def test_credentials_come_from_one_place() -> None:
    with pytest.raises(UsageError, match="both"):
        InfluxHTTP("http://u:p@h", user="v")


def test_credentials_of_the_url_are_used() -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(reply(X_Influxdb_Version="1"))

    with peer(listen) as addr:
        InfluxHTTP(f"http://u%40x:p%2Fq@{addr}").ping()
    assert b"Authorization: Basic dUB4OnAvcQ==" in heard[0]  # u@x:p/q


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{closed_port()}")
    with peer(answers(reply(X_Influxdb_Version="1"))) as addr:
        assert InfluxHTTP(addr).ping().version == "1"


@pytest.mark.fault(82)
@every_ask
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x15\x03\x01\x00\x02\x02\x46",
        reply({"error": CANARY}, status="400 Bad Request"),
        reply({"error": [CANARY]}, status="401 Unauthorized"),
        reply({"error": CANARY}),
        reply({"results": [{"error": f"near {CANARY}"}]}),
        reply(status="301 Moved", Location="http://u:s3cr3t@h/"),
    ],
    ids=range(7),
)
def test_no_error_has_the_password_in_it(ask: Ask, answer: bytes) -> None:
    with peer(answers(answer)) as addr:
        client = InfluxHTTP(addr, user="u", password=CANARY)
        assert "s3cr3t" not in repr(client) + client.base_url
        with pytest.raises(ShardkeeperError) as caught:
            ask(client)
    told = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "s3cr3t" not in told


@pytest.mark.fault(80)
def test_https_is_spoken_when_asked_for_and_plain_http_is_not_taken_for_it() -> None:
    plain = answers(reply(X_Influxdb_Version="1"))
    with peer(plain) as addr, pytest.raises(PeerUnreachable, match="TLS failed"):
        InfluxHTTP(f"https://{addr}").ping()


def test_an_unexpected_exception_of_requests_is_named_by_kind_only() -> None:
    client = InfluxHTTP("h")
    error = client._unreachable(requests.exceptions.InvalidURL("http://u:s3cr3t@h"))
    assert str(error) == "h:8086: HTTP failed (InvalidURL)"


# --- long answers -------------------------------------------------------------------------


def piece(*times: int, partial: bool) -> dict[str, Any]:
    rows = [[time, 1.5] for time in times]
    series = {"name": "m", "tags": {"k": "a"}, "columns": ["time", "v"], "values": rows}
    marks = {"partial": True} if partial else {}
    return {"results": [{"statement_id": 0, "series": [{**series, **marks}], **marks}]}


def lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def test_a_long_answer_comes_in_pieces_and_none_is_lost() -> None:
    body = lines(piece(1, 2, partial=True), piece(3, partial=False))
    for raw in (body, body.removesuffix(b"\n")):
        with peer(answers(reply(raw))) as addr:
            found = list(InfluxHTTP(addr).stream("SELECT * FROM m"))
        assert [series.values for series in found] == [((1, 1.5), (2, 1.5)), ((3, 1.5),)]
        assert {series.name for series in found} == {"m"}


def test_an_error_after_the_first_piece_is_raised_and_not_taken_for_the_end() -> None:
    body = lines(piece(1, partial=True), {"results": [{"error": "query-timeout limit exceeded"}]})
    with peer(answers(reply(body))) as addr:
        stream = InfluxHTTP(addr).stream("SELECT * FROM m")
        assert next(stream).values == ((1, 1.5),)
        with pytest.raises(PeerRefused, match="query-timeout limit exceeded"):
            next(stream)


def test_a_long_answer_that_is_cut_is_an_error_wherever_it_is_cut() -> None:
    body = lines(piece(1, partial=True), piece(2, partial=False))
    whole = reply(body)
    for cut in range(len(whole) - len(body) + 1, len(whole) - 1, 7):
        with peer(answers(whole[:cut])) as addr, pytest.raises((BadReply, PeerUnreachable)):
            list(InfluxHTTP(addr).stream("SELECT * FROM m"))


def test_a_long_answer_without_its_last_piece_is_an_error() -> None:
    for body in (b"", lines(piece(1, partial=True))):
        with peer(answers(reply(body))) as addr, pytest.raises(BadReply, match="last piece"):
            list(InfluxHTTP(addr).stream("SELECT * FROM m"))


def test_silence_is_told_from_a_refused_connection() -> None:
    with peer(silent) as addr, pytest.raises(PeerSilent):
        InfluxHTTP(addr, timeout_s=0.2).query("SELECT 1")
    with peer(resets) as addr, pytest.raises(PeerUnreachable) as caught:
        InfluxHTTP(addr).query("SELECT 1")
    assert not isinstance(caught.value, PeerSilent)
