"""Which server listens at an address: asked with what every one takes, and known by the answer."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from resources.clients.peer_kind import PeerKind, probe_kind
from resources.errors import BadReply, PeerUnreachable
from resources.protocol.snapshotter import MetastoreReply, who_answers
from tests.resources.clients.peer import answers, closed_port, peer, resets, silent
from tests.resources.protocol.parsing import parse_all
from tests.resources.protocol.vectors import CLUSTER_METASTORE, METASTORE_REPLY, REQUEST_METASTORE

HTTP_REPLY = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n400 Bad Request"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
OF_A_CLUSTER = MetastoreReply(CLUSTER_METASTORE).encode()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (METASTORE_REPLY, PeerKind.SERVER),
        (OF_A_CLUSTER, PeerKind.CLUSTER_DATA_NODE),
        (HTTP_REPLY, PeerKind.HTTP),
        (TLS_ALERT, PeerKind.TLS),
    ],
)
def test_a_peer_is_known_by_its_answer(reply: bytes, kind: PeerKind) -> None:
    with peer(answers(reply)) as addr:
        assert probe_kind(addr) is kind


@pytest.mark.parametrize("reply", [METASTORE_REPLY, HTTP_REPLY, TLS_ALERT])
def test_an_answer_is_known_wherever_it_is_cut(reply: bytes) -> None:
    whole = parse_all(who_answers, reply, step=len(reply))
    for step in range(1, min(len(reply), 60)):
        assert parse_all(who_answers, reply, step=step) == whole


@pytest.mark.parametrize("script", [answers(b""), resets], ids=["closes", "resets"])
def test_a_published_port_with_nobody_behind_is_reported_from_a_server(
    script: Callable[[socket.socket], None],
) -> None:
    with peer(script) as addr, pytest.raises(PeerUnreachable) as caught:
        probe_kind(addr)
    assert "closes them without an answer" in caught.value.what
    assert "bind-address" in caught.value.hint


def test_who_listens_is_asked_with_what_every_server_takes() -> None:
    """A tunnel ends with the first reset, and a server resets what it does not understand."""
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(METASTORE_REPLY)

    with peer(listen) as addr:
        probe_kind(addr)
    assert heard == [REQUEST_METASTORE]


@pytest.mark.fault(9)
def test_a_peer_of_another_cluster_is_reported_apart() -> None:
    ssh = answers(b"SSH-2.0-OpenSSH_9.2\r\n")
    with peer(ssh) as addr, pytest.raises(BadReply, match="expected magic"):
        probe_kind(addr)


def test_probing_ends_when_nobody_answers() -> None:
    with peer(silent) as addr, pytest.raises(PeerUnreachable, match="probing the port"):
        probe_kind(addr, timeout_s=0.2)
    with pytest.raises(PeerUnreachable, match="connection refused"):
        probe_kind(closed_port())
