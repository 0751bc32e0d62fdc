"""What the ticks of sensors have in common: a memory, an end, and our sentences.

A tick has a minute before Dagster gives it up with a sentence of its own, and there are few
workers for all sensors of all clusters. So whatever may hang, a source or a disk, is asked in a
`Patience` that ends earlier, and with our sentence.
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
"""How long a look of a sensor may take; a tick may take 60 s."""


class TickFailed(Exception):
    """What Dagster shows of a tick that failed: our sentence, and the next step."""


class TickMemory:
    """What a sensor keeps in its process between its looks; losing it costs a longer look."""

    def __init__(self) -> None:
        self._forget()
        self.patience = Patience(SCAN_TIMEOUT_S, forget=self._forget)

    def _forget(self) -> None:
        """Whoever still hangs in the old ones keeps them for itself."""
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
            ShardkeeperError: it is not there, or cannot be read.
        """

        def read() -> ManifestCache:
            cached, _ = self.of(repository.open(cluster))
            cached.refresh()
            return cached

        return self.patience.wait_for(f"reading the backups of {cluster}", read)


@contextmanager
def spoken() -> Generator[None]:
    """Say an error of ours as runs do; a bug keeps its traceback."""
    try:
        yield
    except ShardkeeperError as error:
        raise TickFailed(what_happened(error)) from None
