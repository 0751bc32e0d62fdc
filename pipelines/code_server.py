"""Dagster's code server, which ends once the process that has the code is gone.

    python -m pipelines.code_server -h 0.0.0.0 -p 4000 -m pipelines.definitions

`dagster code-server start` loads the code in a process of its own, so that *Reload* can replace it.
If that process is killed, as by the kernel where memory runs out, Dagster starts no other: the code
server still answers, but no sensor, schedule or run works, nor what would report that. So this
program ends both then, and whatever supervises it, such as a restart policy, starts it again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from pipelines.services import die_with_us

POLL_S = 5.0
MAX_MISSED = 2
"""Polls in a row that find no process with the code; *Reload* ends one after the next is there."""
END_WITHIN_S = 20.0


def main() -> int:
    """Run the code server until it ends; returns the exit status."""
    command = [
        *die_with_us(),
        sys.executable,
        "-m",
        "dagster",
        "code-server",
        "start",
        *sys.argv[1:],
    ]
    return supervise(command, POLL_S)


def supervise(command: Sequence[str], poll_s: float) -> int:
    """Run a command, and end it if it had children and has none any more; its exit status, or 1."""
    process = subprocess.Popen(command)  # noqa: S603

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    had, missed = False, 0
    while missed < MAX_MISSED:
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(poll_s)
            return status if status >= 0 else 128 - status  # by a signal, as a shell says it
        there = has_child(process.pid)
        if there and not had:
            _say("the process that has the code has started")
        had = had or there
        missed = missed + 1 if had and not there else 0
    _say("the process that has the code is gone; the code server ends with it")
    process.terminate()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 1


def has_child(parent: int) -> bool:
    """Whether a process has a living child; where the system does not show that, it has none."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of a program, in brackets, may have spaces and brackets in it.
            state, of = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if int(of) == parent and state != "Z":
                return True
    return False


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
