"""Hold a repository: its lock, a stage of the run's own, and nothing left of dead runs.

A run that got the lock revokes all other stages first, then deletes the files of the backups that
they were about, and only then removes their notes. A file that cannot be deleted stays noted and
stops no run: the next run tries again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeAlias

from msgspec import Struct, field

from resources.errors import LockLost, RepositoryLocked, StoreFailed
from resources.repository.formats.names import parse_file_name
from resources.repository.storage.lock import StoreLock, usual_lease_s
from resources.repository.storage.lock_record import LockRecord
from resources.repository.storage.store import RevokedStage, Stage, Store
from resources.runtime.clocks import awake_s
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed

OnWait: TypeAlias = Callable[[LockRecord], object]
ROUNDS = 10


def no_listener(_record: LockRecord) -> None:
    """For those who wait without a word."""


class Held(Struct):
    """A repository in the hands of one run.

    Attributes:
        stage: the way to everything that is changed under the lock.
        left: what could not be swept, in a sentence each.
        swept: the backups of dead runs, whose names are not given again.
        unfinished: whether files of its backup are left; the stage stays, and says so.
        goes_on: whether other processes go on with the run; it keeps lock and stage.
    """

    lock: StoreLock
    stage: Stage
    left: list[str] = field(default_factory=list[str])
    swept: list[str] = field(default_factory=list[str])
    unfinished: bool = False
    goes_on: bool = False

    def note_backup(self, backup: str) -> None:
        """Write down which backup is being made, before its first file is there.

        Raises:
            LockLost: another run took the place of this one.
        """
        self.stage.note(backup)
        self.lock.note_backup(backup)

    def hand_over(self, lease_s: float) -> str:
        """Leave the run to other processes; returns the key by which they find it.

        Raises:
            LockLost: another run took the place of this one.
        """
        key = self.lock.hand_over(lease_s)
        self.goes_on = True
        return key

    def end(self, *, well: bool) -> None:
        """Give the repository back, unless the run goes on."""
        if self.goes_on:
            self.lock.leave(None if well else usual_lease_s())
            return
        if not self.unfinished:
            self.stage.close()
        self.lock.release()


@contextmanager
def holding(
    store: Store, *, command: str, wait_s: float = 0.0, on_wait: OnWait = no_listener
) -> Generator[Held]:
    """Hold a store for the block.

    Raises:
        RepositoryLocked: another run is at work there.
        StoreFailed: nothing can be written there.
    """
    with undisturbed("giving up the repository's lock"):
        held = _enter(store, command, wait_s, on_wait)
        try:
            with interruptible():
                passing("backup.locked")
                _sweep_dead(store, held)
                store.sweep_pending()
                held.stage.check_writable()
                yield held
        except BaseException:
            held.end(well=False)
            raise
        held.end(well=True)


@contextmanager
def taking_part(store: Store, key: str, lease_s: float, command: str = "") -> Generator[Held]:
    """Work for a run that was handed over, for the block; its lock is renewed meanwhile.

    If the block fails, it is not likely that the run goes on, so the next one has to wait for a
    usual lease only.

    Args:
        key: of the run, as `Held.hand_over` returned it.
        lease_s: what may lie between two processes of the run.
        command: what to show to others from now on; empty: the same as before.

    Raises:
        LockLost: the run is over, or another one took its place.
    """
    with undisturbed("leaving the repository's lock to its run"):
        lock = StoreLock.join(store, key, lease_s, command=command)
        try:
            stage = store.stage_of(lock.record.token, lock.record.backup)
        except BaseException:
            lock.leave()
            raise
        stage.lost = lock.lost
        held = Held(lock, stage, goes_on=True)
        try:
            with interruptible():
                yield held
        except BaseException:
            held.end(well=False)
            raise
        held.end(well=True)


def _enter(store: Store, command: str, wait_s: float, on_wait: OnWait) -> Held:
    deadline = awake_s() + wait_s
    for _ in range(ROUNDS):
        token = os.urandom(16).hex()
        stage = store.stage(token)
        try:
            lock = StoreLock.acquire(
                store,
                command=command,
                wait_s=max(0.0, deadline - awake_s()),
                token=token,
                on_wait=on_wait,
            )
        except BaseException:
            stage.close()
            raise
        if stage.is_there():
            stage.lost = lock.lost
            return Held(lock, stage)
        lock.release()  # who had it before has swept the stage of one who only waited
    raise RepositoryLocked("the repository's lock changes hands all the time")


def _sweep_dead(store: Store, held: Held) -> None:
    stale = held.lock.stale
    if stale is not None and stale.backup and stale.backup not in store.unfinished():
        # The run had no stage: an older version's.
        with suppress(ValueError):
            store.stage(os.urandom(16).hex()).note(stale.backup)
    for stage in store.revoke_stages(held.stage.name):
        held.swept.append(stage.backup)
        for _ in range(ROUNDS):
            if stage.backup and (why := _sweep(store, held.stage, stage.backup)):
                held.left.append(
                    f"files of {stage.backup}, which was not finished, are left: {why}"
                )
                break
            if _is_forgotten(stage):
                break


def _is_forgotten(stage: RevokedStage) -> bool:
    try:
        if stage.forget():
            return True
        stage.empty()
    except StoreFailed:
        return True  # another user's: it stays, and changes nothing
    return False


def _sweep(store: Store, stage: Stage, backup: str) -> str:
    """Delete the files of a backup that was never committed; says why some are left, if any.

    Raises:
        LockLost: another run has taken the lock.
        StoreFailed: the store cannot list its objects.
    """
    names = store.names()
    if f"{backup}.manifest" in names:
        return ""
    why = ""
    for name in sorted(names, key=copies_first):
        found = parse_file_name(name)
        if found is not None and str(found.backup) == backup:
            try:
                stage.delete(name)
            except LockLost:
                raise
            except StoreFailed as error:
                why = why or error.what
            passing("backup.sweeping")
    try:
        stage.sync()
    except StoreFailed as error:
        why = why or error.what
    return why


def copies_first(name: str) -> tuple[bool, str]:
    """The order to delete in: a copy that is left alone looks like a manifest that was lost."""
    return not name.endswith(".copy"), name
