"""MetaClient against meta nodes that answer from a script, well and badly."""

from __future__ import annotations

import base64
import socket
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resources.clients.auth import Auth
from resources.clients.meta import MAX_HOPS, MetaClient
from resources.errors import (
    BadReply,
    CredentialsRefused,
    ExitCode,
    PeerRefused,
    PeerUnreachable,
    ShardkeeperError,
    UnknownOutcome,
    UnsafeName,
    UsageError,
)
from resources.model import NodeID
from resources.protocol.commands import CreateDatabase, DropDatabase, Response
from resources.protocol.jwt import verified_user
from resources.protocol.meta_api import (
    ClusterMembers,
    Lease,
    MetaNodeMember,
    MetaNodeStatus,
    encode_error,
)
from tests.resources.clients.peer import closed_port, peer, reset
from tests.resources.protocol.vectors import CLUSTER_METASTORE

RECORDED = Path(__file__).parents[2] / "fixtures" / "wire" / "cluster"
DROP = DropDatabase("nodb")
APPLIED = Response(index=11).encode()
SECRET = "s3cr3t-pässword"

Answer = Callable[[str, str, bytes], bytes]
"""From method and path, the Authorization header and the body to a whole reply."""


def http(status: int, body: bytes = b"", *heads: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *heads]
    return "\r\n".join([*lines, "Influxdb-Metaindex: 9", "\r\n"]).encode() + body


def redirect(address: str, path: str = "/execute", scheme: str = "http") -> bytes:
    return http(307, b"", f"Location: {scheme}://{address}{path}")


@contextmanager
def meta_node(answer: Answer) -> Generator[str]:
    def script(connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        named = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        while len(body) < int(named.get("content-length", "0")):
            body += connection.recv(65536)
        reply = answer(first.rsplit(" ", 1)[0], named.get("authorization", ""), body)
        if reply:
            connection.sendall(reply)
        else:
            reset(connection)

    with peer(script) as address:
        yield address


def always(reply: bytes) -> Answer:
    return lambda _what, _who, _body: reply


def status(leader: str, me: str) -> bytes:
    return http(200, MetaNodeStatus(leader, "", me, ()).encode())


def client(address: str, auth: Auth | None = None) -> MetaClient:
    return MetaClient(address, timeout_s=5, auth=auth, clock=lambda: 1_700_000_000.0)


ASKS: dict[str, Callable[[MetaClient], object]] = {
    "status": MetaClient.status,
    "leader": MetaClient.leader,
    "members": MetaClient.members,
    "snapshot": MetaClient.snapshot,
    "shards": MetaClient.shards,
    "lease": lambda meta: meta.lease("shardkeeper", NodeID(7)),
    "execute": lambda meta: meta.execute(DROP),
}
all_asks = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


# --- questions ----------------------------------------------------------------------------


def test_recorded_answers_of_a_cluster_are_read() -> None:
    for name, ask in (
        ("status.http", MetaClient.status),
        ("show-cluster.http", MetaClient.members),
        ("show-shards-null.http", MetaClient.shards),
        ("show-shards-verbose.http", lambda meta: meta.shards(verbose=True)),
        ("lease.http", ASKS["lease"]),
        ("lease-held.http", lambda meta: meta.lease("shardkeeper", NodeID(8))),
        ("execute.http", ASKS["execute"]),
    ):
        with meta_node(always((RECORDED / name).read_bytes())) as address:
            ask(client(address))


def test_the_metastore_is_the_leaders_whichever_node_is_asked() -> None:
    asked: list[str] = []

    def leader(what: str, _who: str, _body: bytes) -> bytes:
        asked.append(what)
        return status("raft:1", "raft:1") if "status" in what else http(200, CLUSTER_METASTORE)

    with meta_node(leader) as leads:
        members = ClusterMembers((), (MetaNodeMember(NodeID(1), leads, "http", "raft:1", ""),))

        def follower(what: str, _who: str, _body: bytes) -> bytes:
            if "status" in what:
                return status("raft:1", "raft:2")
            assert "show-cluster" in what
            return http(200, members.encode())

        with meta_node(follower) as follows:
            assert client(follows).snapshot() == CLUSTER_METASTORE
            assert str(client(follows).leader()) == leads
    assert "GET /?index=0" in asked


def test_verbose_is_only_said_when_it_is_wanted() -> None:
    asked: list[str] = []

    def note(what: str, _who: str, _body: bytes) -> bytes:
        asked.append(what)
        return http(200, b"null\n")

    with meta_node(note) as address:
        client(address).shards()
        client(address).shards(verbose=True)
    assert asked == ["GET /show-shards", "GET /show-shards?verbose=true"]


def test_meta_nodes_that_do_not_agree_on_a_leader_are_asked_again_later() -> None:
    with meta_node(
        lambda what, _who, _body: (
            status("raft:1", "raft:2") if "status" in what else http(200, members.encode())
        )
    ) as address:
        members = ClusterMembers((), (MetaNodeMember(NodeID(1), address, "", "raft:1", ""),))
        with pytest.raises(PeerUnreachable, match="do not agree who leads"):
            client(address).leader()


def test_a_leader_that_nobody_knows_is_an_odd_answer() -> None:
    def answer(what: str, _who: str, _body: bytes) -> bytes:
        if "status" in what:
            return status("raft:1", "raft:2")
        return http(200, ClusterMembers((), ()).encode())

    with meta_node(answer) as address, pytest.raises(BadReply, match="that is no meta node"):
        client(address).snapshot()


def test_a_snapshot_that_is_not_whole_is_refused() -> None:
    def answer(what: str, _who: str, _body: bytes) -> bytes:
        return status("r:1", "r:1") if "status" in what else http(200, CLUSTER_METASTORE[:-1])

    with meta_node(answer) as address, pytest.raises(BadReply, match="metastore"):
        client(address).snapshot()


# --- leases -------------------------------------------------------------------------------


def test_a_lease_that_another_holds_is_an_answer_and_no_error() -> None:
    held = Lease("n", 1, NodeID(8))
    with meta_node(always(http(409, held.encode()))) as address:
        assert client(address).lease("n", NodeID(7)) == held


@pytest.mark.parametrize(
    ("status_", "lease"),
    [
        (200, Lease("n", 1, NodeID(8))),
        (409, Lease("n", 1, NodeID(7))),
        (200, Lease("other", 1, NodeID(7))),
    ],
)
def test_a_lease_that_contradicts_itself_is_refused(status_: int, lease: Lease) -> None:
    with (
        meta_node(always(http(status_, lease.encode()))) as address,
        pytest.raises(BadReply, match="contradicts itself"),
    ):
        client(address).lease("n", NodeID(7))


def test_a_lease_without_a_name_is_not_asked_for() -> None:
    with pytest.raises(UsageError):
        client(closed_port()).lease("", NodeID(7))


# --- commands -----------------------------------------------------------------------------


def test_a_command_follows_the_leader_with_its_body_and_a_new_token() -> None:
    heard: list[tuple[str, str, bytes]] = []
    now = iter([1_700_000_000.0, 1_700_000_007.0])

    def leader(what: str, who: str, body: bytes) -> bytes:
        heard.append((what, who, body))
        return http(200, APPLIED)

    with meta_node(leader) as leads:

        def follower(what: str, who: str, body: bytes) -> bytes:
            heard.append((what, who, body))
            return redirect(leads)

        with meta_node(follower) as follows:
            meta = MetaClient(follows, auth=Auth.jwt("internal"), clock=lambda: next(now))
            assert meta.execute(DROP) == 11
    assert [(what, body) for what, _, body in heard] == [("POST /execute", DROP.encode())] * 2
    for (_, who, _), at in zip(heard, (1_700_000_000, 1_700_000_007), strict=True):
        kind, token = who.split()
        assert kind == "Bearer"
        assert verified_user(token, lambda _: "internal", at + 299) == ""
        with pytest.raises(CredentialsRefused):
            verified_user(token, lambda _: "internal", at + 300)


def test_a_redirect_that_never_ends_is_given_up() -> None:
    n_heard = 0

    def answer(_what: str, _who: str, _body: bytes) -> bytes:
        nonlocal n_heard
        n_heard += 1
        return redirect(address)

    with meta_node(answer) as address, pytest.raises(PeerUnreachable, match="redirected more"):
        client(address).execute(DROP)
    assert n_heard == MAX_HOPS + 1


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    "reply",
    [
        redirect("h:1", path="/elsewhere"),
        redirect("h:1", scheme="https"),
        redirect("h:1", scheme="gopher"),
        redirect("user@h:1"),
        redirect(""),
        redirect("[::1"),
        http(307),
        http(302, b"", "Location: http://h:1/execute"),
    ],
)
def test_credentials_are_taken_to_no_odd_place(reply: bytes) -> None:
    with meta_node(always(reply)) as address, pytest.raises(BadReply):
        client(address, Auth.basic("u", SECRET)).execute(DROP)


def test_a_rejected_command_says_why() -> None:
    reply = http(200, Response(error="database name required").encode())
    with meta_node(always(reply)) as address, pytest.raises(PeerRefused) as caught:
        client(address).execute(DROP)
    assert caught.value.what == f"{address}: database name required"
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "reply",
    [
        http(200, Response(error="leadership lost while committing log").encode()),
        http(200, Response(error="raft is already shutdown").encode()),
        http(200, b"\x08"),
        http(200, b""),
        http(500, b"Internal Server Error\n"),
        http(502, b"Bad Gateway"),
        http(503, b"<html>a proxy's</html>"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x08",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(2**20 + 1),
        b"",
    ],
    ids=lambda reply: repr(reply[:60] + reply[-20:]),
)
def test_a_command_without_a_clear_answer_may_have_been_applied(reply: bytes) -> None:
    with (
        meta_node(always(reply)) as address,
        pytest.raises(UnknownOutcome, match="is not known") as caught,
    ):
        client(address).execute(DROP)
    assert address in caught.value.what
    assert "before trying again" in caught.value.hint
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "reply",
    [
        http(503, encode_error("no leader")),
        http(503, encode_error("server closed")),
        http(200, Response(error="node is not the leader").encode()),
        http(200, Response(error="leadership transfer in progress").encode()),
    ],
)
def test_a_command_that_was_not_taken_may_be_tried_again(reply: bytes) -> None:
    with meta_node(always(reply)) as address, pytest.raises(PeerUnreachable) as caught:
        client(address).execute(DROP)
    assert caught.value.retryable


def test_a_command_to_a_closed_port_was_not_sent() -> None:
    with pytest.raises(PeerUnreachable, match="no HTTP connection"):
        client(closed_port()).execute(DROP)


def test_a_command_that_would_do_harm_is_not_sent() -> None:
    with meta_node(always(b"")) as address, pytest.raises(UnsafeName):
        client(address).execute(CreateDatabase("../x"))


# --- errors -------------------------------------------------------------------------------


@all_asks
def test_a_closed_port_is_named(ask: Callable[[MetaClient], object]) -> None:
    address = closed_port()
    with pytest.raises(PeerUnreachable, match=address):
        ask(client(address))


@all_asks
def test_a_cluster_without_a_leader_is_asked_again_later(
    ask: Callable[[MetaClient], object],
) -> None:
    def answer(what: str, _who: str, _body: bytes) -> bytes:
        return status("", "raft:2") if "status" in what else http(503, encode_error("no leader"))

    with meta_node(answer) as address:
        if ask is MetaClient.status:
            assert not client(address).status().leader
            return
        with pytest.raises(PeerUnreachable, match="no leader") as caught:
            ask(client(address))
    assert caught.value.retryable


@pytest.mark.fault(79)
@all_asks
@pytest.mark.parametrize(
    ("auth", "hint"),
    [
        (Auth.none(), "want credentials"),
        (Auth.basic("u", SECRET), "check user and password"),
        (Auth.jwt(SECRET), "internal-shared-secret"),
        (Auth.jwt(SECRET, "u"), "meta nodes' shared-secret"),
    ],
)
def test_refused_credentials_say_which_ones_to_check(
    ask: Callable[[MetaClient], object], auth: Auth, hint: str
) -> None:
    reply = http(401, encode_error(f"authorization failed for {SECRET}\x1b[2J"))
    with meta_node(always(reply)) as address, pytest.raises(CredentialsRefused) as caught:
        ask(client(address, auth))
    assert caught.value.exit_code is ExitCode.CREDENTIALS
    assert hint in caught.value.hint
    assert caught.value.what.isprintable()


@all_asks
@pytest.mark.parametrize(
    "reply",
    [
        http(200, b"[]" * 9),
        http(200, b'{"nodeType":"data"}'),
        http(200, b"\xff" * 30),
        http(404, b"404 page not found\n"),
        http(400, encode_error("must create admin user first")),
        http(400, b"Client sent an HTTP request to an HTTPS server.\n"),
        http(204),
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
    ids=lambda reply: repr(reply[:20] + reply[-20:]),
)
def test_odd_answers_are_errors_of_ours_with_the_address(
    ask: Callable[[MetaClient], object], reply: bytes
) -> None:
    with meta_node(always(reply)) as address, pytest.raises(ShardkeeperError) as caught:
        ask(client(address))
    assert address in caught.value.what


def test_a_shard_whose_owner_is_unknown_makes_the_list_fail_with_a_hint() -> None:
    reply = http(500, b"Internal Server Error\n")
    with meta_node(always(reply)) as address, pytest.raises(PeerRefused) as caught:
        client(address).shards()
    assert "no data node" in caught.value.hint


def test_a_reply_without_an_end_is_given_up() -> None:
    flood = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2**20 + 1)
    with meta_node(always(flood)) as address, pytest.raises(BadReply, match="goes on beyond"):
        client(address).status()


# --- who is there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "is_meta"),
    [
        (status("", "r:1"), True),
        (http(401, encode_error("unable to parse authentication credentials")), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n" + b'{"nodeType":"data"}', False),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_a_meta_node_is_told_from_others_without_credentials(reply: bytes, is_meta: bool) -> None:
    with meta_node(always(reply)) as address:
        assert client(address).is_meta_node() is is_meta


# --- secrets ------------------------------------------------------------------------------


@pytest.mark.fault(82)
def test_secrets_are_in_no_repr_and_no_error() -> None:
    for auth in (Auth.basic("u", SECRET), Auth.jwt(SECRET, "u")):
        shown = [repr(auth), repr(client("h:1", auth))]
        for reply in (
            http(500, encode_error(f"you said {SECRET}")),
            http(200, Response(error=f"you said {SECRET}").encode()),
            redirect(f"{SECRET}@x"),
            b"",
        ):
            with meta_node(always(reply)) as address:
                try:
                    client(address, auth).execute(DROP)
                except ShardkeeperError as error:
                    shown += [error.hint, *traceback.format_exception(error)]
        assert len(shown) > 8
        assert not [text for text in shown if SECRET in text or "Bearer" in text]


def test_a_password_goes_out_as_utf_8() -> None:
    heard: list[str] = []

    def note(_what: str, who: str, _body: bytes) -> bytes:
        heard.append(who)
        return status("", "r:1")

    with meta_node(note) as address:
        client(address, Auth.basic("ü", SECRET)).status()
        client(address).status()
    assert heard == ["Basic " + base64.b64encode(f"ü:{SECRET}".encode()).decode(), ""]


@pytest.mark.fault(79)
def test_credentials_that_cannot_work_are_refused_at_once() -> None:
    for make in (lambda: Auth.basic("", "p"), lambda: Auth.basic("a:b", "p"), lambda: Auth.jwt("")):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(UsageError):
        MetaClient("h", skip_verify=True, ca_file="x")
