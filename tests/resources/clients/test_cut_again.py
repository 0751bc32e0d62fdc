"""What a cut costs: a question is asked again, and what changes something is not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from resources.clients import cut_again
from resources.clients.connection import Reaching
from resources.clients.coordinator import CoordinatorClient
from resources.clients.cut_again import asked_again
from resources.clients.http import InfluxHTTP
from resources.clients.snapshotter import SnapshotterClient
from resources.errors import (
    ConnectionCut,
    PeerClosedEarly,
    PeerRefused,
    PeerUnreachable,
    ShardkeeperError,
    UnknownOutcome,
)
from resources.model import ShardID
from tests.influxd import Influxd
from tests.proxy import Cut, Fault, Proxy, Reset
from tests.resources.clients.peer import answers, peer, reset


@pytest.fixture(autouse=True)
def some_pauses(no_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_again, "PAUSES_S", (0.0, 0.0, 0.0))


def cut(*errors: ShardkeeperError) -> Callable[[], int]:
    """A question that fails like this, one time after the other, and then is answered."""
    left = list(errors)

    def ask() -> int:
        if left:
            raise left.pop(0)
        return 7

    return ask


def test_a_question_is_asked_again_after_a_cut() -> None:
    assert asked_again(cut(ConnectionCut("a"), PeerClosedEarly("b"), ConnectionCut("c"))) == 7


def test_it_is_not_asked_for_ever() -> None:
    with pytest.raises(ConnectionCut, match=r"^4$"):
        asked_again(cut(*(ConnectionCut(str(n)) for n in range(1, 9))))


@pytest.mark.parametrize("error", [PeerUnreachable("refused"), PeerRefused("no")])
def test_who_refuses_or_is_silent_is_not_asked_again(error: ShardkeeperError) -> None:
    ask = cut(error)
    with pytest.raises(type(error)):
        asked_again(ask)
    assert ask() == 7


def test_a_run_that_gives_up_does_not_ask_again() -> None:
    with pytest.raises(ConnectionCut):
        asked_again(cut(ConnectionCut("a")), given_up=lambda: True)


@pytest.mark.parametrize(
    ("error", "phase", "is_cut"),
    [
        (ConnectionResetError(104, "reset"), "reading", True),
        (BrokenPipeError(32, "pipe"), "reading", True),
        (ssl.SSLEOFError(8, "EOF"), "reading", True),
        (ConnectionResetError(104, "reset"), "connecting", True),
        (ConnectionRefusedError(111, "refused"), "connecting", False),
        (TimeoutError(), "reading", False),
        (ssl.SSLError(1, "bad"), "reading", False),
    ],
)
def test_only_a_connection_that_was_there_can_be_cut(
    error: Exception, phase: str, *, is_cut: bool
) -> None:
    if isinstance(error, ssl.SSLError):
        error.reason = "SOME_REASON"
    with pytest.raises(PeerUnreachable) as caught, Reaching("a:1", phase):
        raise error
    assert isinstance(caught.value, ConnectionCut) is is_cut


@contextmanager
def cutting(upstream: str, *faults: Fault) -> Generator[Proxy]:
    """A way to it on which each of the next connections is cut."""
    with Proxy(upstream) as proxy:
        proxy.break_next(*faults, chosen=lambda _: True)
        yield proxy


FAULTS = (Reset(0), Cut(0), Reset(10), Cut(30))


@pytest.mark.wire
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_looks_at_a_real_server_survive_a_cut(influxd: Influxd, fault: Fault) -> None:
    with cutting(influxd.bind_addr, fault, fault) as proxy:
        client = SnapshotterClient(proxy.address)
        assert client.metastore() == SnapshotterClient(influxd.bind_addr).metastore()
        assert not proxy.pending
        proxy.break_next(fault, chosen=lambda _: True)
        assert client.shard_paths() == SnapshotterClient(influxd.bind_addr).shard_paths()
    with cutting(influxd.http_addr, Reset(0)) as proxy:
        http = InfluxHTTP(f"http://{proxy.address}")
        assert http.ping().version
        assert not proxy.pending
    with cutting(influxd.http_addr, Cut(400)) as proxy:
        assert InfluxHTTP(f"http://{proxy.address}").server_vars().started_ns
        assert not proxy.pending


@pytest.mark.wire
def test_a_statement_is_reported_twice_only_if_it_may_be(influxd: Influxd) -> None:
    with cutting(influxd.http_addr, Reset(0)) as proxy:
        http = InfluxHTTP(f"http://{proxy.address}")
        with pytest.raises(ConnectionCut):
            http.query("SHOW DATABASES")
    with cutting(influxd.http_addr, Reset(0)) as proxy:
        http = InfluxHTTP(f"http://{proxy.address}")
        assert http.query("SHOW DATABASES", again=True) is not None
        assert not proxy.pending


def test_what_removes_is_reported_once() -> None:
    asked: list[bytes] = []

    def cuts(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        reset(connection)

    with peer(cuts) as address, pytest.raises(UnknownOutcome):
        CoordinatorClient(address, timeout_s=5).remove_shard(ShardID(1))
    assert len(asked) == 1


WHOLE = b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.8.10\r\nX-Influxdb-Build: OSS\r\n\r\n"


@pytest.mark.parametrize("at", range(1, len(WHOLE)))
def test_a_reply_cut_in_its_headers_is_no_reply(at: int) -> None:
    """The standard library takes it for one that has fewer headers."""
    with peer(answers(WHOLE[:at])) as address, pytest.raises(ConnectionCut):
        InfluxHTTP(f"http://{address}", timeout_s=5).ping()
    with peer(answers(WHOLE)) as address:
        assert InfluxHTTP(f"http://{address}", timeout_s=5).ping().version == "1.8.10"
