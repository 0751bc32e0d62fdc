"""A code server does not outlive the process that has the code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.code_server import has_child

PARENT = """\
import subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""
SUPERVISOR = """\
import sys
from pipelines.code_server import supervise
sys.exit(supervise([sys.executable, "-c", sys.argv[1], sys.argv[2]], 0.05))
"""


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(file: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A supervised program, and the number of its only child."""
    program = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, PARENT, str(file)], stderr=subprocess.PIPE
    )
    until(lambda: file.exists() and bool(file.read_text()))
    return program, int(file.read_text())


def test_it_ends_if_the_process_with_the_code_was_killed(tmp_path: Path) -> None:
    program, child = started(tmp_path / "child")
    assert program.stderr is not None
    assert program.stderr.readline() == b"the process that has the code has started\n"
    os.kill(child, signal.SIGKILL)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 1
    assert b"the process that has the code is gone" in errors


def test_a_signal_ends_the_code_server_as_it_would_without_it(tmp_path: Path) -> None:
    program, child = started(tmp_path / "child")
    program.terminate()
    assert program.wait(timeout=60) == 128 + signal.SIGTERM
    os.kill(child, signal.SIGKILL)
    program.communicate()


def test_a_process_without_children_has_none() -> None:
    assert not has_child(2**31 - 1)
    with subprocess.Popen(["sleep", "60"]) as child:
        assert has_child(os.getpid())
        child.kill()
