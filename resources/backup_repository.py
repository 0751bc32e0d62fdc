"""Where backups rest, as Dagster configures it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from resources.repository.repository import BackupRepository
from resources.repository.store import DirectoryStore


class BackupRepositoryResource(dg.ConfigurableResource):
    """A directory of backups of one server, as influxd and influxd-ctl write them too."""

    path: str = Field(
        default="backups",
        description="An existing directory; the backups of one server only. It is never created, "
        "so that an unmounted disk is noticed.",
    )
    lock_wait: float = Field(
        default=3600.0,
        ge=0,
        description="Seconds to wait while another run works in the same directory.",
    )

    def open(self) -> BackupRepository:
        """Open the directory.

        Raises:
            RepositoryMissing: it is not there, or is no directory.
        """
        directory = Path(self.path)
        return BackupRepository(DirectoryStore(directory), self.path, scratch_dir=str(directory))
