"""A worker: a process that does batches of a backup which another process plans and commits.

It gets a `WorkerSpec` as the first line of its standard input, and ends early when that input
does, however the other process ended. It writes a line for each event, and for the error that ended
it. It changes the repository only by the batches that it claims, so it may be killed at any time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import cache
from typing import Any, BinaryIO, get_args

import msgspec
from msgspec.structs import replace

from resources.clients.connect import open_source
from resources.clients.source import Source
from resources.clients.source_address import Address
from resources.engine.backup.batch import BackupBatch, StoredError
from resources.engine.backup.batch_plan import node_of
from resources.engine.backup.copying import copy_batch
from resources.engine.backup.node_slots import NodeSlots
from resources.engine.events import Event, Run
from resources.engine.options import BackupOptions
from resources.errors import BatchTaken, ShardkeeperError, WireError
from resources.model import ShardID
from resources.repository.batches import RunBatches
from resources.repository.repository import BackupRepository

POLL_S = 0.1
GRACE_S = 10
"""For a worker that shall end, before it ends itself."""


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker has to know beyond the records of the run.

    Attributes:
        location: of the repository.
        stage, backup: of the run.
        number: tells it from the run's other workers.
        parallel: its connections at once.
        slots: the descriptor of `NodeSlots`, inherited; None: no limit for a node.
    """

    address: Address
    location: str
    stage: str
    backup: str
    number: int
    parallel: int
    slots: int | None = None


class EventLine(msgspec.Struct, frozen=True, tag="event"):
    """An event, by its type's name and its fields."""

    kind: str
    fields: msgspec.Raw


class BatchLine(msgspec.Struct, frozen=True, tag="batch"):
    """A batch is done, or was taken over by another worker."""

    name: str
    done: bool


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


def in_turn(batches: Mapping[str, str], number: int) -> list[str]:
    """The batches that are not done, in the order in which a worker tries to claim them.

    Free ones come first, those of nodes with the fewest workers before others, and large ones
    before small ones. Claimed ones follow: their workers may have died.

    Args:
        batches: the state of each, in the order of their size.
        number: of the worker; several that begin at once begin with different batches.
    """
    busy: dict[str, int] = {}
    for name, state in batches.items():
        if state == "claimed":
            busy[node_of(name)] = busy.get(node_of(name), 0) + 1
    free = [name for name, state in batches.items() if state == "free"]
    free.sort(key=lambda name: busy.get(node_of(name), 0))
    at = number % len(free) if free and not busy else 0
    return free[at:] + free[:at] + [name for name, state in batches.items() if state == "claimed"]


class Worker:
    """One worker, from its start until every batch of the run is done."""

    def __init__(self, spec: WorkerSpec, out: BinaryIO) -> None:
        self._spec = spec
        self._out = out
        self.run = Run(self._emit)
        self._source: Source | None = None
        self._ended = threading.Event()

    def work(self) -> None:
        """Do batches until none is left.

        Raises:
            ShardkeeperError: the run cannot go on.
        """
        try:
            source = self._source = open_source(self._spec.address)
        except WireError as error:  # the plan has reached it; what is left of it, others do
            self.fail(error, fatal=False)
            return
        repository = BackupRepository.open(self._spec.location)
        store = repository.store
        stage = store.join(self._spec.stage)
        with closing(RunBatches(store, stage, self._spec.backup, set())) as batches:
            while left := {n: s for n, s in batches.states().items() if s != "done"}:
                self.run.check("the backup was complete")
                if not any(
                    self._do(source, repository, batches, name)
                    for name in in_turn(left, self._spec.number)
                ):
                    self.run.stop.wait(POLL_S)

    def _do(
        self, source: Source, repository: BackupRepository, batches: RunBatches, name: str
    ) -> bool:
        """Do a batch; False: it is another worker's, or done."""
        try:
            with batches.claim(name, _shards(batches, name)) as claimed:
                if claimed is None:
                    return False
                batch = BackupBatch.decode(batches.todo(name), name)
                options = replace(batch.options, parallel=self._spec.parallel)
                batch = replace(batch, options=options)
                source.recall(batch.version, batch.first)
                slots = self._slots(options)
                done = copy_batch(source, repository, claimed, batch, self.run, slots)
                claimed.finish(done.encode())
        except BatchTaken:
            self._write(BatchLine(name, done=False))
            self._begin_anew()
            return True
        self._write(BatchLine(name, done=True))
        return True

    def _slots(self, options: BackupOptions) -> NodeSlots | None:
        fd, each = self._spec.slots, options.per_node
        return None if fd is None or each is None else NodeSlots(fd, each)

    def _begin_anew(self) -> None:
        """Have a run for the next batch; the one of a batch that failed is stopped."""
        self.run = Run(self._emit)
        if self._ended.is_set():
            self.run.stop.set()

    def end(self) -> None:
        """End soon, from any thread."""
        self._ended.set()
        self.run.stop.set()
        if self._source is not None:
            self._source.abort()

    def fail(self, error: ShardkeeperError, *, fatal: bool = True) -> None:
        """Report the error that ends this worker."""
        self._write(ErrorLine(StoredError.of(error), fatal))

    def _emit(self, event: Event) -> None:
        self._write(event_line(event))

    def _write(self, line: Line) -> None:
        self._out.write(msgspec.json.encode(line) + b"\n")
        self._out.flush()


def _shards(batches: RunBatches, name: str) -> Iterator[ShardID]:
    """The shards of a batch; its record is read only if it is asked for one."""
    yield from BackupBatch.decode(batches.todo(name), name).shards


def main() -> None:
    """Be the worker that the first line of standard input describes."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they are meant for the other process
        signal.signal(number, signal.SIG_IGN)
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerSpec)
    worker = Worker(spec, sys.stdout.buffer)
    threading.Thread(target=_end_with_input, args=(worker,), daemon=True).start()
    code = 0
    try:
        worker.work()
    except BrokenPipeError:
        pass  # the other process has ended
    except ShardkeeperError as error:
        code = error.exit_code
        with suppress(BrokenPipeError):
            worker.fail(error)
    os._exit(code)  # all is closed; an interpreter that ends would meet the thread in any state


def _end_with_input(worker: Worker) -> None:
    """End the worker when the other process has ended, or wants it to."""
    while os.read(0, 4096):
        pass
    signal.alarm(GRACE_S)  # its default action ends the process
    worker.end()
