"""`backup -cpuprofile`: profile a run, for `python -m pstats`."""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def cpu_profile(path: str) -> Generator[None]:
    """Profile the block and all threads that start in it, into a file."""
    profiles = [cProfile.Profile()]

    def begin(_frame: Any, _event: str, _arg: Any) -> None:
        """Runs first in a new thread."""
        profile = cProfile.Profile()
        sys.setprofile(None)
        with suppress(ValueError):  # from Python 3.12 on, the first profile covers all threads
            profile.enable()
            profiles.append(profile)

    threading.setprofile(begin)
    profiles[0].enable()
    try:
        yield
    finally:
        profiles[0].disable()
        threading.setprofile(None)
        pstats.Stats(*profiles).dump_stats(path)
