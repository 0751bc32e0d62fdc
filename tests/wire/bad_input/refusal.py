"""One sentence, a next step, the documented status, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.wire.commands import Done

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000

Fresh = Callable[[], str]


def refused(done: Done, code: int, *output: str) -> None:
    """It failed so, says so, and says what to do next; no traceback."""
    assert done.code == code, done
    for text in output:
        assert text.lower() in done.err.lower(), done
    assert "\n  next: " in done.err, done
    assert "Traceback" not in done.err
    assert "operation exited with error" in done.err


def listing(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def outside(*args: object, prefix: Sequence[str] = (), cwd: Path | None = None) -> Done:
    """`shardkeeper` in a process of its own."""
    program = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    return Done(done.returncode, done.stdout, done.stderr)
