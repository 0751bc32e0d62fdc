"""What a worker process and the one that started it write to each other: a line of JSON each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args

import msgspec

from resources.clients.source_address import Address
from resources.engine.events import Event
from resources.engine.workers.records import StoredError


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker has to know beyond the records of the run.

    Attributes:
        address: of the source or the target.
        location: of the repository.
        stage, backup: of the run; a restore has no backup to name.
        number: tells it from the run's other workers.
        parallel: its connections at once.
        slots: the descriptor of `NodeSlots`, inherited; None: no limit for a node.
        per_node: that limit.
        records: the store that the stage is in; empty: the repository's.
        lease: under which number the run holds the cluster's lease, and when it renewed it last,
            by the clock of the boot; None: it holds none.
    """

    address: Address
    location: str
    stage: str
    backup: str = ""
    number: int = 0
    parallel: int = 1
    slots: int | None = None
    per_node: int | None = None
    records: str = ""
    lease: tuple[int, float] | None = None


class EventLine(msgspec.Struct, frozen=True, tag="event"):
    """An event, by its type's name and its fields."""

    kind: str
    fields: msgspec.Raw


class BatchLine(msgspec.Struct, frozen=True, tag="batch"):
    """A batch is begun, is done, or was taken over by another worker."""

    name: str
    state: Literal["begun", "done", "taken"]


class ErrorLine(msgspec.Struct, frozen=True, tag="error"):
    """The worker ends with an error."""

    error: StoredError
    fatal: bool = True
    """Whether the run ends, too; False: this worker alone could not begin."""


Line = EventLine | BatchLine | ErrorLine


@cache
def _events() -> Mapping[str, Any]:
    return {kind.__name__: kind for kind in get_args(Event)}


def event_line(event: Event) -> EventLine:
    """The line of an event."""
    return EventLine(type(event).__name__, msgspec.Raw(msgspec.json.encode(event)))


def event_of(line: EventLine) -> Event:
    """The event of a line.

    Raises:
        ValueError: there is no such event.
    """
    kind = _events().get(line.kind)
    if kind is None:
        raise ValueError(f"no event is called {line.kind}")
    return msgspec.json.decode(line.fields, type=kind)
