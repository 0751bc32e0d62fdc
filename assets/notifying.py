"""Tell the teams that asked to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resources.clients.webhook import post
from resources.config.values import Configuration
from resources.errors import ShardkeeperError


@dataclass(frozen=True, slots=True)
class Told:
    """How many webhooks took it, and what went wrong with the others."""

    heard: int
    failed: tuple[ShardkeeperError, ...]

    @property
    def again(self) -> bool:
        """Whether to try again: somebody should have heard, and nobody has."""
        return bool(self.failed) and not self.heard


def notify(configuration: Configuration, cluster: str, text: str, facts: Mapping[str, str]) -> Told:
    """Post to every webhook that is for this cluster."""
    failed: list[ShardkeeperError] = []
    heard = 0
    for one in configuration.notify:
        if one.clusters and cluster not in one.clusters:
            continue
        try:
            post(one.url.read(), text, {"cluster": cluster, **facts}, style=one.format)
            heard += 1
        except ShardkeeperError as error:
            failed.append(error)
    return Told(heard, tuple(failed))
