"""From what a user wrote to a store: a path of a directory, or the URL of another kind of store."""

from __future__ import annotations

import re
from pathlib import Path

from resources.errors import UsageError, shown
from resources.repository.storage.store import DirectoryStore, Store

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")


def open_store(url: str | Path) -> Store:
    """Open the store of a URL; it must be there.

    A path is the URL of a directory: `backups`, `/srv/backups`.

    Raises:
        UsageError: there is no such kind of store.
        RepositoryMissing: the directory is not there, or is none.
    """
    scheme = _URL.match(str(url))
    if scheme is not None:
        raise UsageError(
            f"{shown(str(url))} is no directory: backups cannot be stored at {scheme[1]}://",
            hint="name a directory; one whose name looks so is ./" + str(url),
        )
    return DirectoryStore(url)
