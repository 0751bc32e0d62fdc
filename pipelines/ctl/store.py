"""From a path on the command line to a repository."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from resources.errors import UsageError
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository


def open_repository(path: str) -> BackupRepository:
    """The backups in a directory, which must exist.

    Raises:
        UsageError: the path is empty, which would be the directory we happen to be in.
        RepositoryMissing: it does not, or it is no directory.
    """
    if not path:
        raise UsageError(
            "the path to the backup directory is empty",
            hint="name the directory, . for this one; is a variable not set?",
        )
    return BackupRepository.open(path)


def choose(
    path: str, *, full: bool, as_of: datetime | None
) -> tuple[BackupRepository, BackupSet, str]:
    """The state to restore: the newest of a directory, or with `-full` that of one manifest.

    Returns the repository, the state, and the directory.

    Raises:
        UsageError: the path is the other one of these two.
        RepositoryError: there is no such backup.
    """
    if full:
        if Path(path).is_dir():
            raise UsageError(
                f"{path} is a directory; -full takes the path of one manifest",
                hint="leave -full out to restore the newest state of a directory",
            )
        directory = str(Path(path).parent)
        repository = open_repository(directory)
        return repository, repository.single(Path(path).name), directory
    if Path(path).is_file():
        raise UsageError(
            f"{path} is a file; restore takes a directory",
            hint="to restore one full backup from its manifest, add -full",
        )
    repository = open_repository(path)
    return repository, repository.current(as_of=as_of), path
