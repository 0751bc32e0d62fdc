"""Write the engine's events into the log of a run."""

from __future__ import annotations

import dagster as dg

from resources.engine.events import (
    Emit,
    Event,
    LeaseAwaited,
    OwnersGiven,
    Progress,
    ShardFailed,
    ShardRetried,
    Warned,
)


def emit_to(log: dg.DagsterLogManager) -> Emit:
    """A listener that writes each event into a run's log, at its level."""

    def emit(event: Event) -> None:
        match event:
            case ShardFailed():
                log.error(str(event))
            case Warned() | ShardRetried():
                log.warning(str(event))
            case Progress() | OwnersGiven() | LeaseAwaited():
                log.debug(str(event))
            case _:
                log.info(str(event))

    return emit
