"""One small JSON record in a store: read, replaced and removed, each time in one step.

The lock, the journals of restores and merges, receipts and the record of crashes are such objects.
Several runs may use the same record, and a run may be killed between any two instructions. So a
record is

- replaced in one step (`Store.swap`), never deleted and created anew: after a kill there is the
  old record or the new one;
- replaced or removed only while it holds what this `RecordFile` read or wrote last: the record
  that another run wrote since then stays.

A write that raised an error may have reached the store all the same. Until the next write succeeds,
the content before it and the content of it both count as the last.

Held by tests/resources/repository/storage/test_record_file.py.
"""

from __future__ import annotations

from typing import Self

from resources.errors import ManifestUnreadable, NameMissing, NameTaken, StoreFailed
from resources.repository.storage.store import Store

MAX_RECORD_BYTES = 256 << 20
"""Of the largest kind: a journal names every file of a restore."""


class RecordFile:
    """One record, by its name; not safe to share between threads.

    Attributes:
        name: of the object.
    """

    def __init__(self, store: Store, name: str, *, max_bytes: int = MAX_RECORD_BYTES) -> None:
        self.name = name
        self._store = store
        self._max_bytes = max_bytes
        self._last: tuple[bytes | None, ...] = ()
        """What may be stored, as far as this object knows; None: no record. Empty: not known."""

    @classmethod
    def absent(cls, store: Store, name: str, *, max_bytes: int = MAX_RECORD_BYTES) -> Self:
        """A record that is to be created; `put` replaces none."""
        return cls.holding(store, name, None, max_bytes=max_bytes)

    @classmethod
    def holding(
        cls, store: Store, name: str, raw: bytes | None, *, max_bytes: int = MAX_RECORD_BYTES
    ) -> Self:
        """A record that the caller has read already; `put` replaces only that content."""
        file = cls(store, name, max_bytes=max_bytes)
        file._last = (raw,)
        return file

    def read(self) -> bytes | None:
        """What is stored; None if there is no record.

        Raises:
            ManifestUnreadable: it is too long for a record.
            StoreFailed: the store cannot read it.
        """
        try:
            with self._store.open(self.name) as source:
                if source.size_bytes > self._max_bytes:
                    raise ManifestUnreadable(
                        f"{self.name} has {source.size_bytes} bytes, more than any such record",
                        hint="find out who wrote it, and move it out of the directory",
                    )
                raw = source.read(source.size_bytes + 1)
        except NameMissing:
            self._last = (None,)
            return None
        self._last = (raw,)
        return raw

    def is_there(self) -> bool:
        """Whether there is a record, of whichever run."""
        return self._store.has(self.name)

    def put(self, raw: bytes) -> bool:
        """Store `raw` in the place of what was read or written last; it is durable then.

        False: the store holds something else, which stays. A record that was neither read nor
        written is read first.

        Raises:
            StoreFailed, StoreFull: the store may hold `raw`, or what it held before.
        """
        if not self._last:
            self.read()
        try:
            done = any(self._replace(last, raw) for last in self._last)
        except StoreFailed:
            if raw not in self._last:
                self._last = (*self._last, raw)
            raise
        if done:
            self._last = (raw,)
        return done

    def remove(self) -> bool:
        """Remove what was read or written last; one that is gone already is removed.

        False: the store holds something else, which stays. A record that was neither read nor
        written is read first.

        Raises:
            StoreFailed: the store cannot delete it.
        """
        if not self._last:
            self.read()
        stored = (last for last in self._last if last is not None)
        if not any(self._store.swap(self.name, last, None) for last in stored) and self.is_there():
            return False
        self._last = (None,)
        return True

    def _replace(self, last: bytes | None, raw: bytes) -> bool:
        if last is not None:
            return self._store.swap(self.name, last, raw)
        try:
            with self._store.create(self.name) as sink:
                sink.write(raw)
        except NameTaken:
            return False
        return True
