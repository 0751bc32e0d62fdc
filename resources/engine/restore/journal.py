"""What a restore into a single server has created there, on record before it creates it.

A restore that was killed cannot take back what it did. The next one from the same directory finds
its record, and

- drops a database that holds nothing but what was sent, or a part of it;
- leaves one that was complete, and one into which others have written since: nobody's points are
  dropped as a left-over. It is named, and stays on record until it is gone.

While a restore is at work it holds a lock beside its record, so that others leave both alone. One
that stood still until another run took the lock over cannot end as if all were there: whoever takes
something back first writes `taken_back` into the record, and a restore is complete only once it has
put `complete` into the record that it wrote last (`JournalWriter.complete`). Each is one comparing
and replacing, so only one of the two happens. Before each change on the server the restore asks
whether the lock is still its own. The record is one JSON object:

    {"version": 1, "cluster_id": …, "address": …, "server_started_ns": …, "complete": false,
     "taken_back": false,
     "databases": {name: {"shards": {shard ID: [[file, bytes, CRC-32], …]} or null,
                          "groups": [[policy, start in ns, end in ns, number of shards], …]}}}

`shards` is null until the server has said what their numbers are.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from resources.engine.events import Tell, Warned
from resources.errors import (
    LockLost,
    ManifestUnreadable,
    NameMissing,
    RepositoryLocked,
    ShardkeeperError,
    StoreFailed,
    shown,
)
from resources.model import ShardID
from resources.repository.evidence import FileID
from resources.repository.lock import StoreLock
from resources.repository.store import Store

VERSION = 1
MAX_JOURNAL_BYTES = 256 << 20
PREFIX, SUFFIX, LOCK = ".shardkeeper.server-restore-", ".json", ".lock"

OF_CLUSTERS = ".shardkeeper.restore-"
UNKNOWN = "; if this restore is killed, nobody will know what to take away"

Group = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class CreatedDatabase:
    """A database that is created, or about to be."""

    groups: tuple[Group, ...]
    shards: Mapping[ShardID, frozenset[FileID]] | None = None
    """The files that each of its shards gets; None: their numbers are not known."""


@dataclass(frozen=True, slots=True)
class ServerJournal:
    """The record of one restore."""

    cluster_id: int
    address: str
    server_started_ns: int | None
    """When the server began to count what is written to it."""
    databases: Mapping[str, CreatedDatabase] = field(default_factory=dict[str, CreatedDatabase])
    complete: bool = False
    taken_back: bool = False
    """Whether another run has begun to take back what it created."""

    def encode(self) -> bytes:
        databases = {
            name: {
                "groups": made.groups,
                "shards": None
                if made.shards is None
                else {shard: sorted(files) for shard, files in made.shards.items()},
            }
            for name, made in self.databases.items()
        }
        said = {"version": VERSION, "cluster_id": self.cluster_id, "address": self.address}
        said |= {"server_started_ns": self.server_started_ns, "complete": self.complete}
        said |= {"taken_back": self.taken_back}
        return json.dumps(said | {"databases": databases}).encode()

    @classmethod
    def decode(cls, raw: bytes, name: str) -> ServerJournal:
        """Read a record.

        Raises:
            ManifestUnreadable: it is none.
        """
        try:
            said = json.loads(raw)
            if said["version"] != VERSION:
                raise ValueError
            started = said["server_started_ns"]
            return cls(
                int(said["cluster_id"]),
                _text(said["address"]),
                None if started is None else int(started),
                {_text(key): _created(value) for key, value in said["databases"].items()},
                said["complete"] is True,
                said.get("taken_back") is True,
            )
        except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise ManifestUnreadable(
                f"{name} cannot be read; it says what an interrupted restore has created",
                hint="look for databases that are not complete, drop them, then delete the file",
            ) from None


def _created(value: Any) -> CreatedDatabase:
    shards = value["shards"]
    return CreatedDatabase(
        tuple((_text(p), int(a), int(b), int(n)) for p, a, b, n in value["groups"]),
        None
        if shards is None
        else {
            ShardID(int(shard)): frozenset((_text(f), int(size), int(crc)) for f, size, crc in one)
            for shard, one in shards.items()
        },
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


class JournalWriter:
    """The record of a restore that is at work; without a store it is only in memory.

    Attributes:
        journal: what is written.
    """

    def __init__(
        self,
        store: Store | None,
        name: str,
        journal: ServerJournal,
        tell: Tell,
        lock: StoreLock | None = None,
    ) -> None:
        self.journal = journal
        self._tell = tell
        self._store = store
        self._name = name
        self._lock = lock
        self._written: tuple[bytes, ...] = ()
        """What may be stored: after a write that failed, the old or the new record."""

    def check_still_ours(self) -> None:
        """To be called right before something is changed on the server.

        Raises:
            LockLost: another run took the place of this one, and takes back what it has created.
        """
        if self._lock is None:
            return
        try:
            mine = self._lock.still_mine()
        except RepositoryLocked:
            mine = False  # somebody stands still amid replacing the lock's record
        except StoreFailed:
            return  # a directory that fails now keeps others out as well
        if not mine:
            raise _lost(self._name)

    def is_still_ours(self) -> bool:
        """Whether no other run has taken the place of this one."""
        try:
            self.check_still_ours()
        except LockLost:
            return False
        return True

    def explain(self, error: ShardkeeperError) -> None:
        """Say why a restore failed, if it did since it lost its place.

        Raises:
            LockLost: it did; with the notes of the error.
        """
        try:
            self.check_still_ours()
        except LockLost as lost:
            for note in getattr(error, "__notes__", ()):
                lost.add_note(note)
            raise lost from error

    def add(self, name: str, made: CreatedDatabase) -> None:
        """Put a database on record, or what more is known of it.

        A repository that cannot be written to is no reason to do without the restore.

        Raises:
            RepositoryLocked: another run took the place of this one.
        """
        journal = replace(self.journal, databases={**self.journal.databases, name: made})
        try:
            self._write(journal)
        except RepositoryLocked:
            raise
        except StoreFailed as error:
            self._tell(Warned(f"{error.what}{UNKNOWN}"))
            self.journal = journal

    def forget(self, name: str) -> None:
        """Take a database off the record: it was not created, or is gone."""
        left = {key: made for key, made in self.journal.databases.items() if key != name}
        journal = replace(self.journal, databases=left)
        with suppress(StoreFailed):
            self._write(journal)
        self.journal = journal

    def complete(self) -> None:
        """Say that everything is there, so that nothing of it is taken back.

        Raises:
            RepositoryLocked: another run has taken back some of it, or is about to.
        """
        journal = replace(self.journal, complete=True)
        try:
            self._write(journal)
        except RepositoryLocked:
            raise
        except StoreFailed:  # the record goes in a moment
            pass
        self.journal = journal

    def remove(self) -> None:
        """Take the record away.

        Raises:
            StoreFailed
        """
        if self._store is not None:
            self._store.delete(self._name)

    def _write(self, journal: ServerJournal) -> None:
        raw = journal.encode()
        if self._store is not None:
            try:
                self._put(self._store, raw)
            except LockLost:
                raise
            except StoreFailed:
                self._written = (*self._written, raw) if self._written else ()
                raise
        self._written, self.journal = (raw,), journal

    def _put(self, store: Store, raw: bytes) -> None:
        if not self._written:
            with store.create(self._name) as sink:
                sink.write(raw)
        elif not any(store.swap(self._name, old, raw) for old in self._written):
            raise _lost(self._name)


@contextmanager
def keeping_journal(
    store: Store, journal: ServerJournal, *, tell: Tell
) -> Generator[JournalWriter]:
    """Have a record for the block, which goes afterwards unless a database is still on it."""
    name = f"{PREFIX}{journal.cluster_id}-{secrets.token_hex(8)}{SUFFIX}"
    try:
        lock = StoreLock.acquire(store, command="restore", name=name.removesuffix(SUFFIX) + LOCK)
    except StoreFailed as error:
        tell(Warned(f"{error.what}{UNKNOWN}"))
        yield JournalWriter(None, name, journal, tell)
        return
    with lock:
        writer = JournalWriter(store, name, journal, tell, lock)
        try:
            yield writer
        finally:
            if not writer.journal.databases or writer.journal.complete:
                try:
                    writer.remove()
                except StoreFailed as error:
                    tell(Warned(f"{error.what}; delete {name} by hand, what it is about is done"))


def _lost(name: str) -> LockLost:
    return LockLost(
        "this restore stood still for so long that another run took its place, which takes back "
        "what it had created; it changes nothing more",
        hint=f"run it again; if {name} is still there after that, see what shardkeeper verify says",
    )


def left_journals(store: Store, cluster_id: int | None = None) -> list[str]:
    """The names of records that are there, of runs at work and of dead ones."""
    begin = PREFIX if cluster_id is None else f"{PREFIX}{cluster_id}-"
    return [name for name in store.names() if name.startswith(begin) and name.endswith(SUFFIX)]


def left_names(store: Store, cluster_id: int) -> list[str]:
    """As `left_journals`, and the names of those that would be beside locks that are alone."""
    begin = f"{PREFIX}{cluster_id}-"
    ends = (SUFFIX, LOCK)
    found = [name for name in store.names() if name.startswith(begin) and name.endswith(ends)]
    return sorted({name.removesuffix(LOCK).removesuffix(SUFFIX) + SUFFIX for name in found})


def read_journal(store: Store, name: str) -> ServerJournal | None:
    """A record; None if it is gone.

    Raises:
        ManifestUnreadable, StoreFailed
    """
    raw = _raw(store, name)
    return None if raw is None else ServerJournal.decode(raw, name)


def claim_journal(store: Store, name: str) -> ServerJournal | None:
    """A record of a restore whose place was taken: it can be complete no more, unless it is.

    Raises:
        ManifestUnreadable, StoreFailed
    """
    while (raw := _raw(store, name)) is not None:
        journal = ServerJournal.decode(raw, name)
        if journal.complete or journal.taken_back:
            return journal
        claimed = replace(journal, taken_back=True)
        if store.swap(name, raw, claimed.encode()):
            return claimed
    return None


def _raw(store: Store, name: str) -> bytes | None:
    try:
        with store.open(name) as source:
            if source.size_bytes > MAX_JOURNAL_BYTES:
                raise ManifestUnreadable(f"{name} has {source.size_bytes} bytes")
            return source.read(source.size_bytes + 1)
    except NameMissing:
        return None


def unfinished_restores(store: Store) -> list[str]:
    """What restores left unfinished, or are at work on, in a sentence each."""
    said = [
        f"{name}: a restore into a cluster is at work, or was killed; the next restore there from "
        "here finishes it or takes it back"
        for name in store.names()
        if name.startswith(OF_CLUSTERS) and name.endswith(SUFFIX)
    ]
    for name in left_journals(store):
        try:
            journal = read_journal(store, name)
        except ShardkeeperError as error:
            said.append(error.what)
            continue
        if journal is not None and journal.databases and not journal.complete:
            said.append(
                f"{name}: a restore into {journal.address} of {_names(journal.databases)} is at "
                "work, or was killed; the next restore there from here takes it back"
            )
    return said


def _names(databases: Iterable[str]) -> str:
    return ", ".join(map(shown, databases))
