"""Open a repository from a path or URL on the command line."""

from __future__ import annotations

from datetime import datetime

from resources.errors import UsageError
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository
from resources.repository.storage.places import is_container, is_object, split


def open_repository(path: str) -> BackupRepository:
    """The backups in an existing directory or bucket.

    Raises:
        UsageError: the path is empty, which would mean the current directory.
        RepositoryMissing: it does not exist, or is not a directory.
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
        UsageError: the path is a manifest without `full`, or a directory with it.
        RepositoryError: there is no such backup.
    """
    if full:
        if is_container(path):
            raise UsageError(
                f"{path} is a directory; -full takes the path of one manifest",
                hint="leave -full out to restore the newest state of a directory",
            )
        directory, name = split(path)
        repository = open_repository(directory)
        return repository, repository.single(name), directory
    if is_object(path):
        raise UsageError(
            f"{path} is a file; restore takes a directory",
            hint="to restore one full backup from its manifest, add -full",
        )
    repository = open_repository(path)
    return repository, repository.current(as_of=as_of), path
