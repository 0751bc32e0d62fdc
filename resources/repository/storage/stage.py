"""The directory through which a run changes a repository; the next holder of the lock closes it.

A run that stands still may wake up at any instruction, also between a look at its lock and what it
does next. So no look is enough. Each run has a directory of its own inside the repository, its
**stage**, and changes nothing but through it, by one system call each that finds its source or
its target by the stage's path:

    a new object       link    .shardkeeper.run-K.T/….pending  →  T.manifest
    one to be deleted  rename  T.s7.tar.gz  →  .shardkeeper.run-K.T/…, where it is deleted
    one set aside      rename  T.meta  →  .shardkeeper.run-K.T/aside-T.meta, and on to its new name

A run that takes the lock over renames the stage away and deletes its content, and only then lists
the repository and sweeps. From then on each of those calls fails for the paused run: it can commit
nothing, cannot name what was swept, and cannot delete what its successor has stored under the same
names. The successor sees what it did before. A run creates its stage before it takes the lock, so
a run that holds a lock never has to create one.

The stage's name says which backup it is about. It stays until that is committed or every
file of it is gone, so that the next run knows what to sweep, whatever failed in between.

    .shardkeeper.run-K           a run that waits for the lock, or has just taken it
    .shardkeeper.run-K.T         it makes the backup T
    .shardkeeper.gone-K.T        its place was taken; T's files are being swept
    .shardkeeper.fill-K          a restore, which changes nothing here; it has its own record

A stage is also the home of what only its run needs: the records of its batches, and a **part** for
each worker that has claimed one (docs/decisions/0016-plan-batches-commit.md). A part is a way as
the stage is, and the worker that takes a batch over closes it in the same manner. So a worker
changes nothing once it has lost its batch, or its run the stage.

    .shardkeeper.run-K.T/part-B-P    a worker's way, while it does the batch B
    .shardkeeper.run-K.T/gone-B-P    its batch was taken over
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count

from resources.errors import BatchTaken, LockLost, NameTaken, StoreFailed
from resources.repository.formats.names import BackupName, check_file_name
from resources.repository.storage.directory import (
    DIRECTORY_MODE,
    Directory,
    DirectoryBatch,
    FileSink,
)

RUN, GONE, FILL = ".shardkeeper.run-", ".shardkeeper.gone-", ".shardkeeper.fill-"
ASIDE = "aside-"
PART, PART_GONE = "part-", "gone-"
ROUNDS = 100

_NAME = re.compile(r"\.shardkeeper\.(?:run|gone)-[0-9a-f]{1,64}(?:\.([0-9]{8}T[0-9]{6}Z))?")
_FILL = re.compile(r"\.shardkeeper\.fill-[0-9a-f]{1,64}")
_PART = re.compile(r"(part|gone)-([a-z0-9]{1,32})-([0-9a-f]{1,64})")
_REVOKED = frozenset({errno.ENOENT, errno.ESTALE, errno.ENOTDIR})


class StageWay:
    """The way of one run or one worker to what it changes, until `close`.

    Attributes:
        name: the directory that each call passes.
        lost: what to raise once the way is closed.
    """

    def __init__(self, directory: Directory, name: str) -> None:
        self.name = name
        self.lost: Callable[[], LockLost] = _lost
        self._directory = directory

    def is_there(self) -> bool:
        """Whether no run has revoked it so far."""
        return self._directory.exists(self.name)

    @contextmanager
    def create(self, name: str) -> Generator[FileSink]:
        """As `Store.create`.

        Raises:
            LockLost: nothing was created.
        """
        check_file_name(name)
        with self._way():
            if self._directory.exists(name):
                raise self._directory.taken(name)
            with self._directory.pending(name, within=self.name) as (pending, fd):
                yield FileSink(self._directory, fd, name)
            self._directory.give_name(pending, name, undo=self._take_back)

    def batch(self) -> StageBatch:
        """As `Store.batch`."""
        return StageBatch(self._directory, lambda: self.name, self._take_back, self._way)

    def delete(self, name: str) -> None:
        """Delete an object, if it is there; durable only after `sync`.

        Raises:
            LockLost: it is another run's business.
        """
        check_file_name(name)
        trash = f"{self.name}/{os.urandom(8).hex()}"
        with self._way():
            try:
                self._directory.move(name, trash)
            except StoreFailed as error:
                if _code(error) != errno.ENOENT or self._directory.exists(name):
                    raise
                if not self.is_there():
                    raise
                return
            self._directory.delete(trash)

    def sync(self) -> None:
        """Make what was deleted stay so after a power loss."""
        self._directory.sync()

    def close(self) -> None:
        """Take the way away: there is nothing that the next one would have to know."""
        with suppress(StoreFailed):
            _empty(self._directory, self.name)
            _remove(self._directory, self.name)

    def _take_back(self, name: str) -> None:
        with suppress(StoreFailed):  # one that is still there is deleted with all the others
            self.delete(name)

    @contextmanager
    def _way(self) -> Generator[None]:
        try:
            yield
        except LockLost:
            raise
        except NameTaken as error:
            if not self.is_there():  # the run that took our place has taken our name, too
                raise self.lost() from error
            raise
        except StoreFailed as error:
            if _code(error) in _REVOKED and not self.is_there():
                raise self.lost() from error
            raise


class DirectoryStage(StageWay):
    """One run's stage; safe to share between threads, and between processes by `join`."""

    @classmethod
    def make(cls, directory: Directory, key: str) -> DirectoryStage:
        name = stage_name(key)
        with directory.doing(f"creating {name}"):
            os.mkdir(name, DIRECTORY_MODE, dir_fd=directory.fd)
        return cls(directory, name)

    @classmethod
    def of_restore(cls, directory: Directory, key: str) -> DirectoryStage:
        """As `make`; no run that takes the lock closes it. One of that key is closed first."""
        stage = cls(directory, f"{FILL}{key}")
        _empty(directory, stage.name)
        _remove(directory, stage.name)
        with directory.doing(f"creating {stage.name}"):
            os.mkdir(stage.name, DIRECTORY_MODE, dir_fd=directory.fd)
        return stage

    @classmethod
    def join(cls, directory: Directory, name: str) -> DirectoryStage:
        """The stage of a run that another process has begun.

        Raises:
            LockLost: it is gone.
        """
        stage = cls(directory, name)
        of_run = _NAME.fullmatch(name) and name.startswith(RUN)
        if not ((of_run or _FILL.fullmatch(name)) and stage.is_there()):
            raise _lost()
        return stage

    def note(self, backup: str) -> None:
        """Have the stage's name say which backup it is about; durable with the next sync.

        Raises:
            LockLost: another run has taken the lock.
        """
        named = f"{self.name}.{backup}"
        with self._way():
            self._directory.move(self.name, named)
            self.name = named

    def set_aside(self, name: str) -> str:
        """Give a file that is no good a name that says so; returns that name.

        Nothing is read or written over.

        Raises:
            LockLost: it has its old name still, or the run that came after gives it the new one.
        """
        check_file_name(name)
        with self._way():
            self._directory.move(name, f"{self.name}/{ASIDE}{name}")
            aside = _name_aside(self._directory, self.name, name)
            self._directory.sync()
        return aside

    def check_writable(self) -> None:
        """Write, sync and delete a small file.

        Raises:
            StoreFailed: read-only, no permission, or a disk that fails.
        """
        with self._way():
            with self._directory.pending("probe", within=self.name) as (pending, fd):
                FileSink(self._directory, fd, "a probe").write(bytes(4096))
            self._directory.delete(pending)
            self._directory.sync()

    def part(self, batch: str, key: str) -> DirectoryPart:
        """The way of one worker of this run, while it does a batch; `key` is this worker's alone.

        Raises:
            LockLost: another run has taken the lock.
        """
        part = DirectoryPart(self, self._directory, f"{PART}{batch}-{key}")
        with self._way(), self._directory.doing(f"creating {part.name}"):
            os.mkdir(part.name, DIRECTORY_MODE, dir_fd=self._directory.fd)
        return part

    def revoke_parts(self, batch: str = "", keep: str = "") -> bool:
        """Close the parts of a batch, or of all, but one, for good; whether there were any.

        Raises:
            LockLost: another run has taken the lock.
            StoreFailed: one is not closed.
        """
        found = False
        for name in self._parts(batch):
            if f"{self.name}/{name}" != keep:
                found = True
                with self._way():
                    self._close_part(name)
        return found

    def _parts(self, batch: str) -> list[str]:
        with self._way():
            if not self.is_there():
                raise self.lost()
            matches = map(_PART.fullmatch, _inside(self._directory, self.name))
            return [match[0] for match in matches if match and batch in ("", match[2])]

    def _close_part(self, name: str) -> None:
        gone = f"{self.name}/{PART_GONE}{name.partition('-')[2]}"
        if name.startswith(PART):
            try:
                self._directory.move(f"{self.name}/{name}", gone)
            except StoreFailed as error:
                if _code(error) != errno.ENOENT or not self.is_there():
                    raise
        _empty(self._directory, gone)
        _remove(self._directory, gone)


class DirectoryPart(StageWay):
    """The part of a stage that is one worker's, while it does a batch."""

    def __init__(self, stage: DirectoryStage, directory: Directory, name: str) -> None:
        super().__init__(directory, f"{stage.name}/{name}")
        self._stage = stage
        self.lost = self._taken

    def publish(self, name: str, raw: bytes) -> None:
        """Store a record of the run, in one step; a power cut may tear it.

        Raises:
            NameTaken: there is such a record.
            LockLost: the batch or the run has another owner; nothing was stored.
        """
        check_file_name(name)
        with self._way():
            with self._directory.pending(name, within=self.name, synced=False) as (pending, fd):
                FileSink(self._directory, fd, name).write(raw)
            self._directory.give_name(pending, f"{self._stage.name}/{name}", synced=False)

    def _taken(self) -> LockLost:
        if not self._stage.is_there():
            return self._stage.lost()
        return BatchTaken(
            "another worker took over what this one was doing, which had stood still for longer "
            "than its lease",
            hint="if machines sleep or disks hang often, find out why",
        )


class StageBatch(DirectoryBatch):
    """New objects of one run that are durable together."""

    def __init__(
        self,
        directory: Directory,
        within: Callable[[], str],
        undo: Callable[[str], None],
        way: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(directory, within, undo)
        self._way = way

    @contextmanager
    def create(self, name: str) -> Generator[FileSink]:
        with self._way(), super().create(name) as sink:
            yield sink


class RevokedDirectoryStage:
    """A stage that no run can use any more, and the note that it exists.

    Attributes:
        backup: the one that it was about; empty if none was begun.
    """

    def __init__(self, directory: Directory, name: str, backup: str) -> None:
        self.backup = backup
        self._directory = directory
        self._name = name

    def forget(self) -> bool:
        """Take the note away, once the backup's files are; False: something came in meanwhile."""
        return _remove(self._directory, self._name)

    def empty(self) -> None:
        """Delete what is in it, so that not even a call that has found it names anything."""
        _empty(self._directory, self._name)


def stage_name(key: str, backup: str = "") -> str:
    """Of the stage that is made with a key, and is about a backup, if about any."""
    return f"{RUN}{key}.{backup}" if backup else f"{RUN}{key}"


def revoke_stages(directory: Directory, keep: str) -> list[RevokedDirectoryStage]:
    """Close all stages but `keep`, for good.

    Raises:
        StoreFailed: the directory cannot be listed, or a stage not be renamed.
    """
    for _ in range(ROUNDS):
        running = [
            name for name in _directories(directory) if name.startswith(RUN) and name != keep
        ]
        if not running:
            break
        for name in running:
            try:
                directory.move(name, GONE + name.removeprefix(RUN))
            except StoreFailed as error:
                # Its run has ended, or has just named it after a backup: look again.
                if _code(error) != errno.ENOENT:
                    raise
    revoked: list[RevokedDirectoryStage] = []
    for name in sorted(_directories(directory)):
        match = _NAME.fullmatch(name)
        if match is not None and name.startswith(GONE):
            revoked.append(RevokedDirectoryStage(directory, name, _backup(match[1])))
            with suppress(StoreFailed):  # another user's: no run finds it under its name
                revoked[-1].empty()
    return revoked


def unfinished_stages(directory: Directory) -> set[str]:
    """The backups that stages in here are about."""
    found = (_NAME.fullmatch(name) for name in _directories(directory))
    return {backup for match in found if match and (backup := _backup(match[1]))}


def has_stages(directory: Directory) -> bool:
    """Whether any stage is in here, of a run at work or of a dead one."""
    return bool(_directories(directory))


def _directories(directory: Directory) -> list[str]:
    with directory.doing("listing"), os.scandir(directory.fd) as entries:
        stages = [entry for entry in entries if _NAME.fullmatch(entry.name)]
        return [entry.name for entry in stages if entry.is_dir(follow_symlinks=False)]


def _inside(directory: Directory, stage: str) -> list[str]:
    """What is in a stage; nothing if it is gone."""
    with directory.doing(f"listing {stage}"):
        try:
            fd = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory.fd)
        except FileNotFoundError:
            return []
        try:
            with os.scandir(fd) as entries:
                return [entry.name for entry in entries]
        finally:
            os.close(fd)


def _remove(directory: Directory, stage: str) -> bool:
    """Remove an empty stage; False if something is in it."""
    with directory.doing(f"removing {stage}"):
        try:
            os.rmdir(stage, dir_fd=directory.fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
    return True


def _backup(text: str | None) -> str:
    return text if text and BackupName.parse(text) else ""


def _empty(directory: Directory, stage: str) -> None:
    for name in _inside(directory, stage):
        if name.startswith(ASIDE):
            _name_aside(directory, stage, name.removeprefix(ASIDE))
        elif _PART.fullmatch(name):
            _empty(directory, f"{stage}/{name}")
            _remove(directory, f"{stage}/{name}")
        else:
            directory.delete(f"{stage}/{name}")


def _name_aside(directory: Directory, stage: str, name: str) -> str:
    for n in count(1):
        aside = f"{name}.damaged" + (f"-{n}" if n > 1 else "")
        with suppress(NameTaken):
            directory.rename(f"{stage}/{ASIDE}{name}", aside)
            return aside
    raise AssertionError("some name is free")


def _code(error: StoreFailed) -> int:
    cause = error.__cause__
    return cause.errno or 0 if isinstance(cause, OSError) else 0


def _lost() -> LockLost:
    return LockLost("another run took this one's place in the repository; nothing was committed")
