"""Restores into one cluster come one after the other, and do not wait for a run that has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.clients.meta import MetaClient
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.events import Event, Run
from resources.engine.restore import lease
from resources.engine.restore.lease import NAME, NUMBER_FILE, holding_lease
from resources.errors import (
    PeerClosedEarly,
    PeerUnreachable,
    ShardkeeperError,
    TargetBusy,
    UnknownOutcome,
    WireError,
)
from resources.model import NodeID
from resources.protocol.meta_api import Lease
from resources.repository.storage.lock import LEASE_VARIABLE
from resources.repository.storage.store import DirectoryStore


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster"), meta_nodes=1, data_nodes=1) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(cluster: EmbeddedCluster) -> None:
    cluster.meta[0].leases.forget()
    cluster.meta[0].leases.duration_s = lease.LEASE_S


@pytest.fixture
def stores(tmp_path: Path) -> list[DirectoryStore]:
    return [DirectoryStore.make(tmp_path / name) for name in ("one", "two", "three")]


class Asking:
    """Runs that ask the cluster's leader for the lease."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.meta = MetaClient(cluster.meta[0].http_addr)
        self.reported: list[Event] = []
        self.lost = threading.Event()
        self.stop = threading.Event()

    def hold(self, store: DirectoryStore):
        return holding_lease(
            self.meta, store, Run(self.reported.append, self.stop), lost=self.lost.set
        )

    def killed(self, store: DirectoryStore) -> NodeID:
        """A run that dies while it holds the lease."""
        number = NodeID(77)
        (store.path / NUMBER_FILE).write_text("77\n")
        assert self.meta.lease(NAME, number).owner == number
        return number


@pytest.fixture
def asking(cluster: EmbeddedCluster) -> Asking:
    return Asking(cluster)


def test_who_has_ended_is_not_waited_for_from_any_directory(
    asking: Asking, stores: list[DirectoryStore]
) -> None:
    numbers = set[NodeID]()
    for store in [*stores, *stores, stores[0]]:
        with asking.hold(store) as held:
            held.check()
            numbers.add(held.number)
            assert (store.path / NUMBER_FILE).exists()
        assert store.names() == {}
    assert asking.reported == []
    assert len(numbers) == 1  # the lease went from one to the next, and was never free


def test_what_earlier_runs_left_stands_in_nobody_s_way(
    cluster: EmbeddedCluster,
    asking: Asking,
    stores: list[DirectoryStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a minute the name of the first mark is free again, and the one behind it is not yet."""
    passed_ns = 0
    monkeypatch.setattr(cluster.meta[0].leases, "now_ns", lambda: time.time_ns() + passed_ns)
    for pause_s in (9, 9, 9, 9, 1, 1, 1):
        with asking.hold(stores[0]):
            passed_ns += 5 * 10**9
        passed_ns += pause_s * 10**9
    assert asking.reported == []


def test_a_new_leader_that_never_heard_of_the_lease_makes_nobody_wait(
    cluster: EmbeddedCluster, asking: Asking, stores: list[DirectoryStore]
) -> None:
    for store in [*stores, stores[0]]:
        with asking.hold(store):
            cluster.meta[0].leases.forget()
    assert asking.reported == []


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_lease_is_given_back_while_a_leader_is_elected(
    cluster: EmbeddedCluster,
    asking: Asking,
    stores: list[DirectoryStore],
    monkeypatch: pytest.MonkeyPatch,
    *,
    comes_back: bool,
) -> None:
    monkeypatch.setattr(lease, "MARK_PAUSE_S", 0.01)
    if not comes_back:
        monkeypatch.setattr(lease, "MARK_WITHIN_S", 0.05)
    ask, failures = asking.meta.lease, 3 if comes_back else 10**6

    def lease_of(name: str, number: NodeID, *, once: bool = False) -> Lease:
        nonlocal failures
        if once and failures:
            failures -= 1
            raise PeerUnreachable("n:8091: no leader (HTTP 503)")
        return ask(name, number, once=once)

    monkeypatch.setattr(asking.meta, "lease", lease_of)
    with asking.hold(stores[0]):
        pass
    if comes_back:
        with asking.hold(stores[1]):
            assert asking.reported == []
    else:
        assert "do not take back this run's lease" in str(asking.reported[0])


def test_who_has_done_everything_is_not_stopped_by_a_lease_that_was_lost(
    cluster: EmbeddedCluster,
    asking: Asking,
    stores: list[DirectoryStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "0.1")
    with asking.hold(stores[0]):
        cluster.meta[0].leases.forget()
        assert asking.meta.lease(NAME, NodeID(5)).owner == 5
        assert asking.lost.wait(30)
        assert asking.stop.is_set()
    assert not asking.stop.is_set()
    assert [str(event) for event in asking.reported] == [
        "warning: all was done when the lease of the cluster was lost"
    ]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (PeerClosedEarly("n:8088: broken pipe"), TargetBusy),
        (UnknownOutcome("n:8088: no answer"), UnknownOutcome),
    ],
)
def test_a_request_that_was_broken_off_with_the_lease_is_not_the_error(
    asking: Asking,
    stores: list[DirectoryStore],
    monkeypatch: pytest.MonkeyPatch,
    failure: WireError,
    expected: type[ShardkeeperError],
) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, "0.1")
    now_s = 1000.0
    monkeypatch.setattr(lease, "passed_s", lambda: now_s)
    failure.add_note("a database is left")

    def stand_still() -> None:
        nonlocal now_s
        now_s += 73
        assert asking.lost.wait(30)
        raise failure

    with pytest.raises(expected) as caught, asking.hold(stores[0]):
        stand_still()
    assert caught.value.__notes__ == ["a database is left"]


def test_a_request_that_fails_while_the_lease_is_held_stays_the_error(
    asking: Asking, stores: list[DirectoryStore]
) -> None:
    with pytest.raises(PeerClosedEarly), asking.hold(stores[0]):
        raise PeerClosedEarly("n:8088: broken pipe")


def test_a_failed_restore_is_not_waited_for_either(
    asking: Asking, stores: list[DirectoryStore]
) -> None:
    with pytest.raises(ZeroDivisionError), asking.hold(stores[0]):
        raise ZeroDivisionError
    with asking.hold(stores[1]):
        assert asking.reported == []


def test_who_holds_it_is_never_taken_for_one_who_has_ended(
    asking: Asking, stores: list[DirectoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    with asking.hold(stores[0]):
        pass
    with asking.hold(stores[1]) as heir:
        renewing = threading.Timer(0.3, heir.renew)
        renewing.start()
        with pytest.raises(TargetBusy, match="is at work"), asking.hold(stores[2]):
            pytest.fail("two at once")
        renewing.join()
        assert stores[2].names() == {}
        # Not from the directory either whose number the heir goes on with.
        renewing = threading.Timer(0.3, heir.renew)
        renewing.start()
        with pytest.raises(TargetBusy, match="is at work"), asking.hold(stores[0]):
            pytest.fail("two at once")
        renewing.join()
        assert not asking.lost.is_set()


def test_of_those_who_wait_exactly_one_comes_next(
    asking: Asking, stores: list[DirectoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.01)
    inside, most, came = 0, 0, list[str]()
    mutex = threading.Lock()
    ready = threading.Event()

    def wait(store: DirectoryStore) -> None:
        nonlocal inside, most
        try:
            with asking.hold(store):
                with mutex:
                    inside += 1
                    most = max(most, inside)
                    came.append(store.path.name)
                ready.wait(0.2)
                with mutex:
                    inside -= 1
        except TargetBusy:
            return

    with asking.hold(stores[0]):
        threads = [threading.Thread(target=wait, args=(store,)) for store in stores[1:]]
        for thread in threads:
            thread.start()
        ready.wait(0.2)
    for thread in threads:
        thread.join()
    assert most == 1
    assert came


def test_the_next_run_from_the_directory_of_a_killed_one_goes_on_at_once(
    asking: Asking, stores: list[DirectoryStore]
) -> None:
    number = asking.killed(stores[0])
    with asking.hold(stores[0]) as held:
        assert held.number == number
    assert asking.reported == []
    assert stores[0].names() == {}


def test_the_lease_of_a_run_killed_elsewhere_ends_by_itself(
    cluster: EmbeddedCluster,
    asking: Asking,
    stores: list[DirectoryStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    cluster.meta[0].leases.duration_s = 0.5
    asking.killed(stores[0])
    with asking.hold(stores[1]):
        assert "was at work a moment ago or was killed" in str(asking.reported[0])
        assert "going on" in str(asking.reported[-1])


@pytest.mark.fault(37)
def test_a_run_that_stood_still_past_its_lease_changes_nothing_more(
    asking: Asking, stores: list[DirectoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(lease, "passed_s", lambda: now_s)
    with asking.hold(stores[0]) as held:
        now_s += lease.LOST_AFTER_S
        held.check()
        now_s += 73
        with pytest.raises(TargetBusy, match="stood still or was cut off for 123 s"):
            held.check()
        assert not held.renew()


@pytest.mark.fault(37)
def test_a_run_whose_leader_gave_the_lease_to_another_changes_nothing_more(
    cluster: EmbeddedCluster, asking: Asking, stores: list[DirectoryStore]
) -> None:
    """A leader that was restarted knows of no lease, and gives it to the next run that asks."""
    with asking.hold(stores[0]) as held:
        held.check()
        cluster.meta[0].leases.forget()
        assert asking.meta.lease(NAME, NodeID(5)).owner == 5
        assert not held.renew()
        with pytest.raises(TargetBusy, match="another restore holds the lease"):
            held.check()


def test_a_number_that_cannot_be_read_is_no_number(
    asking: Asking, stores: list[DirectoryStore]
) -> None:
    for raw in (b"", b"0", b"-1", b"x" * 500, b"9" * 19, b"\xff", "٣".encode()):
        (stores[0].path / NUMBER_FILE).write_bytes(raw)
        with asking.hold(stores[0]) as held:
            assert 0 < held.number < 2**lease.BITS
