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
from resources.engine.backup.watch import Watcher
from resources.errors import ShardkeeperError
from resources.repository.repository import BackupRepository
from resources.repository.watched import WatchedRepository

LOOK_S = 45.0
"""How long a look of a sensor may take; a tick may take 60 s."""


class TickFailed(Exception):
    """What Dagster shows of a tick that failed: our sentence, and the next step."""


class TickMemory:
    """What a sensor keeps in its process between its looks; losing it costs a longer look."""

    def __init__(self) -> None:
        self._forget()
        self.patience = Patience(LOOK_S, forget=self._forget)

    def _forget(self) -> None:
        """Whoever still hangs in the old ones keeps them for itself."""
        self._repository: WatchedRepository | None = None
        self._watcher: Watcher | None = None

    def of(self, repository: BackupRepository) -> tuple[WatchedRepository, Watcher]:
        watched, watcher = self._repository, self._watcher
        if watched is None or watcher is None or watched.location != repository.location:
            watched = WatchedRepository(repository)
            watcher = Watcher(watched)
            self._repository, self._watcher = watched, watcher
        return watched, watcher

    def directory(self, repository: BackupRepositoryResource, cluster: str) -> WatchedRepository:
        """The directory of backups, with its manifests read.

        Raises:
            ShardkeeperError: it is not there, or cannot be read.
        """

        def read() -> WatchedRepository:
            watched, _ = self.of(repository.open(cluster))
            watched.refresh()
            return watched

        return self.patience.wait_for(f"reading the backups of {cluster}", read)


@contextmanager
def spoken() -> Generator[None]:
    """Say an error of ours as runs do; a bug keeps its traceback."""
    try:
        yield
    except ShardkeeperError as error:
        raise TickFailed(what_happened(error)) from None
