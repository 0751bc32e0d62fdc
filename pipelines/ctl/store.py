"""From a path on the command line to a repository."""

from __future__ import annotations

from pathlib import Path

from resources.repository.repository import BackupRepository
from resources.repository.store import DirectoryStore


def open_repository(path: str) -> BackupRepository:
    """The backups in a directory, which must exist.

    Raises:
        RepositoryMissing: it does not, or it is no directory.
    """
    directory = Path(path)
    return BackupRepository(DirectoryStore(directory), path, scratch_dir=str(directory))
