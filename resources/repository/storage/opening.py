"""From what a user wrote to a store: a directory or a bucket."""

from __future__ import annotations

from pathlib import Path

from resources.errors import UsageError
from resources.repository.storage.places import is_bucket, local_path
from resources.repository.storage.store import DirectoryStore, Store

_EXTRA = "object-store"


def open_store(url: str | Path) -> Store:
    """Open the store of a path or URL (`resources.repository.storage.places`); it must be there.

    Whether a bucket exists shows at the first request.

    Raises:
        UsageError: there is no such kind of store.
        RepositoryMissing: the directory is not there, or is none.
    """
    if not is_bucket(url):
        return DirectoryStore(local_path(url))
    try:
        from resources.repository.storage.object_store import ObjectStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "obstore":
            raise
        raise UsageError(
            f"{str(url).partition('://')[0]}:// needs the package obstore, which is not installed",
            hint=f"pip install 'shardkeeper[{_EXTRA}]'",
        ) from None
    return ObjectStore.at(str(url))
