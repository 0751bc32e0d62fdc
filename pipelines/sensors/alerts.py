"""Alerts about lasting troubles that no failed run reports, and about their end.

A trouble is evaluated from what is already recorded: the directory of backups, and the results of
scans and sensors. The sensor does not contact the cluster. So it reports a missed objective also
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
"""How long a trouble of the network lasts before it is reported."""
REMIND_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong now."""

    name: str
    """Distinguishes it from others of the same cluster."""
    text: str
    """What is wrong, and the next step in a second line."""
    since_s: float | None = None
    """When it began, if known better than from the first tick that found it."""
    lasting_s: float = 0.0
    """How long it must last before it is reported."""


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
    """The known troubles, when each was reported, and the messages still to be delivered."""

    known: Mapping[str, _Known]
    outbox: Outbox
    first_s: float
    """The time of the first tick."""

    @classmethod
    def of(cls, cursor: str | None, now_s: float) -> Self:
        """Read a cursor; an unreadable one counts as empty."""
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
        """Report troubles that last and troubles that are over, and send the messages.

        Args:
            clusters: the clusters with the troubles; none: all.
            found: the troubles now.
            link: to the UI.
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
                outbox = outbox.put(configuration, clusters, *_linked(text, facts, link), now_s)
                told = now_s
            known[trouble.name] = _Known(since, trouble.text, told)
        for name, before in self.known.items():
            if name not in known and before.reported_s is not None:
                what = before.text.partition("\n")[0]
                text = f"{about}: over after {for_people(now_s - before.since_s)}: {what}"
                facts = {"trouble": name, "why": what, "state": "over"}
                outbox = outbox.put(configuration, clusters, *_linked(text, facts, link), now_s)
        return replace(self, known=known, outbox=outbox.send(configuration, now_s))

    @property
    def summary(self) -> str:
        """A line for the page of the sensor."""
        waiting = len(self.outbox.messages)
        unheard = f"; {waiting} messages are not delivered yet" if waiting else ""
        what = "; ".join(one.text.partition("\n")[0] for one in self.known.values())
        return (what or "nothing is wrong") + unheard


def _linked(text: str, facts: Mapping[str, str], link: str) -> tuple[str, Mapping[str, str]]:
    """A message with a link to the UI, if there is one."""
    return (f"{text}\n{link}", {**facts, "url": link}) if link else (text, facts)
