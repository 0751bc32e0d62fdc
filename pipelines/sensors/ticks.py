"""Common parts of the sensors' ticks: a memory, a time limit, and our error messages.

Dagster ends a tick after a minute with its own message, and few workers serve all sensors of all
clusters. So work that may hang, on a source or a disk, runs in a `Patience`, which ends earlier
and with our message.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from assets.messages import what_happened
from pipelines.sensors.bounded_wait import Patience
from resources.backup_repository import BackupRepositoryResource
from resources.engine.backup.poll import ChangePoller
from resources.errors import ShardkeeperError
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository

SCAN_TIMEOUT_S = 45.0
"""How long the work of a tick may take; a tick may take 60 s."""


class TickFailed(Exception):
    """What Dagster shows of a failed tick: our message, and the next step."""


class TickMemory:
    """What a sensor keeps in its process between ticks; without it a tick takes longer."""

    def __init__(self) -> None:
        self._forget()
        self.patience = Patience(SCAN_TIMEOUT_S, forget=self._forget)

    def _forget(self) -> None:
        """Start with new objects; a thread that still hangs keeps the old ones to itself."""
        self._repository: ManifestCache | None = None
        self._poller: ChangePoller | None = None

    def of(self, repository: BackupRepository) -> tuple[ManifestCache, ChangePoller]:
        cached, poller = self._repository, self._poller
        if cached is None or poller is None or cached.repository.location != repository.location:
            cached = ManifestCache(repository)
            poller = ChangePoller(cached)
            self._repository, self._poller = cached, poller
        return cached, poller

    def directory(self, repository: BackupRepositoryResource, cluster: str) -> ManifestCache:
        """The directory of backups, with its manifests read.

        Raises:
            ShardkeeperError: it does not exist, or cannot be read.
        """

        def read() -> ManifestCache:
            cached, _ = self.of(repository.open(cluster))
            cached.refresh()
            return cached

        return self.patience.wait_for(f"reading the backups of {cluster}", read)


@contextmanager
def spoken() -> Generator[None]:
    """Turn an error of ours into a failed tick; a bug keeps its traceback."""
    try:
        yield
    except ShardkeeperError as error:
        raise TickFailed(what_happened(error)) from None
