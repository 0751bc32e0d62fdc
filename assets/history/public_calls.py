"""Dagster's event log through documented calls: slower, and always available.

`storage_calls` does the same faster with undocumented calls. If a version of Dagster does not have
them, this module is used; tests/assets/history holds both to the same answers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

VERSION = "dagster/data_version"
RUNLESS_RUN_ID = ""
"""The run id that Dagster gives to events without a run."""
MAX_PAGE = 1000

_EVALUATED = dg.DagsterEventType.ASSET_CHECK_EVALUATION
_PLANNED = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED

Context = dg.OpExecutionContext | dg.AssetExecutionContext
Event = dg.AssetObservation | dg.AssetMaterialization


class EventLogCalls(Protocol):
    """The calls to Dagster's event log that the asset history needs."""

    def write_all(self, events: Sequence[Event]) -> None:
        """Write events of one kind and of one asset, in order; they can be read back at once."""
        ...

    def versions(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> dict[str, str]:
        """By partition, the data version in the newest event of a kind."""
        ...

    def newest_ids(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> Mapping[str, int]:
        """By partition, the storage id of the newest event of a kind."""
        ...

    def evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        """The newest evaluation of a check, apart from runs that skipped or broke it."""
        ...

    def unevaluated_by(self, check: dg.AssetCheckKey) -> str | None:
        """The id of the newest run that was to evaluate a check, while it has not done so."""
        ...


class PublicCalls:
    """Handles one event at a time; reads go through the whole history of an asset.

    Args:
        context: the step whose events are written; None: they belong to no run.
    """

    def __init__(self, instance: dg.DagsterInstance, context: Context | None) -> None:
        self._instance = instance
        self._write: Callable[[Any], None] = (
            context.log_event if context else instance.report_runless_asset_event
        )

    def write(self, event: Event | dg.AssetCheckEvaluation) -> None:
        """Write one event, as Dagster does."""
        self._write(event)

    def write_all(self, events: Sequence[Event]) -> None:
        for event in events:
            self.write(event)

    def versions(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> dict[str, str]:
        tags = {partition: event.tags or {} for partition, _, event in self._newest(key, kind)}
        return {partition: found[VERSION] for partition, found in tags.items() if VERSION in found}

    def newest_ids(self, key: dg.AssetKey, kind: dg.DagsterEventType) -> dict[str, int]:
        return {partition: storage_id for partition, storage_id, _ in self._newest(key, kind)}

    def _newest(
        self, key: dg.AssetKey, kind: dg.DagsterEventType
    ) -> Iterator[tuple[str, int, Event]]:
        """The newest event of each partition, with its storage id."""
        observed = kind is dg.DagsterEventType.ASSET_OBSERVATION
        instance = self._instance
        fetch = instance.fetch_observations if observed else instance.fetch_materializations
        partitions, cursor = set[str](), None
        while True:
            found = fetch(key, limit=MAX_PAGE, cursor=cursor)
            for record in found.records:
                event = record.asset_observation if observed else record.asset_materialization
                if event is None or event.partition is None or event.partition in partitions:
                    continue
                partitions.add(event.partition)
                yield event.partition, record.storage_id, event
            if not found.has_more:
                return
            cursor = found.cursor

    def evaluation(self, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
        newest = self._newest_of_check(_EVALUATED, check)
        return newest.data if newest else None

    def unevaluated_by(self, check: dg.AssetCheckKey) -> str | None:
        """As in the protocol; a later evaluation by another run counts as well."""
        planned = self._newest_of_check(_PLANNED, check)
        if planned is None:
            return None
        done = self._newest_of_check(_EVALUATED, check)
        return None if done and done.timestamp_s > planned.timestamp_s else planned.run_id

    def _newest_of_check(
        self, kind: dg.DagsterEventType, check: dg.AssetCheckKey
    ) -> _CheckEvent | None:
        """Read the events of all checks, recent days first, because there may be many.

        On SQLite they come run by run, so neither their order nor their ids show the newest.
        """
        for days in 1, 30, None:
            after_s = time.time() - days * 86_400 if days else None
            wanted = dg.EventRecordsFilter(event_type=kind, after_timestamp=after_s)
            with warnings.catch_warnings():
                # Deprecated until Dagster 2.0; for checks there is no other documented call.
                warnings.simplefilter("ignore", DeprecationWarning)
                records = self._instance.get_event_records(wanted)
            found = [one for record in records if (one := _of_check(record, check))]
            if found:
                return max(found, key=lambda one: one.timestamp_s)
        return None


@dataclass(frozen=True, slots=True)
class _CheckEvent:
    run_id: str
    timestamp_s: float
    data: Any


def _of_check(record: dg.EventLogRecord, check: dg.AssetCheckKey) -> _CheckEvent | None:
    """None: the record is of another check."""
    event = record.event_log_entry.dagster_event
    data: Any = event.event_specific_data if event else None
    if data is None or (data.asset_key, data.check_name) != (check.asset_key, check.name):
        return None
    return _CheckEvent(record.run_id, record.timestamp, data)
