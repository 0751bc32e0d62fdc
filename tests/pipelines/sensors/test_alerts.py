"""People are told while the source is away, whatever else fails; and again when it is over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.evaluation import ARCHIVES_MATCH, WITHIN_OBJECTIVE, CheckEvaluator
from assets.reachability import REACHABLE
from pipelines.sensors.alerts import LASTING_S, REMIND_S, Alerts, Trouble
from pipelines.sensors.outbox import Outbox
from pipelines.sensors.ticks import TickFailed
from resources.config.values import Configuration
from resources.embedded.cluster import EmbeddedCluster
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness
from tests.pipelines.hooks import Hook, listening

NOTIFY = [{"url": {"env": "HOOK"}, "format": "json", "clusters": ["influxdb"]}]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with listening() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        yield hook


@pytest.fixture
def harness(
    cluster: EmbeddedCluster, hook: Hook, tmp_path: Path, instance: dg.DagsterInstance
) -> DagsterHarness:
    here = {"bind": cluster.meta[0].http_addr, "objectives": {"recovery_point": "2m"}}
    return DagsterHarness(tmp_path, instance, here, notify=NOTIFY, url="https://dagster.example")


def aged(cursor: str | None, seconds: float) -> str:
    """The same cursor, so much later."""
    kept: dict[str, Any] = json.loads(cursor or "{}")
    kept["first_s"] = kept.get("first_s", time.time()) - seconds
    for one in kept.get("known", {}).values():
        one["since_s"] -= seconds
        one["told_s"] = one["told_s"] and one["told_s"] - seconds
    return json.dumps(kept)


def grow_old(harness: DagsterHarness, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the clock of the objective run on; what was backed up was backed up earlier."""
    earliest = CheckEvaluator.earliest
    monkeypatch.setattr(
        CheckEvaluator, "earliest", lambda self: earliest(self) + timedelta(seconds=seconds)
    )


def test_an_objective_that_is_missed_while_the_source_is_away_is_reported(
    cluster: EmbeddedCluster, harness: DagsterHarness, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness.back_up().success
    output, cursor = harness.sense("alerts_influxdb")
    assert (output.skip_message, hook.received) == ("nothing is wrong", [])
    grow_old(harness, monkeypatch, 180)
    cluster.stop_meta_node(0)
    with pytest.raises(TickFailed, match="connection refused while connecting\nNext: ") as failed:
        harness.sense("watch_influxdb")
    reachable = harness.check(CLUSTER_ASSETS.meta_snapshot, REACHABLE)
    assert not reachable.passed
    assert reachable.metadata["why"].value == str(failed.value)
    missed, _ = harness.sense("missed_influxdb")  # evaluates, although the cluster does not answer
    assert "3 of 3 shards are in no backup of the last 2 minutes" in missed.skip_message
    assert not harness.check(CLUSTER_ASSETS.backup_set, WITHIN_OBJECTIVE).passed
    output, cursor = harness.sense("alerts_influxdb", cursor)
    [late] = hook.received  # that it is away is told once it has lasted
    assert late["text"].startswith(
        "influxdb: 3 of 3 shards are in no backup of the last 2 minutes; the newest restore point"
    )
    assert late["url"] == "https://dagster.example/assets/influxdb/backup_set"
    assert (late["cluster"], late["trouble"], late["state"]) == ("influxdb", "objective", "begun")
    output, cursor = harness.sense("alerts_influxdb", aged(cursor, LASTING_S))
    assert len(hook.received) == 2
    assert hook.received[1]["text"].startswith("influxdb: the cluster does not answer: ")
    assert "\nNext: " in hook.received[1]["text"]
    output, cursor = harness.sense("alerts_influxdb", cursor)
    assert len(hook.received) == 2  # said once


def test_what_is_over_is_reported_too(
    cluster: EmbeddedCluster, harness: DagsterHarness, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness.back_up().success
    with monkeypatch.context() as late:
        grow_old(harness, late, 180)
        _, cursor = harness.sense("alerts_influxdb")
    _, cursor = harness.sense("alerts_influxdb", cursor)
    assert [one["state"] for one in hook.received] == ["begun", "over"]
    assert hook.received[1]["text"].startswith("influxdb: over after ")
    _, cursor = harness.sense("alerts_influxdb", cursor)
    assert len(hook.received) == 2


def test_before_the_first_backup_nobody_is_alarmed_until_it_is_due(
    harness: DagsterHarness, hook: Hook
) -> None:
    output, cursor = harness.sense("alerts_influxdb")
    assert (output.skip_message, hook.received) == ("nothing is wrong", [])
    harness.sense("alerts_influxdb", aged(cursor, 121))
    assert [one["why"].partition("\n")[0] for one in hook.received] == [
        "there is no backup yet, after 2 minutes"
    ]


def test_a_directory_that_is_gone_and_archives_that_are_bad_are_reported(
    harness: DagsterHarness, hook: Hook
) -> None:
    assert harness.back_up().success
    [archive] = harness.backups.glob("*.s4.tar.gz")
    archive.chmod(0o600)
    archive.write_bytes(archive.read_bytes()[:-1] + b"\xff")
    harness.run("verify_influxdb")
    assert not harness.check(CLUSTER_ASSETS.shard_backup, ARCHIVES_MATCH).passed
    _, cursor = harness.sense("alerts_influxdb")
    assert hook.received[0]["trouble"] == ARCHIVES_MATCH
    assert "has failed: 1 problem" in hook.received[0]["text"]
    harness.backups.rename(harness.backups.with_name("not mounted"))
    _, cursor = harness.sense("alerts_influxdb", cursor)
    _, cursor = harness.sense("alerts_influxdb", aged(cursor, LASTING_S))
    assert [one["trouble"] for one in hook.received] == [ARCHIVES_MATCH, "directory"]
    assert "no such directory" in hook.received[1]["text"]


def test_nothing_is_lost_while_a_webhook_is_away(
    harness: DagsterHarness, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness.back_up().success
    grow_old(harness, monkeypatch, 180)
    hook.status = 500
    _, cursor = harness.sense("alerts_influxdb")
    output, cursor = harness.sense("alerts_influxdb", cursor)
    assert "1 messages are not delivered yet" in output.skip_message
    hook.status = 200
    output, cursor = harness.sense("alerts_influxdb", cursor)
    assert [one["trouble"] for one in hook.received] == ["objective"] * 3  # 500, 500, 200
    output, cursor = harness.sense("alerts_influxdb", cursor)
    assert len(hook.received) == 3


def configuration(*notify: dict[str, Any]) -> Configuration:
    cluster = {"host": "h:8088", "repository": "r"}
    return Configuration.model_validate(
        {
            "repositories": {"r": {"path": "/r"}},
            "clusters": {"eu": cluster, "us": {"host": "u:8088"}},
            "notify": list(notify),
        }
    )


def test_each_webhook_hears_what_it_wants_and_only_the_deaf_one_hears_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as good, listening() as bad:
        monkeypatch.setenv("GOOD", good.url)
        monkeypatch.setenv("BAD", bad.url)
        bad.status = 503
        both = configuration(
            {"url": {"env": "GOOD"}, "format": "json"},
            {"url": {"env": "BAD"}, "format": "json", "clusters": ["eu"]},
            {"url": {"env": "UNSET"}, "clusters": ["us"]},
        )
        outbox = Outbox().put(both, ["eu"], "one", {}, 0.0).put(both, ["us"], "two", {}, 1.0)
        outbox = outbox.put(both, ["eu"], "three", {}, 2.0).send(both, 3.0)
        assert [one["text"] for one in good.received] == ["one", "two", "three"]
        assert [one["text"] for one in bad.received] == ["one"]  # not asked for the next
        assert [one.text for one in outbox.messages] == ["one", "two", "three"]
        assert not [one for one in outbox.errors if "secret-path" in str(one)]
        bad.status = 200
        outbox = Outbox.of(json.loads(json.dumps(outbox.kept))).send(both, 4.0)
        assert [one["text"] for one in bad.received] == ["one", "one", "three"]
        assert [one["text"] for one in good.received] == ["one", "two", "three"]
        assert [one.text for one in outbox.messages] == ["two"]  # its secret may yet be set
        assert outbox.send(both, 90_000.0).messages == ()


def test_what_lasts_is_reported_again_after_a_day_and_no_cursor_is_fatal() -> None:
    nobody, trouble = configuration(), Trouble("t", "wrong")
    alerts = Alerts.of("what is this", 0.0).advance(nobody, ["eu"], [trouble], 0.0, "")
    events = [alerts.known["t"].reported_s]
    for now_s in (10.0, REMIND_S - 1, REMIND_S, REMIND_S + 5):
        alerts = Alerts.of(alerts.cursor, now_s).advance(nobody, ["eu"], [trouble], now_s, "")
        events.append(alerts.known["t"].reported_s)
    assert events == [0.0, 0.0, 0.0, REMIND_S, REMIND_S]
