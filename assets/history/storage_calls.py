"""Dagster's event log through its storage interface: many events at once.

Dagster stores a step's events one by one, which on SQLite takes two new connections each and some
20 ms of CPU: a thousand changed shards are five thousand events. Here events of one kind and asset
are written together, and one query reads all partitions.

Dagster documents none of this. Only this module imports `dagster._core`, and `event_log` works
without it if an import or a method is missing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.events import AssetObservationData, DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage

from assets.history.public_calls import VERSION, Context, Event

MAX_AT_ONCE = 500
"""Events in one transaction; other writers wait for it."""
APART_S = 0.002
"""The UI lists one event of an asset for each millisecond and hides the others; with two, rounding
keeps events apart."""
METHODS = (
    "get_latest_tags_by_partition",
    "get_latest_storage_id_by_partition",
    "get_asset_check_execution_history",
)
SQLITE_METHODS = (
    *("_event_to_row", "run_connection", "index_transaction"),
    *("_store_asset_event_tags", "_store_asset_event"),
)
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


class StorageCalls:
    """Many events at once.

    Args:
        context: the step whose events are written; None: they belong to no run.

    Raises:
        AttributeError: this version of Dagster does not have a method.
    """

    def __init__(self, instance: dg.DagsterInstance, context: Context | None) -> None:
        self._storage: Any = instance.event_log_storage
        in_sqlite = isinstance(self._storage, SqliteEventLogStorage)
        for name in (*METHODS, *(SQLITE_METHODS if in_sqlite else ("store_event_batch",))):
            getattr(self._storage, name)
        self._run_id = context.run.run_id if context else RUNLESS_RUN_ID
        step: Any = context.get_step_execution_context() if context else None
        self._step_key = step.step.key if step else None
        self._of_step: dict[str, Any] = {"job_name": RUNLESS_JOB_NAME}
        if step:
            self._of_step = {
                "job_name": step.job_name,
                "step_handle": step.step.handle,
                "node_handle": step.step.node_handle,
                "step_kind_value": step.step.kind.value,
                "logging_tags": step.event_tags,
                "pid": os.getpid(),
            }
        self._last_at = 0.0

    def write_all(self, events: Sequence[Event]) -> None:
        start = max(self._last_at + APART_S, time.time() - len(events) * APART_S)
        for first in range(0, len(events), MAX_AT_ONCE):
            entries = [
                self._entry(event, start + at * APART_S)
                for at, event in enumerate(events[first : first + MAX_AT_ONCE], first)
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
            run_id=self._run_id,
            timestamp=at_s,
            step_key=self._step_key,
            job_name=self._of_step["job_name"],
            dagster_event=DagsterEvent(
                event_type_value=kind.value,
                event_specific_data=data,
                message=message,
                **self._of_step,
            ),
        )

    def versions(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> dict[str, str]:
        tags = self._storage.get_latest_tags_by_partition(key, kind, [VERSION])
        return {partition: found[VERSION] for partition, found in tags.items() if VERSION in found}

    def newest_ids(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> Mapping[str, int]:
        return self._storage.get_latest_storage_id_by_partition(key, kind)

    def evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        found = self._storage.get_asset_check_execution_history(check, limit=1, status=_EVALUATED)
        event = found[0].event.dagster_event if found and found[0].event else None
        return event.asset_check_evaluation_data if event else None

    def unevaluated_by(self, check: dg.AssetCheckKey) -> str | None:
        found = self._storage.get_asset_check_execution_history(check, limit=1)
        return found[0].run_id if found and found[0].status not in _EVALUATED else None


def _store_in_sqlite(storage: SqliteEventLogStorage, entries: Sequence[EventLogEntry]) -> None:
    """Do what `store_event` does for each event, with one connection to each of its databases."""
    rows = [storage._event_to_row(entry) for entry in entries]
    insert = SqlEventLogStorageTable.insert()
    with storage.run_connection(entries[0].run_id) as connection:
        connection.execute(insert, rows)
    with storage.index_transaction() as connection:
        # One statement with new parameters: `insert.values(**row)` would be compiled for each row.
        done = [connection.execute(insert, row) for row in rows]
        ids = [one.inserted_primary_key[0] for one in done if one.inserted_primary_key]
        storage._store_asset_event_tags(connection, entries, ids)
        storage._store_asset_event(connection, entries[-1], ids[-1])
