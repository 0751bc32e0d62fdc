"""What a worker and the process that started it write to each other, and share."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest

from resources.clients.address import AddressMap
from resources.clients.source_address import Address
from resources.engine.events import (
    Event,
    Progress,
    ShardDamaged,
    ShardFailed,
    ShardGone,
    ShardReadAgain,
    ShardRetried,
    ShardSaved,
    Warned,
)
from resources.engine.workers.lines import (
    BatchLine,
    ErrorLine,
    EventLine,
    Line,
    WorkerSpec,
    event_line,
    event_of,
)
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.records import StoredError
from resources.engine.workers.sharing import in_turn
from resources.errors import Stopped, StoreFailed
from resources.model import ShardID
from tests import builders as b
from tests.resources.repository.objects import in_child

EVENTS: list[Event] = [
    Warned("a"),
    Progress(1, 3, 1000),
    ShardSaved("data-4:8088", b.entry(1, b.details(b.file(), proof=b.proof())), 0.5),
    ShardGone(b.place(2, 4)),
    ShardReadAgain(b.place(2, 4)),
    ShardFailed(ShardID(3), "why"),
    ShardDamaged(ShardID(3), "why"),
    ShardRetried(ShardID(3), "why", 2, 0.25),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_of_a_worker_arrives_as_it_was(event: Event) -> None:
    line = msgspec.json.decode(msgspec.json.encode(event_line(event)), type=Line)
    assert isinstance(line, EventLine)
    again = event_of(line)
    assert (type(again), again) == (type(event), event)


def test_an_event_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no event is called Path"):
        event_of(EventLine("Path", msgspec.Raw(b'["/etc"]')))


@pytest.mark.parametrize(
    "line",
    [BatchLine("b0", "done"), ErrorLine(StoredError.of(StoreFailed("full")), fatal=False)],
)
def test_other_lines_arrive_as_they_were(line: Line) -> None:
    assert msgspec.json.decode(msgspec.json.encode(line), type=Line) == line


def test_a_worker_reaches_the_source_by_the_same_address() -> None:
    at = Address(host="h:8088", user="u", password="p", route=AddressMap.parse(["a:1=b:2"]))
    spec = WorkerSpec(at, "backups", ".shardkeeper.run-a", b.stamp(0), 1, 2, 5)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=WorkerSpec) == spec


def test_workers_begin_with_different_batches_and_then_with_those_of_idle_nodes() -> None:
    free = {"b0n0": "free", "b1n1": "free", "b2n0": "free"}
    assert [in_turn(free, number)[0] for number in range(3)] == [*free]
    busy = {"b0n0": "claimed", "b1n0": "free", "b2n1": "free"}
    assert in_turn(busy, 1) == ["b2n1", "b1n0", "b0n0"]


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def stopped() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_slots_of_a_node_are_those_of_all_processes_and_their_threads(fd: int) -> None:
    slots, going_on = NodeSlots(fd, 2), threading.Event()

    def take(node: str, *, times: int = 1) -> str:
        def deed() -> None:
            theirs = NodeSlots(fd, 2)
            with ExitStack() as held:
                for _ in range(times):
                    held.enter_context(theirs.one(node, stopped()))

        return in_child(deed)

    assert take("a", times=2) == ""
    with slots.one("a", going_on):
        assert take("a") == ""
        assert "Stopped" in take("a", times=2)
        assert take("b", times=2) == ""
        with slots.one("a", going_on):
            assert "Stopped" in take("a")
            with pytest.raises(Stopped), slots.one("a", stopped()):
                pass
        assert take("a") == ""
    assert os.fstat(fd).st_size == 0
