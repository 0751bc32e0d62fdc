"""Dagster's event log, as the asset history reads and writes it.

The calls that Dagster documents handle one event at a time. Undocumented calls are many times
faster, and may be missing in another version; then the documented calls are used. So no version
of Dagster is too new. Held by tests/assets/history/test_event_log.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache

import dagster as dg

from assets.history.public_calls import (
    RUNLESS_RUN_ID,
    Context,
    Event,
    EventLogCalls,
    PublicCalls,
)

_LOG = logging.getLogger(__name__)


class EventLog:
    """Writes events so that they can be read back at once.

    Args:
        context: the step whose events these are; None: they belong to no run.
    """

    def __init__(self, instance: dg.DagsterInstance, context: Context | None) -> None:
        self._public = PublicCalls(instance, context)
        self.calls: EventLogCalls = _fast_calls(instance, context) or self._public
        self.run_id = context.run.run_id if context else RUNLESS_RUN_ID

    def write(self, event: Event | dg.AssetCheckEvaluation) -> None:
        """Write one event, as Dagster does."""
        self._public.write(event)

    def write_all(self, events: Sequence[Event]) -> None:
        """Write events of one kind and of one asset, in order."""
        if len(events) == 1:
            self.write(events[0])
        else:
            self.calls.write_all(events)

    def versions(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> dict[str, str]:
        """By partition, the data version in the newest event of a kind."""
        return self.calls.versions(key, kind)

    def newest_ids(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> Mapping[str, int]:
        """By partition, the storage id of the newest event of a kind."""
        return self.calls.newest_ids(key, kind)

    def evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        """The newest evaluation of a check, apart from runs that skipped or broke it."""
        return self.calls.evaluation(check)

    def unevaluated_by(self, check: dg.AssetCheckKey) -> str | None:
        """The id of the newest run that was to evaluate a check, while it has not done so."""
        return self.calls.unevaluated_by(check)


def _fast_calls(instance: dg.DagsterInstance, context: Context | None) -> EventLogCalls | None:
    try:
        from assets.history.storage_calls import StorageCalls

        return StorageCalls(instance, context)
    except (ImportError, AttributeError) as error:
        _warn_once(str(error))
        return None


@cache
def _warn_once(why: str) -> None:
    _LOG.warning(
        "the event log of Dagster %s is another than Shardkeeper knows, so events are read and "
        "written one by one, which takes longer: %s",
        dg.__version__,
        why,
    )
