"""The client on bad days: peers that are slow, silent, rude, or another program."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable

import pytest

from resources.clients.connection import Meter, StallLimit
from resources.clients.snapshotter import SnapshotterClient, Upload
from resources.errors import (
    BadReply,
    NothingMatches,
    PeerClosedEarly,
    PeerRefused,
    PeerTooSlow,
    PeerUnreachable,
    UsageError,
    WireError,
)
from resources.model import ShardID
from resources.protocol.meta import trimmed
from tests.resources.clients.peer import answers, closed_port, peer, reset, resets
from tests.resources.protocol.vectors import (
    ID_MAP,
    ID_MAP_REFUSED,
    METASTORE,
    METASTORE_REPLY,
    REQUEST_METASTORE,
    REQUEST_SHARD,
)

SHARD = ShardID(6)
OTHER = trimmed(METASTORE, database="other")
HTTP_REPLY = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n400 Bad Request"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"

Ask = Callable[[SnapshotterClient], object]


def read_shard(client: SnapshotterClient) -> bytes:
    received, buffer = bytearray(), bytearray(1000)
    with client.open_shard(SHARD) as stream:
        while n_bytes := stream.recv_into(buffer):
            received += buffer[:n_bytes]
    return bytes(received)


def import_other(client: SnapshotterClient) -> dict[ShardID, ShardID]:
    return client.import_metastore("other", "new", "", "", OTHER)


def upload(client: SnapshotterClient) -> None:
    with client.upload(SHARD) as sending:
        sending.sendall(bytes(1024))
        sending.finish()


ASKS: dict[str, Ask] = {
    "metastore": SnapshotterClient.metastore,
    "shard_paths": SnapshotterClient.shard_paths,
    "open_shard": read_shard,
    "import_metastore": import_other,
    "upload": upload,
}
every_ask = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
every_reply = pytest.mark.parametrize(
    "ask", [ask for name, ask in ASKS.items() if name != "upload"], ids=[*ASKS][:-1]
)


@every_ask
def test_a_closed_port_is_named(ask: Ask) -> None:
    addr = closed_port()
    with pytest.raises(PeerUnreachable) as caught:
        ask(SnapshotterClient(addr))
    assert str(caught.value) == f"{addr}: connection refused while connecting"
    assert "nothing listens there" in caught.value.hint
    assert caught.value.retryable


@every_ask
def test_an_unknown_host_is_named(ask: Ask) -> None:
    with pytest.raises(PeerUnreachable, match=r"^nowhere\.invalid:8088: unknown host$"):
        ask(SnapshotterClient("nowhere.invalid"))


@pytest.mark.fault(7)
@every_ask
def test_silence_ends(ask: Ask) -> None:
    enough = threading.Event()

    def hold(_: socket.socket) -> None:
        enough.wait(20)

    with peer(hold) as addr:
        client = SnapshotterClient(addr, timeout_s=0.2, finish_timeout_s=0.2)
        with pytest.raises(PeerUnreachable, match="no answer while ") as caught:
            ask(client)
        enough.set()
    assert str(caught.value).startswith(f"{addr}: ")


@every_ask
def test_a_reset_says_during_what(ask: Ask) -> None:
    with peer(resets) as addr, pytest.raises(PeerUnreachable) as caught:
        ask(SnapshotterClient(addr))
    assert str(caught.value).startswith(f"{addr}: ")
    assert " while " in str(caught.value)
    assert "log" in caught.value.hint


@pytest.mark.fault(6)
@every_reply
def test_an_empty_reply_points_to_the_log(ask: Ask) -> None:
    with peer(answers(b"")) as addr, pytest.raises(PeerClosedEarly) as caught:
        ask(SnapshotterClient(addr))
    assert str(caught.value).startswith(f"{addr}: empty reply while ")
    assert "log" in caught.value.hint


@pytest.mark.fault(9)
@every_ask
@pytest.mark.parametrize(
    ("reply", "hint"), [(HTTP_REPLY, "this is an HTTP port"), (TLS_ALERT, "speaks TLS")]
)
def test_another_protocol_is_called_by_its_name(ask: Ask, reply: bytes, hint: str) -> None:
    with peer(answers(reply)) as addr, pytest.raises(BadReply) as caught:
        ask(SnapshotterClient(addr))
    assert str(caught.value).startswith(f"{addr}: not a snapshotter")
    assert hint in caught.value.hint


@pytest.mark.fault(22)
def test_a_reply_cut_short_says_where() -> None:
    with peer(answers(METASTORE_REPLY[:100])) as addr, pytest.raises(PeerClosedEarly) as caught:
        SnapshotterClient(addr).metastore()
    assert str(caught.value) == (
        f"{addr}: reply ended inside meta: 84 of 309 bytes while reading the metastore"
    )


@pytest.mark.fault(8)
@every_reply
def test_a_peer_that_trickles_is_given_up(ask: Ask) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in METASTORE_REPLY[:16] + bytes(1000):
            connection.sendall(bytes([byte]))
            time.sleep(0.01)

    with peer(trickle) as addr:
        client = SnapshotterClient(addr, timeout_s=0.3)
        with pytest.raises(PeerTooSlow, match="bytes a second, less than 1024, while "):
            ask(client)


@pytest.mark.fault(8)
def test_a_peer_that_takes_an_upload_by_the_byte_is_given_up() -> None:
    def sip(connection: socket.socket) -> None:
        for _ in range(20):
            connection.recv(10)
            time.sleep(0.05)

    def flood(upload: Upload) -> None:
        for _ in range(100):
            upload.sendall(bytes(1 << 20))

    with peer(sip) as addr:
        client = SnapshotterClient(addr, timeout_s=0.3)
        with (
            pytest.raises(PeerUnreachable, match="while uploading"),
            client.upload(SHARD) as upload,
        ):
            flood(upload)


def test_the_average_counts_over_the_time_of_waiting() -> None:
    meter = Meter(StallLimit(idle_s=10, min_bytes_per_s=100))
    meter.add(9, 100)
    meter.add(2, 1001)  # 100 bytes a second
    meter.add(9, 1)
    with pytest.raises(PeerTooSlow, match="only 1 bytes a second, less than 100"):
        meter.add(1, 9)
    Meter(StallLimit(idle_s=10, min_bytes_per_s=0)).add(100, 1)


def test_a_server_may_think_before_it_answers_an_import() -> None:
    def think(connection: socket.socket) -> None:
        asked = connection.recv(65536)
        time.sleep(0.4)
        connection.sendall(ID_MAP if asked[1] == 6 else METASTORE_REPLY)

    with peer(think) as addr:
        client = SnapshotterClient(addr, timeout_s=0.2, finish_timeout_s=10, min_bytes_per_s=10_000)
        assert import_other(client) == {ShardID(6): ShardID(22)}
        with pytest.raises(PeerUnreachable, match="no answer while reading the metastore"):
            client.metastore()


def test_our_own_slowness_is_not_the_peers() -> None:
    def flood(connection: socket.socket) -> None:
        connection.recv(65536)
        for _ in range(8):
            connection.sendall(bytes(50_000))

    received, buffer = 0, bytearray(50_000)
    with peer(flood) as addr:
        client = SnapshotterClient(addr, timeout_s=0.2, min_bytes_per_s=100_000)
        with client.open_shard(SHARD) as stream:
            while n_bytes := stream.recv_into(buffer):
                received += n_bytes
                time.sleep(0.06)  # a slow disk, longer in sum than the peer's patience
    assert received == 400_000


def heard(ask: Ask, reply: bytes, n_bytes: int) -> tuple[bytes, int]:
    """What a peer gets from a client, and in how many segments of TCP it came."""
    received = bytearray()
    n_segments: list[int] = []

    def listen(connection: socket.socket) -> None:
        while len(received) < n_bytes and (piece := connection.recv(2**20)):
            received.extend(piece)
        n_segments.append(data_segments_in(connection))
        connection.sendall(reply)

    with peer(listen) as addr, contextlib.suppress(WireError):
        ask(SnapshotterClient(addr))
    return bytes(received), n_segments[0]


def data_segments_in(connection: socket.socket) -> int:
    """Linux, struct tcp_info, tcpi_data_segs_in."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    return int.from_bytes(info[152:156], sys.byteorder)


def test_requests_go_out_as_the_go_client_sends_them() -> None:
    n_bytes = len(REQUEST_METASTORE)
    assert heard(SnapshotterClient.metastore, METASTORE_REPLY, n_bytes) == (REQUEST_METASTORE, 1)

    def shard_since(client: SnapshotterClient) -> None:
        with client.open_shard(SHARD, since_ns=1_577_934_245_000_000_000):
            pass

    sent, _ = heard(shard_since, b"", 200)
    without_names = REQUEST_SHARD.replace(b"other", b"").replace(b"autogen", b"")
    assert sent == without_names  # which the server ignores


def test_an_import_goes_out_in_one_piece() -> None:
    sent, n_segments = heard(import_other, ID_MAP, 250)
    assert sent.startswith(b"\x03\x06{")
    assert sent.endswith(b'"UploadSize":%d}\n' % len(OTHER) + OTHER)
    assert n_segments == 1


def test_an_upload_starts_with_head_and_data_in_one_piece() -> None:
    whole = b"\x03\x07" + (6).to_bytes(8, "big") + bytes(1024)
    assert heard(upload, b"", len(whole)) == (whole, 1)


def test_an_import_maps_old_shards_to_new() -> None:
    with peer(answers(ID_MAP)) as addr:
        assert import_other(SnapshotterClient(addr)) == {ShardID(6): ShardID(22)}


def test_a_refused_import_says_what_to_look_for() -> None:
    with peer(answers(ID_MAP_REFUSED)) as addr, pytest.raises(PeerRefused) as caught:
        import_other(SnapshotterClient(addr))
    assert str(caught.value) == f"{addr}: import of 'other' refused"
    assert "exist" in caught.value.hint
    assert not caught.value.retryable


def test_an_import_whose_map_does_not_fit_is_noticed() -> None:
    complaint = "the ID map does not match 1 shard that the run sent; the map has 1"
    wrong = ID_MAP.replace(b"\x06", b"\x07")
    with peer(answers(wrong)) as addr, pytest.raises(BadReply, match=complaint):
        import_other(SnapshotterClient(addr))


def test_an_import_without_shards_is_not_even_tried() -> None:
    client = SnapshotterClient(closed_port())
    with pytest.raises(NothingMatches, match="names no shards"):
        client.import_metastore("telegraf", "", "autogen", "", trimmed(METASTORE, database="other"))


def end_of_upload(leave: Callable[[SnapshotterClient], None]) -> str:
    """How an upload looks from the server's side when it ends: FIN or RST."""
    ends: list[str] = []
    ended = threading.Event()

    def listen(connection: socket.socket) -> None:
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            ends.append("RST")
        else:
            ends.append("FIN")
        ended.set()

    with peer(listen) as addr:
        leave(SnapshotterClient(addr))
        assert ended.wait(20)
    [end] = ends
    return end


def test_an_upload_leaves_its_end_open_until_the_server_closes() -> None:
    """Tunnels take a half-closed connection for one that is closed; the end marker ends it."""
    heard: list[str] = []

    def take(connection: socket.socket) -> None:
        left = 10 + 1024
        while left:
            left -= len(connection.recv(left))
        connection.settimeout(0.2)
        try:
            heard.append(f"then {connection.recv(1)!r}")
        except TimeoutError:
            heard.append("still open")

    with peer(take) as addr, SnapshotterClient(addr).upload(SHARD) as sending:
        sending.sendall(bytes(1024))
        sending.finish()
    assert heard == ["still open"]


@pytest.mark.fault(65)
def test_an_upload_given_up_is_reset_lest_it_pass_for_complete() -> None:
    def walk_away(client: SnapshotterClient) -> None:
        with client.upload(SHARD) as sending:
            sending.sendall(bytes(1024))

    def stumble(client: SnapshotterClient) -> None:
        with contextlib.suppress(ZeroDivisionError), client.upload(SHARD) as sending:
            sending.sendall(bytes(1024))
            raise ZeroDivisionError

    assert end_of_upload(walk_away) == "RST"
    assert end_of_upload(stumble) == "RST"


def test_an_upload_that_is_answered_is_suspicious() -> None:
    with peer(answers(b"thanks")) as addr, pytest.raises(BadReply, match="goes on after its end"):
        upload(SnapshotterClient(addr))


@pytest.mark.fault(64, 65)
def test_a_server_that_breaks_off_an_upload_is_noticed() -> None:
    def give_up(connection: socket.socket) -> None:
        connection.recv(100)
        reset(connection)

    def upload_much(client: SnapshotterClient) -> None:
        with client.upload(SHARD) as sending:
            for _ in range(1000):
                sending.sendall(bytes(100_000))

    with peer(give_up) as addr, pytest.raises(PeerUnreachable, match="while uploading shard 6"):
        upload_much(SnapshotterClient(addr))


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        SnapshotterClient("h:x")
    assert repr(SnapshotterClient("h")) == "SnapshotterClient('h:8088')"
