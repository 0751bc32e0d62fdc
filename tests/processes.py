"""`shardkeeper` in a process of its own, to be killed or to hear signals.

    with Nursery() as nursery:
        run = nursery.start("backup", "-host", "127.0.0.1:8088", "backups")
        run.kill()
        done = run.wait()

A new process spends most of a second on imports. So there is one that has done those, has no
threads, and forks for each run.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Self

from tests.wire.commands import Done

STATUS = struct.Struct("<i")
READY_WITHIN_S = 300.0
PATIENCE_S = 120.0
"""For one run, on a machine that has nothing else to do."""
POLL_S = 0.001
STACKS_SIGNAL = signal.SIGUSR1
"""A run that hears it writes the stacks of its threads to its standard error."""
STACKS_WITHIN_S = 5.0
SPIN_S = 1.0
LOADED_LATER = (
    "resources.clients.cluster",
    "resources.clients.connect",
    "resources.engine.restore.as_of",
    "tempfile",
)
"""What commands load on use; a fork would load it anew for each run."""


class Run:
    """One run; `pid` is its process."""

    def __init__(self, args: Sequence[str], line: socket.socket, out: Path, err: Path) -> None:
        self._args = args
        self._line = line
        self._out, self._err = out, err
        (self.pid,) = STATUS.unpack(_exactly(line, STATUS.size))
        self._code: int | None = None

    @property
    def running(self) -> bool:
        return self._code is None and not _speaks(self._line, 0)

    @property
    def output(self) -> str:
        """Standard output and error so far."""
        return self._out.read_text(errors="replace") + self._err.read_text(errors="replace")

    def send(self, how: signal.Signals) -> None:
        """Signal it; one that has ended does not hear."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def stacks(self) -> str:
        """What its threads are at; one that stands still has no answer."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "T":
            return "it is stopped"
        before = self._err.stat().st_size
        self.send(STACKS_SIGNAL)
        deadline = time.monotonic() + STACKS_WITHIN_S
        while self._err.stat().st_size == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)  # all of it, not the first line
        return self._err.read_bytes()[before:].decode(errors="replace")

    def wait(self, within_s: float = PATIENCE_S) -> Done:
        """Its end; the code is that of a signal, negative, if one ended it.

        On a machine that others use, too, it may take as many times as long as one turn of the
        processor does.
        """
        if self._code is None:
            began_s = time.monotonic()
            if not _speaks(self._line, within_s):
                _speaks(self._line, within_s * (slowness() - 1))
            if self.running:
                output, stacks = self.output, self.stacks()
                self.kill()
                raise AssertionError(
                    f"still at work after {time.monotonic() - began_s:.0f} s: "
                    f"{' '.join(self._args)}: {output}\nits threads: {stacks}"
                )
            (self._code,) = STATUS.unpack(_exactly(self._line, STATUS.size))
            self._line.close()
        assert self._code is not None
        out, err = (path.read_text(errors="replace") for path in (self._out, self._err))
        return Done(self._code, out, err)


def _speaks(line: socket.socket, within_s: float) -> bool:
    """Whether something comes; descriptors may be too many for select."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


def slowness() -> float:
    """How many times as long a second of the processor takes here."""
    began_s, used_s = time.monotonic(), time.thread_time()
    while time.thread_time() - used_s < SPIN_S:
        pass
    return max(1.0, (time.monotonic() - began_s) / SPIN_S)


class ForkServer:
    """Where runs come from, until the block ends."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="shardkeeper-runs-")
        self.directory = Path(self._directory.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._runs: list[Run] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self.command(),
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs:
            run.kill()
        assert self._process is not None
        self._process.communicate()
        self._directory.cleanup()

    def command(self) -> Sequence[str]:
        """What the process is, from which the runs are forked."""
        return [sys.executable, "-m", "tests.processes", str(self.directory / "line")]

    def start(self, *args: object, env: Mapping[str, str] | None = None) -> Run:
        """Begin `shardkeeper` with these arguments; `env` is added to its environment."""
        number = len(self._runs)
        out, err = self.directory / f"{number}.out", self.directory / f"{number}.err"
        out.touch()
        err.touch()
        words = list(map(str, args))
        request = {"args": words, "env": dict(env or {}), "out": str(out), "err": str(err)}
        line = self._connected()
        line.sendall(json.dumps(request).encode() + b"\n")
        run = Run(words, line, out, err)
        self._runs.append(run)
        return run

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            line = socket.socket(socket.AF_UNIX)
            try:
                line.connect(str(self.directory / "line"))
            except OSError:
                line.close()
                assert time.monotonic() < deadline, "the nursery does not answer"
                time.sleep(0.01)
            else:
                return line


def _exactly(line: socket.socket, n: int) -> bytes:
    found = b""
    while len(found) < n:
        more = line.recv(n - len(found))
        assert more, "the nursery broke off"
        found += more
    return found


# --- the other side -----------------------------------------------------------------------


def _serve(path: str) -> None:
    """Fork for every connection, until standard input ends."""
    from pipelines.ctl.main import OURS
    from pipelines.ctl.start import shardkeeper

    for command in OURS.values():
        import_module(command.where.partition(":")[0])
    for name in LOADED_LATER:
        import_module(name)
    gc.freeze()  # else a run's first collection touches, and so copies, whatever there is
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a run can hear it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who minds a run ends by itself
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _mind(line, shardkeeper)
            os._exit(0)
        line.close()


def _mind(line: socket.socket, main: object) -> None:
    """Start one run, tell its pid, wait for it, tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(line.makefile("rb").readline())
    pid = os.fork()
    if pid == 0:
        _run(request, main)
    line.sendall(STATUS.pack(pid))
    _, status = os.waitpid(pid, 0)
    line.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))


def _run(request: Mapping[str, object], main: object) -> None:
    os.setsid()
    for name, fd in (("out", 1), ("err", 2)):
        opened = os.open(str(request[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, fd)
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
    os.environ.update(request["env"])  # type: ignore[arg-type]
    sys.argv = ["shardkeeper", *request["args"]]  # type: ignore[misc]
    code = 1
    try:
        main()  # type: ignore[operator]
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:  # noqa: BLE001 - told of as by a process of its own
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
