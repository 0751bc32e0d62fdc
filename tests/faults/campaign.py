"""A long run of a fault test from a shell: its progress, its seed, and what did not hold."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def print_line(text: str) -> None:
    """Print a line at once, though the output is a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_campaign(name: str, seed: int, lines_of: Callable[[Path], Iterable[str]]) -> int:
    """Print the lines of a campaign with the time, in a directory that is removed; returns 0.

    Raises:
        AssertionError: something did not hold; the seed was printed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"shardkeeper-{name}-") as directory:
        try:
            for line in lines_of(Path(directory)):
                print_line(f"{time.monotonic() - began:7.1f} s  {line}")
        except AssertionError as failure:
            notes = "; ".join(getattr(failure, "__notes__", ()))
            print_line(f"FAILED (seed {seed}): {failure} {notes}".rstrip())
            raise
    print_line(f"everything held, in {time.monotonic() - began:.0f} s")
    return 0
