"""What one command costs: wall, CPU and memory, by the kernel's accounts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = """
import json, os, sys, time
into = sys.argv[1]
os.sync()
began = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
wall = time.monotonic() - began
with open(into, "w") as file:
    json.dump([began, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], file)
sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
"""
"""A process inherits the peak of the one that launched it, so a very small one does."""


class CommandFailed(Exception):
    """A command under measurement ended with another status than 0."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command."""

    began_s: float
    """On the monotonic clock, which processes share."""
    wall_s: float
    cpu_s: float
    """User and system."""
    peak_mib: float


def measured(words: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Cost:
    """Run a command after what was written before is on disk.

    Raises:
        CommandFailed: with what it said.
    """
    with tempfile.NamedTemporaryFile() as events:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, events.name, *words],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            shown = " ".join(map(str, words))
            raise CommandFailed(f"{shown}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return Cost(*json.load(events))
