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

from assets.evaluation import ARCHIVES_MATCH, WITHIN_OBJECTIVE, Judge
from assets.reachability import REACHABLE
from pipelines.sensors.alerts import LASTING_S, REMIND_S, Alerts, Trouble
from pipelines.sensors.outbox import Outbox
from pipelines.sensors.ticks import TickFailed
from resources.config.values import Configuration
from resources.devcluster.cluster import DevCluster
from tests.pipelines.hooks import Hook, listening
from tests.pipelines.world import FAMILY, World

NOTIFY = [{"url": {"env": "HOOK"}, "format": "json", "clusters": ["influxdb"]}]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with listening() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        yield hook


@pytest.fixture
def world(cluster: DevCluster, hook: Hook, tmp_path: Path, instance: dg.DagsterInstance) -> World:
    here = {"bind": cluster.meta[0].http_addr, "objectives": {"recovery_point": "2m"}}
    return World(tmp_path, instance, here, notify=NOTIFY, url="https://dagster.example")


def aged(cursor: str | None, seconds: float) -> str:
    """The same cursor, so much later."""
    kept: dict[str, Any] = json.loads(cursor or "{}")
    kept["first_s"] = kept.get("first_s", time.time()) - seconds
    for one in kept.get("known", {}).values():
        one["since_s"] -= seconds
        one["told_s"] = one["told_s"] and one["told_s"] - seconds
    return json.dumps(kept)


def grow_old(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the clock of the objective run on; what was backed up was backed up earlier."""
    earliest = Judge.earliest
    monkeypatch.setattr(Judge, "earliest", lambda self: earliest(self) + timedelta(seconds=seconds))


def test_an_objective_that_is_missed_while_the_source_is_away_is_told(
    cluster: DevCluster, world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.back_up().success
    said, cursor = world.sense("alerts_influxdb")
    assert (said.skip_message, hook.said) == ("nothing is wrong", [])
    grow_old(world, monkeypatch, 180)
    cluster.stop_meta_node(0)
    with pytest.raises(TickFailed, match="connection refused while connecting\nNext: ") as failed:
        world.sense("watch_influxdb")
    reachable = world.check(FAMILY.meta_snapshot, REACHABLE)
    assert not reachable.passed
    assert reachable.metadata["why"].value == str(failed.value)
    missed, _ = world.sense("missed_influxdb")  # judges, although nobody answers
    assert "3 of 3 shards are in no backup of the last 2 minutes" in missed.skip_message
    assert not world.check(FAMILY.backup_set, WITHIN_OBJECTIVE).passed
    said, cursor = world.sense("alerts_influxdb", cursor)
    [late] = hook.said  # that it is away is told once it has lasted
    assert late["text"].startswith(
        "influxdb: 3 of 3 shards are in no backup of the last 2 minutes; the newest restore point"
    )
    assert late["url"] == "https://dagster.example/assets/influxdb/backup_set"
    assert (late["cluster"], late["trouble"], late["state"]) == ("influxdb", "objective", "begun")
    said, cursor = world.sense("alerts_influxdb", aged(cursor, LASTING_S))
    assert len(hook.said) == 2
    assert hook.said[1]["text"].startswith("influxdb: the cluster does not answer: ")
    assert "\nNext: " in hook.said[1]["text"]
    said, cursor = world.sense("alerts_influxdb", cursor)
    assert len(hook.said) == 2  # said once


def test_what_is_over_is_told_too(
    cluster: DevCluster, world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.back_up().success
    with monkeypatch.context() as late:
        grow_old(world, late, 180)
        _, cursor = world.sense("alerts_influxdb")
    _, cursor = world.sense("alerts_influxdb", cursor)
    assert [one["state"] for one in hook.said] == ["begun", "over"]
    assert hook.said[1]["text"].startswith("influxdb: over after ")
    _, cursor = world.sense("alerts_influxdb", cursor)
    assert len(hook.said) == 2


def test_before_the_first_backup_nobody_is_alarmed_until_it_is_due(
    world: World, hook: Hook
) -> None:
    said, cursor = world.sense("alerts_influxdb")
    assert (said.skip_message, hook.said) == ("nothing is wrong", [])
    world.sense("alerts_influxdb", aged(cursor, 121))
    assert [one["why"].partition("\n")[0] for one in hook.said] == [
        "there is no backup yet, after 2 minutes"
    ]


def test_a_directory_that_is_gone_and_archives_that_are_bad_are_told(
    world: World, hook: Hook
) -> None:
    assert world.back_up().success
    [archive] = world.backups.glob("*.s4.tar.gz")
    archive.chmod(0o600)
    archive.write_bytes(archive.read_bytes()[:-1] + b"\xff")
    world.run("verify_influxdb")
    assert not world.check(FAMILY.shard_backup, ARCHIVES_MATCH).passed
    _, cursor = world.sense("alerts_influxdb")
    assert hook.said[0]["trouble"] == ARCHIVES_MATCH
    assert "has failed: 1 problems" in hook.said[0]["text"]
    world.backups.rename(world.backups.with_name("not mounted"))
    _, cursor = world.sense("alerts_influxdb", cursor)
    _, cursor = world.sense("alerts_influxdb", aged(cursor, LASTING_S))
    assert [one["trouble"] for one in hook.said] == [ARCHIVES_MATCH, "directory"]
    assert "no such directory" in hook.said[1]["text"]


def test_nothing_is_lost_while_a_webhook_is_away(
    world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.back_up().success
    grow_old(world, monkeypatch, 180)
    hook.status = 500
    _, cursor = world.sense("alerts_influxdb")
    said, cursor = world.sense("alerts_influxdb", cursor)
    assert "1 messages are not heard yet" in said.skip_message
    hook.status = 200
    said, cursor = world.sense("alerts_influxdb", cursor)
    assert [one["trouble"] for one in hook.said] == ["objective"] * 3  # 500, 500, 200
    said, cursor = world.sense("alerts_influxdb", cursor)
    assert len(hook.said) == 3


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
        assert [one["text"] for one in good.said] == ["one", "two", "three"]
        assert [one["text"] for one in bad.said] == ["one"]  # not asked for the next
        assert [one.text for one in outbox.messages] == ["one", "two", "three"]
        assert not [one for one in outbox.errors if "secret-path" in str(one)]
        bad.status = 200
        outbox = Outbox.of(json.loads(json.dumps(outbox.kept))).send(both, 4.0)
        assert [one["text"] for one in bad.said] == ["one", "one", "three"]
        assert [one["text"] for one in good.said] == ["one", "two", "three"]
        assert [one.text for one in outbox.messages] == ["two"]  # its secret may yet be set
        assert outbox.send(both, 90_000.0).messages == ()


def test_what_lasts_is_said_again_after_a_day_and_no_cursor_is_fatal() -> None:
    nobody, trouble = configuration(), Trouble("t", "wrong")
    alerts = Alerts.of("what is this", 0.0).look(nobody, ["eu"], [trouble], 0.0, "")
    told = [alerts.known["t"].told_s]
    for now_s in (10.0, REMIND_S - 1, REMIND_S, REMIND_S + 5):
        alerts = Alerts.of(alerts.cursor, now_s).look(nobody, ["eu"], [trouble], now_s, "")
        told.append(alerts.known["t"].told_s)
    assert told == [0.0, 0.0, 0.0, REMIND_S, REMIND_S]
