"""Report failed runs to webhooks: each one once, retried until it is delivered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

import dagster as dg

from pipelines.sensors.outbox import Outbox
from pipelines.sensors.run_clusters import clusters_of
from resources.config.values import Configuration
from resources.errors import named_few

OVERLAP_S = 120.0
"""How far back runs are read again, because the clocks of two machines differ."""
MAX_AT_ONCE = 25


@dataclass(frozen=True, slots=True)
class FailedRuns:
    """How far the runs have been read, and the messages still to be delivered."""

    since_s: float
    seen: tuple[str, ...] = ()
    """The runs since then that have been read."""
    outbox: Outbox = field(default_factory=Outbox)

    @classmethod
    def of(cls, cursor: str | None, now_s: float) -> Self:
        """Read a cursor; without one, earlier failures are not reported."""
        try:
            kept: dict[str, Any] = json.loads(cursor or "")
            return cls(float(kept["since_s"]), tuple(kept["seen"]), Outbox.of(kept["outbox"]))
        except (ValueError, TypeError, KeyError):
            return cls(now_s)

    @property
    def cursor(self) -> str:
        kept = {"since_s": self.since_s, "seen": list(self.seen), "outbox": self.outbox.kept}
        return json.dumps(kept)

    def advance(
        self, instance: dg.DagsterInstance, configuration: Configuration, now_s: float, url: str
    ) -> FailedRuns:
        """Report the runs that have failed since, and send the messages."""
        outbox = self.outbox
        wanted = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            updated_after=datetime.fromtimestamp(self.since_s - OVERLAP_S, UTC),
        )
        records = instance.get_run_records(
            wanted, limit=MAX_AT_ONCE + len(self.seen), order_by="update_timestamp", ascending=True
        )
        fresh = [one for one in records if one.dagster_run.run_id not in self.seen]
        fresh = [one for one in fresh if (one.end_time or now_s) >= self.since_s - OVERLAP_S]
        for record in fresh[:MAX_AT_ONCE]:
            run = record.dagster_run
            clusters = clusters_of(run, configuration.clusters)
            why, link = why_failed(instance, run.run_id), f"{url}/runs/{run.run_id}" if url else ""
            text = f"{_called(run)} failed: {why}\n{link or f'Run {run.run_id}'}"
            facts = {"job": run.job_name, "run": run.run_id, "why": why}
            facts |= {"url": link} if link else {}
            outbox = outbox.put(configuration, clusters, text, facts, now_s)
        since_s = self.since_s if len(fresh) > MAX_AT_ONCE else max(self.since_s, now_s)
        ids = {one.dagster_run.run_id for one in fresh[:MAX_AT_ONCE]}
        listed = {one.dagster_run.run_id for one in records}
        seen = tuple(sorted(ids | (set(self.seen) & listed)))
        return replace(self, since_s=since_s, seen=seen, outbox=outbox.send(configuration, now_s))


def _called(run: dg.DagsterRun) -> str:
    """A name for what was launched."""
    if not run.job_name.startswith("__"):
        return run.job_name
    keys = sorted(key.to_user_string() for key in run.asset_selection or ())
    checks = sorted(
        f"{one.name} of {one.asset_key.to_user_string()}" for one in run.asset_check_selection or ()
    )
    names = keys or checks
    return f"materializing {named_few(names, 3)}" if names else run.job_name


def why_failed(instance: dg.DagsterInstance, run_id: str) -> str:
    """The messages of the failed steps; else of what ended the run."""
    steps = [
        str(data.user_failure_data.description or "")
        if (data := event.step_failure_data).user_failure_data
        else (data.error.message if data.error else "")
        for event in _events(instance, run_id, dg.DagsterEventType.STEP_FAILURE)
    ]
    why = "\n".join(step.strip() for step in steps if step)
    if why:
        return why
    failed = _messages(instance, run_id, dg.DagsterEventType.RUN_FAILURE)
    engine = _messages(instance, run_id, dg.DagsterEventType.ENGINE_EVENT)
    killed = [text for text in engine if "signal" in text or "exit code" in text.lower()]
    broken = _errors_of_engine(instance, run_id)
    return "\n".join([*failed[-1:], *(killed or broken)[-1:]]).strip() or "no reason is recorded"


def _errors_of_engine(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Errors before the first step, such as code that does not load: each with its cause."""
    found: list[str] = []
    for event in _events(instance, run_id, dg.DagsterEventType.ENGINE_EVENT):
        if (error := event.engine_event_data.error) is None:
            continue
        while error.cause is not None:
            error = error.cause
        found.append(f"{event.message or ''} {error.message.strip()}".strip())
    return found


def _messages(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> list[str]:
    return [event.message or "" for event in _events(instance, run_id, kind)]


def _events(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> Sequence[Any]:
    records = instance.get_records_for_run(run_id, of_type=kind).records
    return [one.event_log_entry.dagster_event for one in records]
