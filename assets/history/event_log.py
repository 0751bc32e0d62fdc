"""Many asset events at once, for Dagster's event log.

Dagster stores what a step logs event by event, which on SQLite takes two new connections each and
some 20 ms of CPU: a thousand changed shards are five thousand events. Here events of one kind and
asset go in together. Nothing of this is Dagster's public API; it stays in this file.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
from dagster._core.events import AssetObservationData, DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage

MOST_AT_ONCE = 500
"""Events of one transaction: others wait for it."""
APART_S = 0.002
"""The UI lists one event of an asset for each millisecond and hides the others; two, as floats
fall to either side."""

Context = dg.OpExecutionContext | dg.AssetExecutionContext
Event = dg.AssetObservation | dg.AssetMaterialization


class EventLog:
    """Writes events so that they can be read back at once.

    Args:
        context: the step whose events these are; None: they belong to no run.
    """

    def __init__(self, instance: dg.DagsterInstance, context: Context | None) -> None:
        self._storage = instance.event_log_storage
        self._log: Callable[[Any], None] = (
            context.log_event if context else instance.report_runless_asset_event
        )
        self._step = context.get_step_execution_context() if context else None
        self.run_id = context.run.run_id if context else RUNLESS_RUN_ID
        self._last_at = 0.0

    def write(self, event: Event | dg.AssetCheckEvaluation) -> None:
        """Write one event, as Dagster does."""
        self._log(event)

    def write_all(self, events: Sequence[Event]) -> None:
        """Write events of one kind and of one asset, in order."""
        if len(events) == 1:
            self.write(events[0])
            return
        start = max(self._last_at + APART_S, time.time() - len(events) * APART_S)
        for first in range(0, len(events), MOST_AT_ONCE):
            entries = [
                self._entry(event, start + at * APART_S)
                for at, event in enumerate(events[first : first + MOST_AT_ONCE], first)
            ]
            self._last_at = entries[-1].timestamp
            if isinstance(self._storage, SqliteEventLogStorage):
                _store_in_sqlite(self._storage, entries)
            else:
                self._storage.store_event_batch(entries)

    def _entry(self, event: Event, at_s: float) -> EventLogEntry:
        if isinstance(event, dg.AssetMaterialization):
            kind = dg.DagsterEventType.ASSET_MATERIALIZATION
            data, message = StepMaterializationData(event), "Materialized value."
        else:
            kind = dg.DagsterEventType.ASSET_OBSERVATION
            data, message = AssetObservationData(event), ""
        return EventLogEntry(
            error_info=None,
            level=logging.DEBUG,
            user_message=message,
            run_id=self.run_id,
            timestamp=at_s,
            step_key=self._step.step.key if self._step else None,
            job_name=self._step.job_name if self._step else RUNLESS_JOB_NAME,
            dagster_event=DagsterEvent(
                event_type_value=kind.value,
                event_specific_data=data,
                message=message,
                **self._of_step(),
            ),
        )

    def _of_step(self) -> dict[str, Any]:
        if self._step is None:
            return {"job_name": RUNLESS_JOB_NAME}
        return {
            "job_name": self._step.job_name,
            "step_handle": self._step.step.handle,
            "node_handle": self._step.step.node_handle,
            "step_kind_value": self._step.step.kind.value,
            "logging_tags": self._step.event_tags,
            "pid": os.getpid(),
        }


def _store_in_sqlite(storage: SqliteEventLogStorage, entries: Sequence[EventLogEntry]) -> None:
    """What `store_event` does for each, over one connection to each of its two databases."""
    rows = [storage._event_to_row(entry) for entry in entries]
    insert = SqlEventLogStorageTable.insert()
    with storage.run_connection(entries[0].run_id) as connection:
        connection.execute(insert, rows)
    with storage.index_transaction() as connection:
        # One statement with other parameters: `insert.values(**row)` is compiled for each row.
        done = [connection.execute(insert, row) for row in rows]
        ids = [one.inserted_primary_key[0] for one in done if one.inserted_primary_key]
        storage._store_asset_event_tags(connection, entries, ids)
        storage._store_asset_event(connection, entries[-1], ids[-1])
