"""The workers of a run, as the process sees them that plans and ends it.

Each is a process of its own (`resources.engine.workers.worker`), in a session of its own, so a
Ctrl-C at the terminal reaches only this one. It ends with its standard input. A worker that was
killed is not started again: the others do its batch. One that does not end in time is killed, which
harms nothing.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec.structs import replace

import resources
from resources.engine.events import PROGRESS_EVERY_S, Emit, Progress, Run, Warned
from resources.engine.workers.lines import (
    BatchLine,
    ErrorLine,
    EventLine,
    Line,
    WorkerSpec,
    event_of,
)
from resources.engine.workers.sharing import shares
from resources.repository.storage.lock import usual_lease_s
from resources.runtime.interrupts import interruptible, undisturbed

ROOT = str(Path(resources.__path__[0]).parent)
END_WITHIN_S = 5.0
_LINE: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def program(module: str) -> str:
    """What a worker runs: `main` of a module."""
    return f"import sys; sys.path.append({ROOT!r}); from {module} import main; main()"


class _Started(msgspec.Struct, frozen=True):
    process: subprocess.Popen[bytes]
    input: IO[bytes]
    output: IO[bytes]


class _Progress:
    """Sums the progress of the batches that workers are at.

    Args:
        before: what was done before they began, of how much in all.
    """

    def __init__(self, before: Progress, emit: Emit) -> None:
        self._total = before.total
        self._emit = emit
        self._now: dict[int, Progress] = {}
        self._done = before.done
        self._bytes = before.bytes_done
        self._emitted_s = time.monotonic()

    def add(self, worker: int, event: Progress) -> None:
        self._now[worker] = event
        if time.monotonic() - self._emitted_s >= PROGRESS_EVERY_S:
            self._emitted_s = time.monotonic()
            done = self._done + sum(one.done for one in self._now.values())
            n_bytes = self._bytes + sum(one.bytes_done for one in self._now.values())
            self._emit(Progress(done, self._total, n_bytes))

    def ended(self, worker: int, *, done: bool) -> None:
        """A worker's batch is done, or was given up."""
        last = self._now.pop(worker, None)
        if last is not None and done:
            self._done += last.total
            self._bytes += last.bytes_done


class WorkerPool:
    """Worker processes, from `working` until the end of its block.

    Attributes:
        batch_done: called with the name of each batch that a worker says it has done.
        idle: called several times a second.
        most_silent_s: for so long a worker that is at a batch may report nothing. Then it was
            stopped, and is killed; None: it is let be.
    """

    def __init__(self, run: Run, before: Progress) -> None:
        self.batch_done: Callable[[str], object] = lambda _: None
        self.idle: Callable[[], object] = lambda: None
        self.most_silent_s: float | None = None
        self._run = run
        self._progress = _Progress(before, run.emit)
        self._at_batch: dict[int, float] = {}
        """When each worker that is at a batch has reported anything last."""
        self._lines: queue.SimpleQueue[tuple[int, Line | None]] = queue.SimpleQueue()
        self._started: list[_Started] = []

    def start(self, module: str, spec: WorkerSpec) -> None:
        """Start a worker that runs `main` of a module."""
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", program(module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=() if spec.slots is None else (spec.slots,),
        )
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        one = _Started(process, process.stdin, process.stdout)
        number = len(self._started)
        self._started.append(one)
        threading.Thread(target=self._read, args=(number, one.output), daemon=True).start()
        with suppress(BrokenPipeError):  # it has died; that is noticed as for all others
            one.input.write(msgspec.json.encode(spec) + b"\n")
            one.input.flush()

    def attend(self, is_done: Callable[[], bool]) -> None:
        """Emit what workers report until all batches are done, or no worker is left.

        Raises:
            Stopped: the run was stopped.
            ShardkeeperError: a worker met an error that ends the run.
        """
        at_work = set(range(len(self._started)))
        while at_work and not is_done():
            self._run.check("everything was done")
            with suppress(queue.Empty):
                self._take(*self._lines.get(timeout=PROGRESS_EVERY_S / 5), at_work)
            self._end_silent()
            self.idle()
        while not self._lines.empty():
            self._take(*self._lines.get(), at_work)
        if not is_done():
            self._run.emit(
                Warned(
                    f"all {len(self._started)} worker processes ended before everything was "
                    f"done, {self._why()}; this process does the rest (is memory short? The "
                    "system's log says so, and -workers 1 needs the least)"
                )
            )

    def _end_silent(self) -> None:
        """Kill workers that stand still amid a batch, so that others can do it."""
        if self.most_silent_s is not None:
            for number, last_s in self._at_batch.items():
                if time.monotonic() - last_s > self.most_silent_s:
                    self._started[number].process.kill()

    def _take(self, number: int, line: Line | None, at_work: set[int]) -> None:
        if number in self._at_batch:
            self._at_batch[number] = time.monotonic()
        match line:
            case None:
                at_work.discard(number)
                self._at_batch.pop(number, None)
                self._progress.ended(number, done=False)
            case ErrorLine(error, fatal):
                if fatal:
                    raise error.error()
                self._run.emit(Warned(f"a worker process did not begin: {error.error()}"))
            case BatchLine(_, "begun"):
                self._at_batch[number] = time.monotonic()
            case BatchLine(name, state):
                self._at_batch.pop(number, None)
                self._progress.ended(number, done=state == "done")
                if state == "done":
                    self.batch_done(name)
            case EventLine():
                event = event_of(line)
                if isinstance(event, Progress):
                    self._progress.add(number, event)
                else:
                    self._run.emit(event)

    def _read(self, number: int, output: IO[bytes]) -> None:
        """Queue the lines of one worker, and None at its end."""
        try:
            for raw in output:
                self._lines.put((number, _LINE.decode(raw)))
        except ValueError:
            pass  # the last line of a worker that was killed
        finally:
            self._lines.put((number, None))

    def _why(self) -> str:
        code = self._started[-1].process.wait()
        return f"the last by signal {-code}" if code < 0 else f"the last with status {code}"

    def end(self) -> None:
        """Have all workers end, and wait until they have."""
        for one in self._started:
            with suppress(OSError):
                one.input.close()
        deadline = time.monotonic() + END_WITHIN_S
        for one in self._started:
            try:
                one.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


@contextmanager
def working(
    run: Run,
    module: str,
    each: WorkerSpec,
    count: int,
    before: Progress,
    *,
    killing_silent: bool = False,
) -> Generator[WorkerPool]:
    """Start workers; at the end of the block they have ended.

    Args:
        module: whose `main` they run.
        each: what all of them have to know; they share its connections.
        before: what was done before, of how much in all.
        killing_silent: whether one that stands still must not wake up, since a server keeps to
            itself what it is sent until the connection ends.
    """
    pool = WorkerPool(run, before)
    if killing_silent:
        pool.most_silent_s = usual_lease_s()
    with (
        tempfile.TemporaryFile() as slots,
        undisturbed("ending the workers"),
    ):
        limited = slots.fileno() if each.per_node is not None else None
        try:
            with interruptible():
                for number, parallel in enumerate(shares(each.parallel, count)):
                    one = replace(each, number=number, parallel=parallel, slots=limited)
                    pool.start(module, one)
                yield pool
        finally:
            pool.end()
