"""A peer that is away is not waited for twice, and who kills a server is found out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from resources.clients import peers, snapshotter
from resources.clients.peers import Crashes, Peer, all_away
from resources.clients.snapshotter import SnapshotterClient
from resources.errors import (
    ArchiveCorrupt,
    PeerAway,
    PeerClosedEarly,
    PeerSilent,
    PeerUnreachable,
    ShardkeeperError,
    ShardLeftAlone,
    WireError,
)
from resources.model import ShardID
from tests.resources.clients.peer import peer as listening
from tests.resources.clients.peer import silent

ONE, TWO = ShardID(1), ShardID(2)
REFUSED = PeerUnreachable("data-1:8088: connection refused while connecting", hint="is it up?")


class Asked:
    """What a peer answers when it is asked briefly, and how often it was."""

    def __init__(self, *, there: bool) -> None:
        self.there, self.times = there, 0

    def __call__(self) -> bool:
        self.times += 1
        return self.there


def fail(peer: Peer, error: ShardkeeperError, aborted: Callable[[], bool] = lambda: False) -> None:
    with suppress(type(error)), peer.exchange(aborted):
        raise error


def broken(peer: Peer, shard_id: ShardID, error: ShardkeeperError) -> None:
    with suppress(type(error)), peer.reading(shard_id, whole=True):
        raise error


def test_who_does_not_answer_is_not_asked_again_at_once() -> None:
    asked = Asked(there=False)
    peer = Peer("data-1:8088", asked)
    fail(peer, REFUSED)
    for _ in range(100):
        with pytest.raises(PeerAway, match="refused while connecting; not tried again"):
            peer.require_answering()
    assert asked.times == 1
    assert all_away([peer])
    assert not all_away([peer, Peer("data-2:8088", asked)])


def test_its_turn_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SHORT_PAUSE_S", 0.0)
    asked = Asked(there=False)
    peer = Peer("data-1:8088", asked)
    fail(peer, REFUSED)
    asked.there = True
    peer.require_answering()
    assert peer.why_away is None


def test_who_answers_briefly_may_be_silent_once() -> None:
    peer = Peer("data-1:8088", Asked(there=True))
    fail(peer, PeerSilent("data-1:8088: no answer while reading shard 1"))
    assert peer.why_away is None
    fail(peer, PeerSilent("data-1:8088: no answer while reading shard 2"))
    assert peer.why_away is not None


def test_what_we_break_off_says_nothing_of_the_peer() -> None:
    peer = Peer("data-1:8088", Asked(there=False))
    fail(peer, REFUSED, aborted=lambda: True)
    assert peer.why_away is None


def test_a_return_is_waited_for_as_long_as_that_takes_at_most() -> None:
    asked, stop = Asked(there=False), threading.Event()
    peer = Peer("data-1:8088", asked)
    assert peer.await_return(stop, 10)
    fail(peer, REFUSED)
    assert not peer.await_return(stop, 0.05)
    again = threading.Timer(0.1, setattr, (asked, "there", True))
    again.start()
    assert peer.await_return(stop, 30)
    again.join()


def test_a_shard_that_kills_its_server_twice_when_alone_is_left_alone() -> None:
    asked = Asked(there=False)
    peer = Peer("data-1:8088", asked)
    cut = PeerClosedEarly("data-1:8088: empty reply while reading shard 1")
    with peer.reading(TWO, whole=True):
        broken(peer, ONE, cut)
    assert peer.crashes.counts == {ONE: 1}  # a reader that comes to its end is not the cause
    asked.there = True
    assert peer.await_return(threading.Event(), 1)
    asked.there = False
    broken(peer, ONE, ArchiveCorrupt("it ends inside a member"))
    with pytest.raises(ShardLeftAlone, match=r"shard 1 is left alone: .* 2 times"):
        broken(peer, ONE, cut)
    asked.there = True
    assert peer.await_return(threading.Event(), 1)
    with peer.reading(TWO, whole=True):
        pass


def test_a_crash_that_another_request_meets_first_is_counted_once() -> None:
    asked = Asked(there=False)
    peer = Peer("data-1:8088", asked)
    cut = PeerClosedEarly("data-1:8088: empty reply while reading a shard")
    with (
        suppress(PeerClosedEarly),
        peer.reading(ONE, whole=True),
        peer.reading(TWO, whole=True),
    ):
        fail(peer, REFUSED)
        raise cut
    assert peer.crashes.counts == {ONE: 1, TWO: 1}


def test_a_stream_that_is_silent_when_its_server_goes_away_is_no_suspect() -> None:
    peer = Peer("data-1:8088", Asked(there=False))
    with suppress(PeerSilent), peer.reading(ONE, whole=True):
        fail(peer, REFUSED)
        raise PeerSilent("no answer here either")
    assert not peer.crashes.counts


def test_a_server_that_is_back_at_once_is_known_by_its_start() -> None:
    peer = Peer("influx:8088", Asked(there=True))
    broken(peer, ONE, PeerClosedEarly("influx:8088: empty reply"))
    assert not peer.crashes.counts
    peer.restarted = lambda: True
    broken(peer, ONE, PeerClosedEarly("influx:8088: empty reply"))
    assert peer.crashes.counts == {ONE: 1}
    assert peer.why_away is None


def test_a_way_that_was_cut_is_no_crash() -> None:
    asked = Asked(there=False)
    peer = Peer("influx:8088", asked)
    peer.restarted = lambda: False
    for _ in range(3):
        asked.there = False
        broken(peer, ONE, PeerClosedEarly("influx:8088: empty reply"))
        assert peer.crashes.counts == {ONE: 1}
        asked.there = True
        assert peer.await_return(threading.Event(), 1)
        assert not peer.crashes.counts


def test_suspects_are_read_alone() -> None:
    peer = Peer("data-1:8088", Asked(there=True))
    peer.crashes.suspect(ONE, 1)
    order: list[str] = []
    entered = threading.Event()

    def read() -> None:
        entered.set()
        with peer.reading(ONE, whole=True):
            order.append("suspect")

    with peer.reading(TWO, whole=True):
        thread = threading.Thread(target=read)
        thread.start()
        entered.wait(10)
        with peer.reading(TWO, whole=False):  # a second look while the first is read
            order.append("other")
    thread.join()
    assert order == ["other", "suspect"]
    assert not peer.crashes.counts  # it was read to its end


def test_a_poll_at_newer_files_clears_nobody() -> None:
    crashes = Crashes()
    peer = Peer("data-1:8088", Asked(there=True), crashes)
    crashes.suspect(ONE, 1)
    with peer.reading(ONE, whole=False):
        pass
    assert crashes.counts == {ONE: 1}


@pytest.mark.parametrize("may_take_long", [False, True])
def test_who_waits_for_a_peer_that_is_away_is_broken_off(
    monkeypatch: pytest.MonkeyPatch, *, may_take_long: bool
) -> None:
    """Unless it puts in its place what it was sent, which may take long."""
    monkeypatch.setattr(snapshotter, "BRIEFLY_S", 0.2)
    errors: list[WireError] = []
    with listening(silent) as address:
        client = SnapshotterClient(address, timeout_s=60)

        def wait() -> None:
            try:
                if may_take_long:
                    with client.upload(ShardID(7)) as upload:
                        upload.finish()
                else:
                    client.metastore()
            except WireError as error:
                errors.append(error)

        waits = threading.Thread(target=wait)
        waits.start()
        time.sleep(0.5)
        with pytest.raises(PeerSilent), client.peer.exchange():
            raise PeerSilent("no answer")
        waits.join(timeout=2 if may_take_long else 20)
        assert waits.is_alive() is may_take_long
        client.abort()
        waits.join(timeout=20)
    [error] = errors
    assert ("no answer here either" in str(error)) is not may_take_long
