"""Where backups rest, as Dagster configures it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from resources.config.opening import open_repository
from resources.config.reading import read_sound
from resources.repository.repository import BackupRepository


class BackupRepositoryResource(dg.ConfigurableResource):
    """Directories of backups, as influxd and influxd-ctl write them too; one for each cluster."""

    configuration: str = Field(
        description="The configuration file, shardkeeper.yaml, which names the directories; of a "
        "directory, the embedded clusters below it."
    )

    def open(self, cluster: str) -> BackupRepository:
        """Open the directory of a cluster's backups.

        It is never created, so that an unmounted disk is noticed.

        Raises:
            UsageError: the cluster has none.
            RepositoryMissing: it is not there, or is no directory.
        """
        return open_repository(read_sound(Path(self.configuration)), cluster)

    def directory(self, cluster: str) -> str:
        """The path of that directory, there or not.

        Raises:
            UsageError: the cluster is not configured.
        """
        reading = read_sound(Path(self.configuration))
        settings = reading.cluster(cluster)
        return str(reading.configuration.repositories[settings.repository].path)

    def lock_wait(self, cluster: str) -> float:
        """Seconds to wait while another run works in the same directory."""
        reading = read_sound(Path(self.configuration))
        settings = reading.cluster(cluster)
        return reading.configuration.repositories[settings.repository].lock_wait
