"""What people are told without a run having failed: troubles that last, and that they are over.

A trouble is judged from what is known already: the directory of backups, and what looks and
sensors have written down. The cluster is not asked, so people hear of an objective that is missed
while the cluster is away, whatever else is switched on.
Held by tests/pipelines/sensors/test_alerts.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from assets.metadata.common import for_people, utc
from pipelines.sensors.outbox import Outbox
from resources.config.values import Configuration

LASTING_S = 60.0
"""A trouble of the network is told when it has lasted that long."""
REMIND_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong now."""

    name: str
    """Tells it from others of the same cluster."""
    text: str
    """What is wrong, and the next step in a second line."""
    since_s: float | None = None
    """When it began, if that is known better than from the first look that found it."""
    lasting_s: float = 0.0
    """How long it must last before anybody is told."""


@dataclass(frozen=True, slots=True)
class _Known:
    since_s: float
    text: str
    reported_s: float | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        return cls(kept["since_s"], kept["text"], kept["told_s"])


@dataclass(frozen=True, slots=True)
class Alerts:
    """The troubles that are known, what was told of them, and what is still to be heard."""

    known: Mapping[str, _Known]
    outbox: Outbox
    first_s: float
    """When the first look was."""

    @classmethod
    def of(cls, cursor: str | None, now_s: float) -> Self:
        """From a cursor; one that cannot be read is as none."""
        try:
            kept: dict[str, Any] = json.loads(cursor or "{}")
            known = {name: _Known.of(one) for name, one in kept.get("known", {}).items()}
            outbox = Outbox.of(kept.get("outbox", ()))
            return cls(known, outbox, float(kept.get("first_s", now_s)))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls({}, Outbox(), now_s)

    @property
    def cursor(self) -> str:
        return json.dumps(
            {
                "first_s": self.first_s,
                "known": {
                    name: {"since_s": k.since_s, "text": k.text, "told_s": k.reported_s}
                    for name, k in self.known.items()
                },
                "outbox": self.outbox.kept,
            }
        )

    def advance(
        self,
        configuration: Configuration,
        clusters: Sequence[str],
        found: Sequence[Trouble],
        now_s: float,
        link: str,
    ) -> Alerts:
        """Tell of what has begun and lasts, and of what is over, and send what is to be sent.

        Args:
            clusters: what the troubles are about; none: about all.
            found: what is wrong now.
            link: where the UI shows more.
        """
        outbox, about = self.outbox, ", ".join(clusters) or "shardkeeper.yaml"
        known: dict[str, _Known] = {}
        for trouble in found:
            before = self.known.get(trouble.name)
            since = before.since_s if before else trouble.since_s or now_s
            told = before.reported_s if before else None
            due = now_s - since >= trouble.lasting_s if told is None else now_s - told >= REMIND_S
            if due:
                text = f"{about}: {trouble.text}\nSince {utc(since)}"
                facts = {"trouble": trouble.name, "why": trouble.text, "state": "begun"}
                outbox = _put(outbox, configuration, clusters, text, facts, now_s, link)
                told = now_s
            known[trouble.name] = _Known(since, trouble.text, told)
        for name, before in self.known.items():
            if name not in known and before.reported_s is not None:
                what = before.text.partition("\n")[0]
                text = f"{about}: over after {for_people(now_s - before.since_s)}: {what}"
                facts = {"trouble": name, "why": what, "state": "over"}
                outbox = _put(outbox, configuration, clusters, text, facts, now_s, link)
        return replace(self, known=known, outbox=outbox.send(configuration, now_s))

    @property
    def summary(self) -> str:
        """For the page of the sensor."""
        waiting = len(self.outbox.messages)
        unheard = f"; {waiting} messages are not heard yet" if waiting else ""
        what = "; ".join(one.text.partition("\n")[0] for one in self.known.values())
        return (what or "nothing is wrong") + unheard


def _put(
    outbox: Outbox,
    configuration: Configuration,
    clusters: Sequence[str],
    text: str,
    facts: Mapping[str, str],
    now_s: float,
    link: str,
) -> Outbox:
    more = {"url": link} if link else {}
    message = f"{text}\n{link}" if link else text
    return outbox.put(configuration, clusters, message, {**facts, **more}, now_s)
