"""Any meta node can serve a run: one that is away is passed over, and none is asked `/status`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.clients import connect, meta_nodes
from resources.clients.address import AddressMap, HostPort, split_host_port
from resources.clients.cluster import Cluster
from resources.clients.meta import MetaClient
from resources.clients.meta_nodes import MetaNodes
from resources.embedded.cluster import EmbeddedCluster
from resources.engine.cluster.metastore_reading import confirmed_reading
from resources.errors import PeerUnreachable, UnknownOutcome, UsageError
from resources.model import NodeID
from resources.protocol.commands import DropDatabase
from tests.faults.trouble import Slow
from tests.resources.clients.meta_script import APPLIED, DROP, client, http, meta_node
from tests.resources.clients.peer import closed_port, peer, silent

TIME_OUT_S = 1.0
RESOURCES = Path(__file__).parents[3] / "resources"


def test_what_can_freeze_a_meta_node_is_asked_nowhere() -> None:
    asked = re.compile(r"""["'](GET )?/(status|peers)\b""")
    product = [p for p in RESOURCES.rglob("*.py") if "embedded" not in p.parts]
    product += (RESOURCES.parent / "assets").rglob("*.py")
    product += (RESOURCES.parent / "pipelines").rglob("*.py")
    assert len(product) > 100
    assert not [path for path in product if asked.search(path.read_text())]


def test_several_addresses_may_be_named() -> None:
    with meta_node(lambda what, _who, _body: http(200, APPLIED)) as address:
        meta = client(f"{closed_port()}, {address}")
        assert meta.execute(DROP) == 11
        assert meta.bind != address
    with pytest.raises(UsageError):
        MetaClient("meta-1:8091,,")


def test_a_run_goes_on_when_the_meta_node_that_was_named_dies(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path, meta_nodes=3, data_nodes=1) as cluster:
        meta = MetaClient(cluster.meta[1].http_addr, timeout_s=5)
        meta.metastore()  # the others are in it
        cluster.meta[1].stop()
        assert meta.members().meta
        assert meta.lease("shardkeeper", NodeID(7)).owner == 7
        assert meta.execute(DropDatabase("none")) >= 1
        assert meta.metastore()[1].meta_nodes


def test_a_silent_meta_node_costs_its_time_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.clients.meta.ASK_S", 0.3)
    with EmbeddedCluster(tmp_path, meta_nodes=3, data_nodes=1) as cluster:
        named = cluster.meta[2]
        meta = MetaClient(named.http_addr, timeout_s=5)
        meta.metastore()
        asked: list[bool] = []
        named.silent = True
        nodes = meta._nodes  # pyright: ignore[reportPrivateUsage]
        for _ in range(5):
            asked.append(nodes.in_turn()[0] == split_host_port(named.http_addr, 8091))
            meta.members()
    assert asked == [True, False, False, False, False]


def test_the_first_question_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(meta_nodes.time, "sleep", slept.append)
    with pytest.raises(PeerUnreachable):
        client(f"{closed_port()},{closed_port()}").leader()
    assert not slept


def test_a_command_that_may_have_been_taken_is_not_sent_again() -> None:
    heard: list[str] = []

    def note(what: str, _who: str, _body: bytes) -> bytes:
        heard.append(what)
        return b""

    with meta_node(note) as one, meta_node(note) as other, pytest.raises(UnknownOutcome):
        client(f"{one},{other}").execute(DROP)
    assert len(heard) == 1


def test_who_did_not_answer_is_asked_last_and_not_followed_to() -> None:
    first, second = split_host_port("a:1", 1), split_host_port("b:1", 1)
    nodes = MetaNodes([first, second])
    with pytest.raises(PeerUnreachable), nodes.noting(first):
        raise PeerUnreachable("a:1: no answer")
    assert nodes.in_turn() == [second, first]
    with pytest.raises(PeerUnreachable, match="does not answer"):
        nodes.hop(first)
    with pytest.raises(PeerUnreachable), nodes.noting(second):
        raise PeerUnreachable("b:1: no leader (HTTP 503)")
    assert nodes.hop(second) == second


def test_who_was_away_is_asked_briefly_before_anything_else_is_asked_of_it() -> None:
    """While there is no leader each round would cost the time-out of the node that stands still."""
    first, second = split_host_port("a:1", 1), split_host_port("b:1", 1)
    there, asked = False, list[str]()
    nodes = MetaNodes([first, second], lambda _: there)
    nodes.note_away(second)

    def ask(address: HostPort) -> int:
        asked.append(str(address))
        if address == first:
            raise PeerUnreachable("a:1: no leader (HTTP 503)")
        return 7

    with pytest.raises(PeerUnreachable, match="no leader"):
        nodes.ask(ask)
    assert asked == ["a:1"]
    there = True
    assert nodes.ask(ask) == 7
    assert not nodes.is_away(second)
    nodes.note_away(first)
    nodes.note_away(second)
    there = False
    with pytest.raises(PeerUnreachable, match="does not answer"):
        nodes.ask(ask, once=True)


def test_of_several_that_are_named_one_that_stands_still_costs_a_moment_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "BRIEF_S", 0.3)
    with (
        EmbeddedCluster(tmp_path, meta_nodes=2, data_nodes=1) as cluster,
        peer(silent) as still,
    ):
        began = time.monotonic()
        bind = f"{still},{cluster.meta[1].http_addr}"
        with_cluster = connect.open_source(connect.Address(bind=bind, timeout_s=30))
        assert isinstance(with_cluster, Cluster)
        for _ in range(3):
            assert with_cluster.metastore()[1].meta_nodes
        assert with_cluster.meta.is_away(split_host_port(still, 8091))
        assert time.monotonic() - began < 8  # a time-out is 10 or 30 s
        with pytest.raises(PeerUnreachable):  # alone it is waited for
            connect.open_source(connect.Address(bind=still, timeout_s=0.5))


def test_a_meta_node_without_an_index_is_not_asked_for_it_again(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path, meta_nodes=3, data_nodes=1) as cluster:
        meta = MetaClient(cluster.meta[0].http_addr, timeout_s=5)
        other = split_host_port(cluster.meta[1].http_addr, 8091)
        assert meta.index_of(other, timeout_s=5)
        cluster.meta[1].silent = True
        with pytest.raises(PeerUnreachable):
            meta.index_of(other, timeout_s=5)
        assert meta.is_away(other)


def test_a_leader_that_another_led_to_in_vain_is_not_asked_itself() -> None:
    follower, leader = split_host_port("a:1", 1), split_host_port("b:1", 1)
    nodes = MetaNodes([follower, leader])
    asked: list[str] = []

    def ask(address: HostPort) -> int:
        asked.append(str(address))
        with nodes.noting(leader):
            raise PeerUnreachable("b:1: meta node does not answer in time")

    for _ in range(2):
        with pytest.raises(PeerUnreachable):
            nodes.ask(ask)
    assert asked == ["a:1", "a:1", "b:1"]  # the second time nothing better is known


def test_a_node_that_had_no_news_is_not_away() -> None:
    node = split_host_port("a:1", 1)
    nodes = MetaNodes([node])
    with pytest.raises(PeerUnreachable), nodes.noting(node, may_wait=True):
        raise PeerUnreachable("a:1: meta node does not answer in time")
    assert not nodes.is_away(node)


@pytest.fixture
def slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """A cluster with a metastore that does not come over a slow way in time."""
    monkeypatch.setattr("resources.engine.cluster.metastore_reading.OTHERS_TIMEOUT_S", TIME_OUT_S)
    with EmbeddedCluster(tmp_path, meta_nodes=3, data_nodes=1) as cluster:
        for at in range(40):
            cluster.query(f"CREATE DATABASE a_database_with_a_long_name_{at}")
        yield cluster


@pytest.mark.parametrize("leads", [True, False])
def test_a_slow_meta_node_costs_its_time_out_once(
    slow_one: EmbeddedCluster, *, leads: bool
) -> None:
    leader = str(MetaClient(slow_one.meta[0].http_addr).leader())
    others = [node.http_addr for node in slow_one.meta if node.http_addr != leader]
    slow = Slow(leader if leads else others[0])
    slow.slow.set()
    meta = MetaClient(others[1], timeout_s=TIME_OUT_S, route=AddressMap.parse([slow.way]))
    cluster = Cluster(meta)
    began = time.monotonic()
    for _ in range(12):
        seen = confirmed_reading(cluster)
        assert len(seen.metastore.databases) == 40
    took_s = time.monotonic() - began
    slow.close()
    assert meta.is_slow(split_host_port(slow.way.partition("=")[0], 8091))
    assert took_s < 11 * TIME_OUT_S  # of its time-out, at each look: 12 or 24 times


def test_of_a_slow_leader_nothing_older_than_what_it_knows_is_taken(
    slow_one: EmbeddedCluster,
) -> None:
    meta = MetaClient(slow_one.meta[0].http_addr, timeout_s=TIME_OUT_S)
    leader = meta.leader()
    behind = next(at for at, node in enumerate(slow_one.meta) if node.http_addr != str(leader))
    slow = Slow(str(leader))
    slow.slow.set()
    stale = slow_one.meta[behind]
    meta = MetaClient(stale.http_addr, timeout_s=TIME_OUT_S, route=AddressMap.parse([slow.way]))
    meta.metastore()
    slow_one.stale(behind)
    slow_one.query("CREATE DATABASE newest")
    for _ in range(3):
        assert meta.metastore()[1].database("newest") is not None
    slow.close()
