"""The Dagster resource for the repositories of backups."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from resources.config.opening import open_repository
from resources.config.reading import Reading, read_sound
from resources.repository.repository import BackupRepository


class BackupRepositoryResource(dg.ConfigurableResource):
    """Directories of backups, as influxd and influxd-ctl write them too; one for each cluster."""

    configuration: str = Field(
        description="The configuration file, shardkeeper.yaml, which names the directories; of a "
        "directory, the embedded clusters below it."
    )

    def reading(self) -> Reading:
        """Read the sound part of the configuration file.

        Raises:
            UsageError: no part of the file is sound.
        """
        return read_sound(Path(self.configuration))

    def open(self, cluster: str, reading: Reading | None = None) -> BackupRepository:
        """Open the directory of a cluster's backups.

        A missing directory is an error and is not created: a disk may not be mounted.

        Args:
            reading: the configuration that the step has read; None reads the file here.

        Raises:
            UsageError: the cluster has no repository.
            RepositoryMissing: the directory does not exist, or is a file.
        """
        if reading is None or reading.path != Path(self.configuration):
            reading = self.reading()
        return open_repository(reading, cluster)
