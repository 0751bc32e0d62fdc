"""A cluster's port 8088 inside TLS: reads, uploads that the server ends, and strangers."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.connect import open_source
from resources.clients.coordinator import CoordinatorClient
from resources.clients.meta import MetaClient
from resources.clients.peer_kind import PeerKind, probe_kind
from resources.clients.snapshotter import SnapshotterClient
from resources.clients.source_address import Address
from resources.clients.tls import Trust
from resources.errors import (
    BadReply,
    PeerClosedEarly,
    PeerUnreachable,
    ShardkeeperError,
    UsageError,
)
from resources.model import NodeID, NodeInfo, ShardID
from resources.protocol.coordinator import ShardList
from resources.protocol.meta import decode_metastore
from resources.protocol.meta_api import OwnerStatus
from resources.protocol.snapshotter import MetastoreReply
from tests.resources.clients.peer import answers, peer
from tests.resources.protocol.vectors import CLUSTER_METASTORE, METASTORE, METASTORE_REPLY

LISTED = ShardList({ShardID(7): OwnerStatus(NodeID(4), "d:8088", "hot", 1, 9)}).encode()
Script = Callable[[ssl.SSLSocket], None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a key and a certificate for 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    where = tmp_path_factory.mktemp("tls")
    made = [where / "key.pem", where / "cert.pem"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=t", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(made[0]), "-out", str(made[1])),
        ],
        check=True,
        capture_output=True,
    )
    both = where / "both.pem"
    both.write_bytes(made[0].read_bytes() + made[1].read_bytes())
    return both


def encrypted(certificate: Path, script: Script) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(plain: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as sock:
            script(sock)

    return serve


def answer(reply: bytes) -> Script:
    def script(sock: ssl.SSLSocket) -> None:
        sock.recv(65536)
        sock.sendall(reply)
        sock.unwrap()

    return script


def test_replies_arrive_through_tls(certificate: Path) -> None:
    tls = Trust(ca_file=str(certificate)).for_sockets()
    with peer(encrypted(certificate, answer(LISTED))) as address:
        assert list(CoordinatorClient(address, tls=tls).list_shards()) == [7]
    with peer(encrypted(certificate, answer(METASTORE_REPLY))) as address:
        assert SnapshotterClient(address, tls=tls).metastore() == METASTORE


def test_a_data_node_is_known_through_tls(certificate: Path) -> None:
    reply = MetastoreReply(CLUSTER_METASTORE).encode()
    with peer(encrypted(certificate, answer(reply))) as address:
        kind = probe_kind(address, tls=Trust(ca_file=str(certificate)).for_sockets())
        assert kind is PeerKind.CLUSTER_DATA_NODE
        assert probe_kind(address) is PeerKind.TLS


HEAD = b"\x03\x07" + (7).to_bytes(8, "big")


def test_an_upload_sends_no_close_notify_that_a_server_would_leave_unread(
    certificate: Path,
) -> None:
    """A server closes when it has read the end marker; with bytes left to read it resets."""
    heard: list[object] = []

    def take(sock: ssl.SSLSocket) -> None:
        received = b""
        while len(received) < len(HEAD) + 300_000:
            received += sock.recv(65536)
        heard.append(received)
        # Not through TLS, which would swallow the goodbye without a word.
        plain = socket.socket(fileno=os.dup(sock.fileno()))
        plain.settimeout(0.2)
        try:
            heard.append(plain.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            heard.append("nothing")
        plain.close()
        with suppress(OSError):
            sock.settimeout(0)
            sock.unwrap()  # says goodbye, and does not wait for ours

    with peer(encrypted(certificate, take)) as address:
        client = SnapshotterClient(address, tls=Trust(ca_file=str(certificate)).for_sockets())
        with client.upload(ShardID(7)) as sending:
            sending.sendall(bytes(300_000))
            sending.finish()
    assert heard == [HEAD + bytes(300_000), "nothing"]


def test_an_answer_where_only_a_close_notify_belongs_is_noticed(certificate: Path) -> None:
    def protest(sock: ssl.SSLSocket) -> None:
        sock.recv(65536)
        sock.sendall(b"no")
        sock.unwrap()

    with peer(encrypted(certificate, protest)) as address:
        client = SnapshotterClient(address, tls=Trust(ca_file=str(certificate)).for_sockets())
        with pytest.raises(BadReply, match="goes on"), client.upload(ShardID(7)) as sending:
            sending.finish()


def test_an_end_without_a_close_notify_is_an_error(certificate: Path) -> None:
    """An attacker on the line could otherwise shorten an archive between two files."""

    def cut(sock: ssl.SSLSocket) -> None:
        sock.recv(65536)
        sock.sendall(bytes(2048))
        socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def read_all(address: str) -> None:
        buffer = bytearray(65536)
        client = SnapshotterClient(address, tls=Trust(ca_file=str(certificate)).for_sockets())
        with client.open_shard(ShardID(7)) as stream:
            while stream.recv_into(buffer):
                pass

    with peer(encrypted(certificate, cut)) as address, pytest.raises(PeerUnreachable, match="TLS"):
        read_all(address)


@pytest.mark.fault(80)
def test_a_certificate_must_be_good_unless_it_need_not(certificate: Path) -> None:
    with peer(encrypted(certificate, answer(LISTED))) as address:
        with pytest.raises(PeerUnreachable, match="TLS failed while connecting") as caught:
            CoordinatorClient(address, tls=Trust().for_sockets()).list_shards()
        assert "-ca" in caught.value.hint
        assert CoordinatorClient(address, tls=Trust(verify=False).for_sockets()).list_shards()


@pytest.mark.fault(80)
def test_a_port_that_does_not_speak_tls_is_named() -> None:
    with peer(answers(LISTED)) as address, pytest.raises(PeerUnreachable, match="TLS failed"):
        CoordinatorClient(address, tls=Trust().for_sockets()).list_shards()


def test_a_port_that_wants_tls_gives_no_reply_without(certificate: Path) -> None:
    with (
        peer(encrypted(certificate, answer(LISTED))) as address,
        pytest.raises((PeerClosedEarly, PeerUnreachable, BadReply)) as caught,
    ):
        SnapshotterClient(address).metastore()
    assert caught.value.what.startswith(f"{address}: ")


def test_data_nodes_are_spoken_to_in_tls_where_that_is_asked_for(certificate: Path) -> None:
    with peer(encrypted(certificate, answer(LISTED))) as address:
        # An address in https is not tried, so that no meta node is needed here.
        at = Address(bind="127.0.0.1:1", tls=True, data_tls=True)
        with pytest.raises(PeerUnreachable, match="TLS failed"):
            cluster_at(at).coordinator(address).list_shards()
        listed = cluster_at(replace(at, verify_tls=False)).coordinator(address).list_shards()
        assert list(listed) == [7]


def test_a_data_node_that_may_want_tls_is_reported_of_with_the_flag(certificate: Path) -> None:
    with peer(encrypted(certificate, answer(LISTED))) as address:
        store = replace(decode_metastore(METASTORE), data_nodes=(NodeInfo(NodeID(4), "", address),))
        plain = cluster_at(Address(bind="127.0.0.1:1", tls=True, timeout_s=1))
        [error] = plain.inventory(store).silent.values()
    assert "-data-tls" in error.hint


def cluster_at(at: Address) -> Cluster:
    opened = open_source(at)
    assert isinstance(opened, Cluster)
    return opened


def test_meta_nodes_are_asked_over_https(certificate: Path) -> None:
    reply = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 16\r\n\r\ninvalid node ID\n"
    with peer(encrypted(certificate, answer(reply))) as address:
        assert MetaClient(address, tls=True, ca_file=str(certificate)).leader()
        assert MetaClient(address, tls=True, skip_verify=True).leader()
        with pytest.raises(PeerUnreachable, match="TLS failed"):
            MetaClient(address, tls=True).leader()
        with pytest.raises(ShardkeeperError, match=address):
            MetaClient(address, timeout_s=5).leader()


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for ca_file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match="cannot be read as certificate authorities"):
            Trust(ca_file=str(ca_file)).for_sockets()
