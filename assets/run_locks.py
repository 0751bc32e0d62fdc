"""Which run of Dagster holds a lock, and whether Dagster knows that it has ended.

The lock of a run in several steps names no process, since processes come and go. Without Dagster's
word, the next run would have to wait for the whole lease of one that was killed or terminated.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import dagster as dg

from assets.history.public_calls import Context

_COMMAND = re.compile(r"dagster run ([0-9a-f-]{36})")


def command_of(context: Context) -> str:
    """What others see who meet a lock of this run."""
    return f"dagster run {context.run.run_id}"


def has_ended(instance: dg.DagsterInstance) -> Callable[[str], bool]:
    """Whether the run that a lock names has ended; False: Dagster does not know it."""

    def ended(command: str) -> bool:
        match = _COMMAND.fullmatch(command)
        run = instance.get_run_by_id(match[1]) if match else None
        return run is not None and run.is_finished

    return ended
