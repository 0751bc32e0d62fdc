"""A Dagster that lacks what we use without its being documented: slower, and the same answers."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from assets.definition_errors import definition_errors
from assets.history import event_log, public_calls, storage_calls
from assets.history.asset_history import AssetHistory, Kept, Seen
from assets.history.event_log import EventLog
from assets.history.public_calls import VERSION, EventLogCalls, PublicCalls
from assets.keys import ClusterAssets

CLUSTER_ASSETS = ClusterAssets("eu")
KEY = CLUSTER_ASSETS.shards
CHECK = dg.AssetCheckKey(KEY, "sound")
OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
PRIVATE = [
    (node.module, alias.name)
    for node in ast.walk(ast.parse(Path(storage_calls.__file__).read_text()))
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster._core")
    for alias in node.names
]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        assert isinstance(made.event_log_storage, SqliteEventLogStorage)
        yield made


def without(name: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a private name out of Dagster, and forget what has imported it."""
    monkeypatch.delattr(importlib.import_module(name[0]), name[1])
    monkeypatch.delitem(sys.modules, storage_calls.__name__)


def without_method(name: str, storage: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in type(storage).__mro__:
        if name in vars(cls):
            monkeypatch.delattr(cls, name)


def test_this_dagster_has_all_of_it(instance: dg.DagsterInstance) -> None:
    assert isinstance(EventLog(instance, None).calls, storage_calls.StorageCalls)


def test_there_is_something_private() -> None:
    assert len(PRIVATE) >= 8


@pytest.mark.parametrize("name", PRIVATE, ids=lambda name: name[1])
def test_a_private_import_that_is_missing_costs_time_alone(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: tuple[str, str],
) -> None:
    event_log._warn_once.cache_clear()
    with monkeypatch.context() as patched:  # Dagster itself does not do without it for long
        without(name, patched)
        history = AssetHistory.outside(instance, CLUSTER_ASSETS)
    assert isinstance(history._log.calls, PublicCalls)
    assert name[1] in caplog.text
    backs_up_and_knows(history)


@pytest.mark.parametrize("name", [*storage_calls.METHODS, *storage_calls.SQLITE_METHODS])
def test_a_method_that_is_missing_costs_time_alone(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patched:
        without_method(name, instance.event_log_storage, patched)
        history = AssetHistory.outside(instance, CLUSTER_ASSETS)
    assert isinstance(history._log.calls, PublicCalls)
    backs_up_and_knows(history)


def backs_up_and_knows(history: AssetHistory) -> None:
    """Write what a backup writes, and read what the next one reads."""
    shards = [Seen(f"db/rp/{number}", f"v{number}", {"bytes": 7}) for number in range(3)]
    history.add_partitions([one.partition for one in shards])
    history.observe(shards)
    history.back_up([Kept(one, {"archive": "here"}) for one in shards[:2]])
    changed = Seen("db/rp/0", "v0-changed", {})
    history.observe([changed])
    assert history.observed() == {"db/rp/0": "v0-changed", "db/rp/1": "v1", "db/rp/2": "v2"}
    assert history.backed_up() == {"db/rp/0": "v0", "db/rp/1": "v1"}
    assert history.last_evaluation(*CHECK) is None
    history.record_checks([evaluation(passed=True), evaluation(passed=False)])
    found = history.last_evaluation(*CHECK)
    assert found is not None
    assert not found.passed
    assert found.metadata["why"].value == "False"
    assert not history.broke(*CHECK)


def evaluation(*, passed: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=CHECK.asset_key,
        check_name=CHECK.name,
        passed=passed,
        metadata={"why": str(passed)},
    )


def test_both_give_the_same_answers(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_calls, "MAX_PAGE", 2)
    fast, public = storage_calls.StorageCalls(instance, None), PublicCalls(instance, None)
    assert answers(fast) == answers(public) == ({}, {}, {}, {}, None, None)
    for calls, name in ((fast, "one"), (public, "other"), (fast, "one"), (public, "one")):
        for kind in (dg.AssetObservation, dg.AssetMaterialization):
            versions = {f"db/rp/{number}": f"{name}-{number}" for number in range(3)}
            calls.write_all(
                [kind(KEY, partition=p, tags={VERSION: v}) for p, v in versions.items()]
            )
        calls.write_all([dg.AssetObservation(KEY, partition=f"db/rp/{name}")])
        assert answers(fast) == answers(public)
    observed, made, *_ = answers(public)
    assert observed == made == {f"db/rp/{number}": f"one-{number}" for number in range(3)}


def test_both_know_which_evaluation_counts(instance: dg.DagsterInstance) -> None:
    fast, public = storage_calls.StorageCalls(instance, None), PublicCalls(instance, None)

    def both() -> tuple[bool | None, str | None]:
        assert fast.unevaluated_by(CHECK) == public.unevaluated_by(CHECK)
        one, other = fast.evaluation(CHECK), public.evaluation(CHECK)
        assert (one is None) == (other is None)
        assert one == other
        return one.passed if one else None, public.unevaluated_by(CHECK)

    assert both() == (None, None)
    instance.report_runless_asset_event(evaluation(passed=True))
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=dg.AssetKey("other"), check_name=CHECK.name, passed=False)
    )
    assert both() == (True, None)
    executed(instance, fails=False)
    assert both() == (False, None)
    broke = executed(instance, fails=True)
    assert both() == (False, broke)
    instance.report_runless_asset_event(evaluation(passed=True))
    assert both() == (True, None)


def executed(instance: dg.DagsterInstance, *, fails: bool) -> str:
    """Execute the check in a run; the id of it."""

    @dg.asset(key=KEY)
    def shards() -> None:
        pass

    @dg.asset_check(asset=KEY, name=CHECK.name)
    def sound() -> dg.AssetCheckResult:
        if fails:
            raise ValueError("the check itself is broken")
        return dg.AssetCheckResult(passed=False)

    done = dg.materialize([shards, sound], instance=instance, raise_on_error=False)
    return done.run_id


def answers(calls: EventLogCalls) -> tuple[Mapping[str, Any] | Any, ...]:
    return (
        calls.versions(KEY, OBSERVED),
        calls.versions(KEY, MADE),
        calls.newest_ids(KEY, OBSERVED),
        calls.newest_ids(KEY, MADE),
        calls.evaluation(CHECK),
        calls.unevaluated_by(CHECK),
    )


def test_a_check_of_dagsters_own_that_is_missing_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(definition_errors()) == 2
    monkeypatch.delattr("dagster_shared.check.CheckError")
    assert definition_errors() == (dg.DagsterError,)
