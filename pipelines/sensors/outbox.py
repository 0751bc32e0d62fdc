"""Messages to webhooks, kept until they are delivered.

A short outage of a webhook must not lose messages. So a message stays in the cursor of its sensor
until each webhook that wants it has accepted it, or a day has passed. A delivered message is not
sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from resources.clients.webhook import post
from resources.config.values import Configuration
from resources.errors import ShardkeeperError

MAX_KEPT = 50
KEPT_FOR_S = 86_400.0
MAX_TEXT = 3000


@dataclass(frozen=True, slots=True)
class Message:
    """A message about a cluster, and the webhooks that have not received it yet."""

    cluster: str
    text: str
    facts: Mapping[str, str]
    at_s: float
    """When it was created, in seconds since 1970."""
    left: tuple[int, ...]
    """The entries under `notify` that have not received it, by number."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """Undelivered messages, oldest first."""

    messages: tuple[Message, ...] = ()
    errors: tuple[ShardkeeperError, ...] = field(default=(), compare=False)
    """Errors of the last attempt to send."""

    @classmethod
    def of(cls, kept: Sequence[Mapping[str, Any]]) -> Self:
        """Read the part of a cursor."""
        return cls(tuple(Message(**{**one, "left": tuple(one["left"])}) for one in kept))

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The part of a cursor."""
        return [
            {
                "cluster": one.cluster,
                "text": one.text,
                "facts": dict(one.facts),
                "at_s": one.at_s,
                "left": list(one.left),
            }
            for one in self.messages
        ]

    def put(
        self,
        configuration: Configuration,
        clusters: Sequence[str],
        text: str,
        facts: Mapping[str, str],
        now_s: float,
    ) -> Outbox:
        """Add a message for every webhook that wants messages about one of these clusters.

        Args:
            clusters: the clusters it is about; none: all.
        """
        left = tuple(
            at
            for at, one in enumerate(configuration.notify)
            if not clusters or not one.clusters or set(clusters) & set(one.clusters)
        )
        if not left:
            return self
        answer = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
        message = Message(", ".join(clusters), answer, dict(facts), now_s, left)
        return replace(self, messages=(*self.messages, message)[-MAX_KEPT:])

    def send(self, configuration: Configuration, now_s: float) -> Outbox:
        """Try each message once; after an error a webhook is skipped for the rest."""
        errors: dict[int, ShardkeeperError] = {}
        kept: list[Message] = []
        for one in self.messages:
            left = tuple(at for at in one.left if not _heard(configuration, at, one, errors))
            if left and now_s - one.at_s < KEPT_FOR_S:
                kept.append(replace(one, left=left))
        return Outbox(tuple(kept), tuple(errors.values()))


def _heard(
    configuration: Configuration, at: int, message: Message, errors: dict[int, ShardkeeperError]
) -> bool:
    """Whether it is delivered now, or its webhook is no longer configured."""
    if at >= len(configuration.notify):
        return True
    if at in errors:
        return False
    one = configuration.notify[at]
    facts = {"cluster": message.cluster, **message.facts}
    try:
        post(one.url.read(), message.text, facts, style=one.format)
    except ShardkeeperError as error:
        errors[at] = error
        return False
    return True
