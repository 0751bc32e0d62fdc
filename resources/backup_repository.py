"""Where backups rest, as Dagster configures it."""

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
        """The configuration as it is now, as far as it is sound.

        Raises:
            UsageError: nothing of the file is.
        """
        return read_sound(Path(self.configuration))

    def open(self, cluster: str, reading: Reading | None = None) -> BackupRepository:
        """Open the directory of a cluster's backups.

        It is never created, so that an unmounted disk is noticed.

        Args:
            reading: what the step has read of the configuration; None: the file is read here.

        Raises:
            UsageError: the cluster has none.
            RepositoryMissing: it is not there, or is no directory.
        """
        if reading is None or reading.path != Path(self.configuration):
            reading = self.reading()
        return open_repository(reading, cluster)
