"""Events that are written together are the events that Dagster writes one by one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage

from assets.history import storage_calls
from assets.history.event_log import EventLog
from assets.history.public_calls import VERSION, Event

KEY = dg.AssetKey(["eu", "shards"])
KINDS = (dg.AssetObservation, dg.AssetMaterialization)


@pytest.fixture(params=["in files", "in memory"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "in memory":
        with dg.DagsterInstance.ephemeral() as made:
            yield made
        return
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        assert isinstance(made.event_log_storage, SqliteEventLogStorage)
        yield made


def some(kind: type[Event], names: list[str]) -> list[Event]:
    return [
        kind(KEY, partition=name, tags={VERSION: f"v-{name}"}, metadata={"bytes": 7})
        for name in names
    ]


def in_a_run(instance: dg.DagsterInstance, write: Callable[[EventLog], None]) -> str:
    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        write(EventLog(context.instance, context))

    @dg.job
    def job() -> None:
        step()

    return job.execute_in_process(instance=instance).run_id


def stored(instance: dg.DagsterInstance, kind: type[Event]) -> list[EventLogEntry]:
    """What the log has, oldest first."""
    fetch = (
        instance.fetch_observations
        if kind is dg.AssetObservation
        else instance.fetch_materializations
    )
    return [record.event_log_entry for record in reversed(fetch(KEY, limit=1000).records)]


def events(entry: EventLogEntry) -> dict[str, Any]:
    """An event without what differs between any two."""
    event = entry.dagster_event
    assert event is not None
    body = event._asdict()  # type: ignore[attr-defined]
    data = event.asset_observation_data if event.is_asset_observation else None
    what = data.asset_observation if data else event.step_materialization_data.materialization
    return {
        **{name: body[name] for name in ("event_type_value", "step_handle", "node_handle")},
        **{name: body[name] for name in ("step_kind_value", "logging_tags", "job_name", "pid")},
        "step": entry.step_key,
        "level": entry.level,
        "tags": what.tags,
        "metadata": what.metadata,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_together_differs_from_what_a_step_logs_in_nothing(
    instance: dg.DagsterInstance, kind: type[Event]
) -> None:
    def write(log: EventLog) -> None:
        for event in some(kind, ["a", "a"]):
            log.write(event)
        log.write_all(some(kind, ["a", "a"]))

    run_id = in_a_run(instance, write)
    one, _, other, another = stored(instance, kind)
    assert {one.run_id, other.run_id} == {run_id}
    assert events(one) == events(other) == events(another)
    assert (
        len([e for e in instance.all_logs(run_id) if reported_kind(e) == reported_kind(one)]) == 4
    )


def reported_kind(entry: EventLogEntry) -> str | None:
    return entry.dagster_event.event_type_value if entry.dagster_event else None


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_no_run_are_read_back_in_order_with_their_versions(
    instance: dg.DagsterInstance, kind: type[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_calls, "MAX_AT_ONCE", 3)
    log = EventLog(instance, None)
    names = [f"s{i}" for i in range(10)]
    log.write_all(some(kind, names))
    log.write_all([])
    log.write_all(some(kind, ["s3"]))
    written = [e.dagster_event.partition for e in stored(instance, kind) if e.dagster_event]
    assert written == [*names, "s3"]
    storage, event_type = instance.event_log_storage, event_type_of(kind)
    versions = storage.get_latest_tags_by_partition(KEY, event_type, [VERSION])
    assert versions == {name: {VERSION: f"v-{name}"} for name in names}
    ids = storage.get_latest_storage_id_by_partition(KEY, event_type)
    assert max(ids, key=lambda name: ids[name]) == "s3"
    assert instance.has_asset_key(KEY)


def test_no_two_events_have_the_same_millisecond_so_that_the_ui_lists_all(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_calls, "MAX_AT_ONCE", 3)
    log = EventLog(instance, None)
    for _ in range(2):
        log.write_all(some(dg.AssetMaterialization, [f"s{i}" for i in range(10)]))
    times = [e.timestamp for e in stored(instance, dg.AssetMaterialization)]
    assert times == sorted(times)
    assert len({int(at * 1000) for at in times}) == 20
    assert times[-1] < time.time() + 0.1


def test_the_asset_knows_its_newest_materialization(instance: dg.DagsterInstance) -> None:
    log = EventLog(instance, None)
    log.write_all(some(dg.AssetMaterialization, ["a", "b"]))
    log.write_all(some(dg.AssetObservation, ["c", "d"]))
    newest = instance.get_latest_materialization_event(KEY)
    assert newest is not None
    assert newest.dagster_event is not None
    assert newest.dagster_event.partition == "b"


def event_type_of(kind: type[Event]) -> dg.DagsterEventType:
    if kind is dg.AssetObservation:
        return dg.DagsterEventType.ASSET_OBSERVATION
    return dg.DagsterEventType.ASSET_MATERIALIZATION
