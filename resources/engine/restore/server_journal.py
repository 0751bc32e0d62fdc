"""What a restore into a single server has created there, on record before it creates it.

A restore that was killed cannot take back what it did. The next one from the same directory finds
its record. If it is the same restore (`identity`), it goes on: see `unfinished`. Otherwise it

- drops a database that holds nothing but what was sent, or a part of it;
- leaves one that was complete, and one into which clients have written since: their points are
  never dropped as a left-over. It is named, and stays on record until it is gone.

A restore at work holds a lock beside its record, so that others leave both alone. A restore that
paused until another run took the lock over cannot end as if all were there: a run that removes
something first writes `taken_back` into the record, and a restore is complete only after it has put
`complete` into the record that it wrote last (`JournalWriter.complete`). Both compare and replace
the record in one step, so only one of the two happens. A run that continues a restore writes a
`life` of its own into the record, by which the paused run notices. Before each change on the server
the restore checks that the lock is still its own. The record itself is in `record`.

A server takes an import under a name once. So of two equal restores that send theirs at the same
time, one may find what the other has created. Until the server has answered which shards are its
own, a restore has sent no points. A database that has some, or whose shards another
record names, is another restore's, and is left (`leftovers.whose_else`). Held by
tests/faults/test_lost_places.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager, suppress

from msgspec import Struct
from msgspec.structs import replace

from resources.engine.events import Emit, Warned
from resources.engine.restore.record import CreatedDatabase, ServerJournal
from resources.engine.restore.turn import Turn
from resources.errors import (
    LockLost,
    RepositoryLocked,
    ShardkeeperError,
    StoreFailed,
    shown,
)
from resources.model import ShardID
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store

PREFIX, SUFFIX, LOCK = ".shardkeeper.server-restore-", ".json", ".lock"
UNKNOWN = "; if this restore is killed, no record says what to remove"


class JournalWriter:
    """The record of a restore that is at work; without a store it is only in memory.

    Args:
        written: what is stored under the name already.

    Attributes:
        journal: what is written.
        store, name: where, and as what.
        lock: beside it; None: nothing can be stored.
    """

    def __init__(
        self,
        store: Store | None,
        name: str,
        journal: ServerJournal,
        emit: Emit,
        lock: StoreLock | None = None,
        written: bytes = b"",
    ) -> None:
        self.journal = journal
        self._emit = emit
        self.store = store
        self._file = None if store is None else RecordFile.holding(store, name, written or None)
        self.name = name
        self.lock = lock
        self._proved = dict(journal.proved)
        self._turn = Turn()

    def check_still_ours(self) -> None:
        """To be called right before something is changed on the server.

        Raises:
            LockLost: another run took the place of this one, and takes back what it has created.
        """
        if self.lock is None:
            return
        try:
            mine = self.lock.still_mine()
        except RepositoryLocked:
            mine = False  # another run paused while it replaced the lock's record
        except StoreFailed:
            return  # a directory that fails now keeps others out as well
        if not mine:
            raise lost(self.name)

    @property
    def held_as(self) -> tuple[str, str] | None:
        """As `StoreLock.held_as`; None: it has no lock."""
        return None if self.lock is None else self.lock.held_as

    @property
    def key(self) -> str:
        """Tells this restore from every other; a run that goes on with it has the same."""
        return key_of(self.name)

    def is_still_ours(self) -> bool:
        """Whether no other run has taken the place of this one."""
        try:
            self.check_still_ours()
        except LockLost:
            return False
        return True

    def is_anothers(self, name: str, shard_ids: Collection[ShardID]) -> bool:
        """Whether another restore from here has a database with these shards on record.

        A server takes an import under a name once, and two equal ones may be on their way.
        """
        return self.store is not None and is_on_record_beside(
            self.store, self.name, self.journal.cluster_id, name, shard_ids
        )

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
            self._emit(Warned(f"{error.what}{UNKNOWN}"))
            self.journal = journal

    def forget(self, name: str) -> None:
        """Take a database off the record: it was not created, or is gone."""
        left = {key: made for key, made in self.journal.databases.items() if key != name}
        journal = replace(self.journal, databases=left)
        with suppress(StoreFailed):
            self._write(journal)
        self.journal = journal

    def prove(self, shard_id: ShardID, started_ns: int) -> None:
        """Say that a shard was read back; soon, and with others at once.

        Args:
            started_ns: when the server had started, as it said before that.
        """
        self._proved[shard_id] = started_ns
        self.keep_up()

    def keep_up(self) -> None:
        """Write down what is proved, unless that was done a moment ago.

        Raises:
            LockLost: another run took the place of this one.
        """
        if len(self._proved) > len(self.journal.proved) and self._turn.has_come():
            with self._turn:
                try:
                    self._write(replace(self.journal, proved=dict(self._proved)))
                except LockLost:
                    raise
                except StoreFailed:
                    pass  # then the next run reads more back

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

    def end(self) -> None:
        """No other step goes on with the restore."""
        if self.lock is not None:
            self.lock.goes_on = False

    def remove_if_over(self) -> None:
        """Take the record away, if nothing is left that it is about."""
        if self._file is None or (self.lock is not None and self.lock.goes_on):
            return
        if not self.journal.databases or self.journal.complete:
            try:
                self._file.remove()
            except StoreFailed as error:
                text = f"{error.what}; delete {self.name} by hand, what it is about is done"
                self._emit(Warned(text))

    def _write(self, journal: ServerJournal) -> None:
        if self._file is not None and not self._file.put(journal.encode()):
            raise lost(self.name)
        self.journal = journal


class KeptJournal(Struct, frozen=True):
    """The record of a killed run, and the lock beside it, which is held."""

    name: str
    raw: bytes
    journal: ServerJournal
    lock: StoreLock

    @property
    def is_over(self) -> bool:
        """Whether the run that had it is surely dead, so that its connections have ended."""
        return self.lock.stale is None or self.lock.stale.process.is_dead()


@contextmanager
def keeping_journal(
    store: Store, journal: ServerJournal, *, emit: Emit, goes_on: KeptJournal | None = None
) -> Generator[JournalWriter]:
    """Have a record for the block, which goes afterwards unless a database is still on it.

    Args:
        goes_on: the record of the run that this one goes on with, in the place of `journal`.
    """
    if goes_on is not None:
        writer = JournalWriter(
            store, goes_on.name, goes_on.journal, emit, goes_on.lock, goes_on.raw
        )
        try:
            yield writer
        finally:
            writer.remove_if_over()
        return
    name = f"{PREFIX}{journal.cluster_id}-{secrets.token_hex(8)}{SUFFIX}"
    try:
        lock = StoreLock.acquire(store, command="restore", name=name.removesuffix(SUFFIX) + LOCK)
    except StoreFailed as error:
        emit(Warned(f"{error.what}{UNKNOWN}"))
        yield JournalWriter(None, name, journal, emit)
        return
    with lock:
        writer = JournalWriter(store, name, journal, emit, lock)
        try:
            yield writer
        finally:
            writer.remove_if_over()


def key_of(name: str) -> str:
    """What tells the restore of a record from every other."""
    return name.removesuffix(SUFFIX).rpartition("-")[2]


def close_stage(store: Store, key: str) -> None:
    """Take away the records of the batches of a restore that was killed; they decide nothing."""
    with suppress(StoreFailed):
        store.stage_of_restore(key).close()


def lost(name: str) -> LockLost:
    return LockLost(
        "this restore stood still for so long that another run took its place, which takes back "
        "what it had created; it changes nothing more",
        hint=f"run it again; if {name} is still there after that, see what shardkeeper verify says",
    )


def left_journals(store: Store, cluster_id: int | None = None) -> list[str]:
    """The names of records that are there, of runs at work and of dead ones."""
    begin = PREFIX if cluster_id is None else f"{PREFIX}{cluster_id}-"
    return [name for name in store.names(begin) if name.endswith(SUFFIX)]


def is_on_record_beside(
    store: Store, name: str, cluster_id: int, database: str, shard_ids: Collection[ShardID]
) -> bool:
    """Whether a record other than `name` says that its restore was given these shards.

    A record that cannot be read counts as one.
    """
    for other in left_journals(store, cluster_id):
        if other == name:
            continue
        try:
            journal = read_journal(store, other)
        except ShardkeeperError:
            return True
        made = journal.databases.get(database) if journal is not None else None
        if made is not None and made.shards is not None and set(shard_ids) <= set(made.shards):
            return True
    return False


def left_names(store: Store, cluster_id: int) -> list[str]:
    """As `left_journals`, and the names of those that would be beside locks that are alone."""
    begin = f"{PREFIX}{cluster_id}-"
    ends = (SUFFIX, LOCK)
    found = [name for name in store.names(begin) if name.endswith(ends)]
    return sorted({name.removesuffix(LOCK).removesuffix(SUFFIX) + SUFFIX for name in found})


def read_journal(store: Store, name: str) -> ServerJournal | None:
    """A record; None if it is gone.

    Raises:
        ManifestUnreadable, StoreFailed: the record cannot be read.
    """
    raw = raw_journal(store, name)
    return None if raw is None else ServerJournal.decode(raw, name)


def claim_journal(store: Store, name: str) -> ServerJournal | None:
    """A record of a restore whose place was taken: it can be complete no more, unless it is.

    Raises:
        ManifestUnreadable, StoreFailed: the record cannot be read.
    """
    file = RecordFile(store, name)
    while (raw := file.read()) is not None:
        journal = ServerJournal.decode(raw, name)
        if journal.complete or journal.taken_back:
            return journal
        claimed = replace(journal, taken_back=True)
        if file.put(claimed.encode()):
            return claimed
    return None


def take_over(kept: KeptJournal, store: Store) -> KeptJournal | None:
    """A record to go on with: the run that wrote it can write nothing more, should it only sleep.

    None if it was changed meanwhile.

    Raises:
        StoreFailed: the store failed.
    """
    mine = replace(kept.journal, life=secrets.token_hex(8))
    raw = mine.encode()
    is_ours = RecordFile.holding(store, kept.name, kept.raw).put(raw)
    return replace(kept, raw=raw, journal=mine) if is_ours else None


def raw_journal(store: Store, name: str) -> bytes | None:
    """Its bytes; None if it is gone.

    Raises:
        ManifestUnreadable: there are too many.
        StoreFailed: the store failed.
    """
    return RecordFile(store, name).read()


def unfinished_restores(store: Store) -> list[str]:
    """What restores left unfinished, or are at work on, in a sentence each.

    Those into clusters come from `resources.engine.cluster.restore_journal`.
    """
    found: list[str] = []
    for name in left_journals(store):
        try:
            journal = read_journal(store, name)
        except ShardkeeperError as error:
            found.append(error.what)
            continue
        if journal is not None:
            found.append(f"{name}: {_unfinished(journal)}")
    return found


def _unfinished(journal: ServerJournal) -> str:
    if not journal.databases:
        return (
            f"a restore into {journal.address} is at work, or was killed when nothing of it was "
            "there; the next restore there from here takes this record away"
        )
    restored = f"a restore into {journal.address} of {_names(journal.databases)}"
    if journal.complete:
        return (
            f"{restored} is complete, and was killed before it removed this record; the next "
            "restore there from this directory removes it"
        )
    return (
        f"{restored} is at work, or was killed; the same restore from this directory continues it, "
        "and another one removes what it created"
    )


def _names(databases: Iterable[str]) -> str:
    return ", ".join(map(shown, databases))
