"""One meta node's copy of the metastore; a change is on disk before any reply has it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from msgspec.structs import replace

from resources.model import Metastore
from resources.protocol.meta import decode_metastore, encode_metastore

META_FILE = "meta.db"

EMPTY = Metastore(0, 1, 0, (), (), (), (), 0, 0, 0)
"""The metastore of a node that has not joined a cluster."""


def put_file(path: Path, raw: bytes) -> None:
    """Write and sync a file, as a whole or not at all."""
    pending = path.with_name(f"{path.name}.pending")
    with pending.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)


class MetaState:
    """The metastore in a directory; safe to share between threads.

    Raises:
        BadReply: the constructor finds a file that is not a metastore.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / META_FILE
        self._changed = threading.Condition()
        self._changes = 0
        self._raw = self._path.read_bytes() if self._path.exists() else encode_metastore(EMPTY)
        self._store = decode_metastore(self._raw)

    @property
    def metastore(self) -> Metastore:
        return self._store

    @property
    def encoded(self) -> bytes:
        """The serialized `Data` for clients."""
        return self._raw

    def install(self, store: Metastore, *, index: int, term: int) -> None:
        """Install a metastore, with the index and term of the entry that made it."""
        store = replace(store, index=index, term=term)
        raw = encode_metastore(store)
        put_file(self._path, raw)
        with self._changed:
            self._store, self._raw = store, raw
            self._changes += 1
            self._changed.notify_all()

    def copy_of(self, other: MetaState) -> None:
        """Install another node's copy."""
        theirs = other.metastore
        self.install(theirs, index=theirs.index, term=theirs.term)

    def wait_change(self, index: int, closing: threading.Event, poll_s: float = 0.2) -> bool:
        """Wait for a metastore newer than `index`, or for the next change of any index.

        The original's long poll does the same: it does not wait until the index exceeds the
        requested one. Returns False if `closing` was set.
        """
        with self._changed:
            seen = self._changes
            while self._store.index <= index and self._changes == seen:
                if closing.is_set():
                    return False
                self._changed.wait(poll_s)
        return True
