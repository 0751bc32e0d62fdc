"""A worker: a process that does batches of a run which another process plans and ends.

It gets a `WorkerSpec` as the first line of its standard input, and ends early when that input
does, however the other process ended. It writes a line for each event, and for the error that ended
it. What it changes it changes by the batches that it claims, so it may be killed at any time.

On Linux the kernel kills it when the process that started it dies. Otherwise a worker that was
stopped by a signal would outlive its run, with whatever connections it has.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from typing import BinaryIO

import msgspec

from resources.clients.cluster import Cluster
from resources.clients.connect import open_source
from resources.clients.server import Server
from resources.engine.events import Event, Run
from resources.engine.workers.lines import BatchLine, ErrorLine, Line, WorkerSpec, event_line
from resources.engine.workers.node_slots import NodeSlots
from resources.engine.workers.records import StoredError
from resources.engine.workers.sharing import in_turn
from resources.errors import BatchTaken, ShardkeeperError, WireError
from resources.model import ShardID
from resources.repository.batches import ClaimedBatch, RunBatches
from resources.repository.repository import BackupRepository
from resources.repository.storage.opening import open_store

POLL_S = 0.1
GRACE_S = 10
"""For a worker that shall end, before it ends itself."""
_PR_SET_PDEATHSIG = 1


class Worker(ABC):
    """One worker, from its start until every batch of the run is done; each engine has its own.

    Attributes:
        run: of the batch at hand; it is stopped if the worker is to end, or the batch failed.
    """

    def __init__(self, spec: WorkerSpec, out: BinaryIO) -> None:
        self.spec = spec
        self._out = out
        self.run = Run(self._emit)
        self._peer: Server | Cluster | None = None
        self._ended = threading.Event()

    @abstractmethod
    def do(
        self,
        peer: Server | Cluster,
        repository: BackupRepository,
        claimed: ClaimedBatch,
        todo: bytes,
        slots: NodeSlots | None,
    ) -> bytes:
        """Do a batch as its record says; returns the record of what was done."""

    def archives(self, todo: bytes, name: str) -> Iterable[ShardID]:
        """The shards whose archives a batch stores, for one that is done again."""
        return ()

    def at_work(self, peer: Server | Cluster) -> AbstractContextManager[None]:
        """Have what all batches need for the block."""
        return nullcontext()

    def work(self) -> None:
        """Do batches until none is left.

        Raises:
            ShardkeeperError: the run cannot go on.
        """
        try:
            peer = self._peer = open_source(self.spec.address)
        except WireError as error:  # the plan has reached it; what is left of it, others do
            self.fail(error, fatal=False)
            return
        repository = BackupRepository.open(self.spec.location)
        store = open_store(self.spec.records) if self.spec.records else repository.store
        batches = RunBatches(store, store.join(self.spec.stage), self.spec.backup, set())
        with closing(batches), self.at_work(peer):
            while left := {n: s for n, s in batches.states().items() if s != "done"}:
                self.run.check("everything was done")
                if not any(
                    self._do(peer, repository, batches, name)
                    for name in in_turn(left, self.spec.number)
                ):
                    self.run.stop.wait(POLL_S)

    def _do(
        self, peer: Server | Cluster, repository: BackupRepository, batches: RunBatches, name: str
    ) -> bool:
        """Do a batch; False: it is another worker's, or done."""
        try:
            with batches.claim(name, self._archives(batches, name)) as claimed:
                if claimed is None:
                    return False
                self._write(BatchLine(name, "begun"))
                todo = batches.todo(name)
                claimed.finish(self.do(peer, repository, claimed, todo, self._slots()))
        except BatchTaken:
            self._write(BatchLine(name, "taken"))
            self._begin_anew()
            return True
        self._write(BatchLine(name, "done"))
        return True

    def _archives(self, batches: RunBatches, name: str) -> Iterator[ShardID]:
        """As `archives`; the batch's record is read only if it is asked for one."""
        yield from self.archives(batches.todo(name), name)

    def _slots(self) -> NodeSlots | None:
        fd, each = self.spec.slots, self.spec.per_node
        return None if fd is None or each is None else NodeSlots(fd, each)

    def _begin_anew(self) -> None:
        """Have a run for the next batch; the one of a batch that failed is stopped."""
        self.run = Run(self._emit)
        if self._peer is not None:
            self._peer.resume()
        if self._ended.is_set():
            self.end()

    def end(self) -> None:
        """End soon, from any thread."""
        self._ended.set()
        self.run.stop.set()
        if self._peer is not None:
            self._peer.abort()

    def fail(self, error: ShardkeeperError, *, fatal: bool = True) -> None:
        """Report the error that ends this worker."""
        self._write(ErrorLine(StoredError.of(error), fatal))

    def _emit(self, event: Event) -> None:
        self._write(event_line(event))

    def _write(self, line: Line) -> None:
        self._out.write(msgspec.json.encode(line) + b"\n")
        self._out.flush()


def be(kind: Callable[[WorkerSpec, BinaryIO], Worker]) -> None:
    """Be the worker that the first line of standard input describes."""
    for number in (signal.SIGINT, signal.SIGHUP):  # they are meant for the other process
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerSpec)
    worker = kind(spec, sys.stdout.buffer)
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


def _die_with_parent() -> None:
    """Have the kernel kill this process with its parent; one that is dead closes our input."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_input(worker: Worker) -> None:
    """End the worker when the other process has ended, or wants it to."""
    while os.read(0, 4096):
        pass
    signal.alarm(GRACE_S)  # its default action ends the process
    worker.end()
