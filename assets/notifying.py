"""Tell the teams that asked to be told."""

from __future__ import annotations

from collections.abc import Mapping

from resources.clients.webhook import post
from resources.config.values import Configuration
from resources.errors import ShardkeeperError


def notify(
    configuration: Configuration, cluster: str, text: str, facts: Mapping[str, str]
) -> list[ShardkeeperError]:
    """Post to every webhook that is for this cluster; returns what went wrong."""
    failed: list[ShardkeeperError] = []
    for one in configuration.notify:
        if one.clusters and cluster not in one.clusters:
            continue
        try:
            post(one.url.read(), text, {"cluster": cluster, **facts}, style=one.format)
        except ShardkeeperError as error:
            failed.append(error)
    return failed
