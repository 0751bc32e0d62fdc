"""The configuration without a file: a cluster on this machine, and one to restore into.

`make dev` starts both, with all files below one directory.
"""

from __future__ import annotations

from pathlib import Path

from resources.config.values import EMBEDDED, Cluster, Configuration

SOURCE = "dev"
DIRECTORY = Path(".devcluster")
SOURCE_DIRECTORY = DIRECTORY / "source"
TARGET_DIRECTORY = DIRECTORY / "target"
BACKUPS_DIRECTORY = DIRECTORY / "backups"


def embedded_configuration(base: Path) -> Configuration:
    """The cluster `dev`, with sensors on, and an empty one as the target of restores.

    Args:
        base: the directory above theirs.
    """
    return Configuration.model_validate(
        {
            "repositories": {SOURCE: {"path": base / BACKUPS_DIRECTORY}},
            "clusters": {
                EMBEDDED: embedded_target(base),
                SOURCE: {
                    "embedded": base / SOURCE_DIRECTORY,
                    "repository": SOURCE,
                    "objectives": {"recovery_point": "15m"},
                    "watch_every": "10s",
                    "running": ["watch", "adopt"],
                },
            },
        }
    )


def embedded_target(base: Path) -> Cluster:
    return Cluster(embedded=base / TARGET_DIRECTORY)
