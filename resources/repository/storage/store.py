"""Where the bytes rest: a store holds named objects, and that is all it knows.

`Store` is what every kind of store can do. Nothing in it needs a rename, an append or a directory,
so an object store fits (`resources.repository.storage.object_store`): `create`, `swap` and `stage`
rest on conditional puts, `names` is a listing. What only some
stores have, such as free space or a mount point, has an answer for those without it. No code
outside this package asks which kind a store is (tests/test_layering.py); `open_store` chooses it
by its URL. What the names and the bytes mean is the repository's business.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from resources.errors import (
    LockLost,
    NameMissing,
    RecordHeld,
    RepositoryMissing,
    StoreFull,
)
from resources.repository.formats.names import (
    PENDING_SUFFIX,
    check_file_name,
    finished_name,
    parse_file_name,
    unsafe_because,
)
from resources.repository.formats.other_layouts import next_step
from resources.repository.formats.revoked import REVOKED, may_be_revoked
from resources.repository.storage.directory import (
    DIRECTORY_MODE,
    BytesLike,
    Directory,
    DirectoryBatch,
    FileSink,
    FileSource,
)
from resources.repository.storage.mounts import unmounted_above
from resources.repository.storage.stage import (
    FILL,
    DirectoryStage,
    has_stages,
    revoke_stages,
    stage_name,
    unfinished_stages,
)

FORGOTTEN_S = 3600.0
"""An unfinished record of this age belongs to no run: writing one takes milliseconds."""


class Sink(Protocol):
    """A new object while it is written."""

    @property
    def size_bytes(self) -> int:
        """Bytes taken so far."""
        ...

    def write(self, data: BytesLike, /) -> None:
        """Append all of `data`; it may be reused when the call returns."""
        ...


class ObjectSource(Protocol):
    """A stored object while it is read, from its start on."""

    @property
    def size_bytes(self) -> int:
        """The object's length when it was opened."""
        ...

    def read(self, n: int, /) -> bytes:
        """The next `n` bytes; fewer only at the end, none after it."""
        ...

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Fill `buffer`, short only at the end; return how many bytes arrived."""
        ...


class Batch(Protocol):
    """New objects that are durable together; safe to share between threads."""

    def create(self, name: str) -> AbstractContextManager[Sink]:
        """As `Store.create`, but durable only after `finish`."""
        ...

    def finish(self) -> None:
        """Wait until all are durable; nothing is created after that.

        Raises:
            StoreFailed: one of them is not, and never will be.
        """
        ...

    def abandon(self) -> None:
        """Wait for what is under way; the objects are going to be deleted."""
        ...


class Part(Protocol):
    """The way of one worker to what it changes while it does a batch of a run.

    Once another worker has taken the batch over, or another run the lock, every change raises
    LockLost and changes nothing.

    Attributes:
        name: tells it from every other part and stage.
        lost: what to raise once it is closed.
    """

    name: str
    lost: Callable[[], LockLost]

    def is_there(self) -> bool:
        """Whether nothing has closed it so far."""
        ...

    def create(self, name: str) -> AbstractContextManager[Sink]:
        """As `Store.create`."""
        ...

    def batch(self) -> Batch:
        """As `Store.batch`."""
        ...

    def delete(self, name: str) -> None:
        """As `Store.delete`, but durable only after `sync`."""
        ...

    def sync(self) -> None:
        """Make what was deleted durable."""
        ...

    def publish(self, name: str, raw: bytes) -> None:
        """Store a record of the run, as a whole or not at all; a power cut may tear it.

        Raises:
            NameTaken: there is such a record.
        """
        ...

    def close(self) -> None:
        """Take it away: the batch is done, or was not begun."""
        ...


class Stage(Protocol):
    """The way of one run to what it changes under the lock; safe to share between threads.

    Once another run has revoked it, every change raises LockLost and changes nothing.

    Attributes:
        name: tells it from every other stage.
        lost: what to raise once the stage is gone.
    """

    name: str
    lost: Callable[[], LockLost]

    def is_there(self) -> bool:
        """Whether no other run has revoked it so far."""
        ...

    def note(self, backup: str) -> None:
        """Write down which backup it is about, for the run that would have to sweep it."""
        ...

    def create(self, name: str) -> AbstractContextManager[Sink]:
        """As `Store.create`."""
        ...

    def batch(self) -> Batch:
        """As `Store.batch`."""
        ...

    def delete(self, name: str) -> None:
        """As `Store.delete`, but durable only after `sync`."""
        ...

    def set_aside(self, name: str) -> str:
        """Give an object that is no good a name that says so; returns that name."""
        ...

    def sync(self) -> None:
        """Make what was deleted durable."""
        ...

    def check_writable(self) -> None:
        """Write and delete a small object.

        Raises:
            StoreFailed: it cannot be written, or not be deleted.
        """
        ...

    def close(self) -> None:
        """Take the stage away: the next run has nothing to sweep."""
        ...

    def part(self, batch: str, key: str) -> Part:
        """The way of one worker of this run, while it does a batch; `key` is unique to it."""
        ...

    def revoke_parts(self, batch: str = "", keep: str = "") -> bool:
        """Close the parts of a batch, or of all batches, but one; whether there were any."""
        ...


class RevokedStage(Protocol):
    """A stage that its run cannot use any more, and the note that it is.

    Attributes:
        backup: the one that it was about; empty if none was begun.
    """

    backup: str

    def forget(self) -> bool:
        """Take the note away once the backup's files are gone; False: something came since."""
        ...

    def empty(self) -> None:
        """Delete what is in it."""
        ...


class Store(Protocol):
    """Named objects.

    Every method raises StoreFailed or StoreFull when the medium refuses, and UnsafeName for
    a name that `check_file_name` refuses.
    """

    def create(self, name: str) -> AbstractContextManager[Sink]:
        """Write a new object; it exists, whole and durable, once the block succeeds.

        Raises:
            NameTaken: the name is in use, at the start or by the end of the block.
        """
        ...

    def batch(self) -> Batch:
        """Create many objects without waiting for the medium after each."""
        ...

    def open(self, name: str) -> AbstractContextManager[ObjectSource]:
        """Read an object.

        Raises:
            NameMissing: there is none of that name.
        """
        ...

    def names(self, prefix: str = "") -> dict[str, int]:
        """The finished objects whose names begin so, in order, with their sizes in bytes."""
        ...

    def delete(self, name: str) -> None:
        """Forget an object; one that does not exist is forgotten already."""
        ...

    def swap(self, name: str, old: bytes, new: bytes | None) -> bool:
        """Replace a small object by `new`, or delete it (None), if it still holds `old`.

        Comparing and replacing are one step for everyone who uses `swap`. False: it holds
        something else, or does not exist.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether anything is called so, an object or not."""
        ...

    def stage(self, key: str) -> Stage:
        """The directory through which a run changes the repository; `key` is unique to it."""
        ...

    def stage_of_restore(self, key: str) -> Stage:
        """A stage for the records of a restore, which holds no lock; one of that key is closed.

        Args:
            key: of the restore, hexadecimal; a run that goes on with it has the same.
        """
        ...

    def stage_left(self, key: str) -> Stage:
        """The stage of a restore that another process has begun, by its key.

        Raises:
            LockLost: it is gone.
        """
        ...

    def join(self, name: str) -> Stage:
        """The stage of a run that another process has begun.

        Raises:
            LockLost: it is gone.
        """
        ...

    def stage_of(self, key: str, backup: str) -> Stage:
        """The stage that another process has made with this key, for this backup.

        Raises:
            LockLost: it is gone.
        """
        ...

    def records(self, stage: Stage) -> Store:
        """Objects that only one run needs: they go with its stage, and a power cut may tear them.

        Raises:
            LockLost: the stage is gone.
        """
        ...

    def revoke_stages(self, keep: str) -> list[RevokedStage]:
        """Close every stage but one: their runs can change nothing more from then on."""
        ...

    def unfinished(self) -> set[str]:
        """The backups that stages are about: a run makes them, or left them unfinished."""
        ...

    def has_stages(self) -> bool:
        """Whether a run is at work here, or was killed and left its stage."""
        ...

    def check_writable(self, needed_bytes: int = 0) -> int | None:
        """Write and delete a small object; return how many bytes are free; None: not known.

        Raises:
            StoreFull: less than `needed_bytes` are free.
            StoreFailed: it cannot be written, or not be deleted.
        """
        ...

    def sweep_pending(self) -> dict[str, int]:
        """Delete what killed runs left unfinished; only for the holder of the lock.

        Returns the names the objects would have got, and their sizes.
        """
        ...

    def exclusive(self) -> AbstractContextManager[bool]:
        """Keep out every other run that asks for this, until the block or the process ends.

        False: this store cannot; nothing keeps the other out then.

        Raises:
            RecordHeld: another run is in such a block.
        """
        ...

    @property
    def takes_workers(self) -> bool:
        """Whether several processes can store the archives of one run here."""
        ...

    @property
    def scratch_dir(self) -> str | None:
        """A directory with room for temporary files; None: the system's."""
        ...

    def unmounted(self, *, on_demand: bool = False) -> str:
        """The mount point of the medium, if it should be mounted and is not; else empty.

        Args:
            on_demand: whether to look for those that are not mounted when the system starts.
        """
        ...

    def next_step(self) -> str:
        """What to do if this holds no backup, going by what it holds instead; may be empty."""
        ...

    def close(self) -> None:
        """Give up the store; it cannot be used any more."""
        ...


class DirectoryStore:
    """A directory; an object is a file right inside it, mode 0600.

    The directory stays open until `close`, so objects cannot end up elsewhere when its path
    is renamed or something is mounted over it. Links are never followed. One store may
    serve many threads.

    Raises:
        RepositoryMissing: `path` is not there, or not a directory.
    """

    def __init__(self, path: str | Path, *, opened: Directory | None = None) -> None:
        self.path = Path(path)
        self._directory = opened or Directory(self.path)

    @classmethod
    def make(cls, path: str | Path) -> DirectoryStore:
        """Like the constructor, but a directory that is missing is created, mode 0700."""
        try:
            return cls(path)
        except RepositoryMissing:
            path = Path(path)
        parent = Directory(path.parent)
        try:
            with parent.doing(f"creating {path.name}"), suppress(FileExistsError):
                os.mkdir(path.name, DIRECTORY_MODE, dir_fd=parent.fd)
            parent.sync()
        finally:
            parent.close()
        return cls(path)

    def close(self) -> None:
        self._directory.close()

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self.path)!r})"

    # --- what every store can do --------------------------------------------------------

    @contextmanager
    def create(self, name: str) -> Generator[Sink]:
        check_file_name(name)
        if self._directory.exists(name):  # before gigabytes are written for nothing
            raise self._directory.taken(name)
        with self._directory.pending(name) as (pending, fd):
            yield FileSink(self._directory, fd, name)
        self._directory.give_name(pending, name)

    def batch(self) -> Batch:
        return DirectoryBatch(self._directory)

    @contextmanager
    def open(self, name: str) -> Generator[ObjectSource]:
        check_file_name(name)
        with self._directory.opened(name) as fd:
            yield FileSource(self._directory, fd, name)

    def names(self, prefix: str = "") -> dict[str, int]:
        """As in `Store`; a file whose name `check_file_name` would refuse is not an object."""
        found = {
            name: status.st_size
            for name, status in self._directory.files(prefix)
            if not unsafe_because(name)
            and not (may_be_revoked(name, status.st_size) and self._is_revoked(name))
        }
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        check_file_name(name)
        if self._directory.delete(name):
            self._directory.sync()

    def swap(self, name: str, old: bytes, new: bytes | None) -> bool:
        check_file_name(name)
        while True:
            try:
                with self._directory.opened(name, writable=True) as fd:
                    # The file of this name is replaced and never rewritten, so a lock on the
                    # file that has the name right now is a lock on the name.
                    self._directory.lock(fd, name)
                    if self._directory.holds(name, fd):
                        if FileSource(self._directory, fd, name).read(len(old) + 1) != old:
                            return False
                        self._put_over(name, new)
                        return True
            except NameMissing:
                return False

    def stage(self, key: str) -> Stage:
        return DirectoryStage.make(self._directory, key)

    def stage_of_restore(self, key: str) -> Stage:
        return DirectoryStage.of_restore(self._directory, key)

    def stage_left(self, key: str) -> Stage:
        return DirectoryStage.join(self._directory, f"{FILL}{key}")

    def join(self, name: str) -> Stage:
        return DirectoryStage.join(self._directory, name)

    def stage_of(self, key: str, backup: str) -> Stage:
        return DirectoryStage.join(self._directory, stage_name(key, backup))

    def records(self, stage: Stage) -> Store:
        try:
            opened = Directory(Path(stage.name), within=self._directory, synced=False)
        except RepositoryMissing as error:
            raise stage.lost() from error
        return DirectoryStore(opened.path, opened=opened)

    def revoke_stages(self, keep: str) -> list[RevokedStage]:
        return [*revoke_stages(self._directory, keep)]

    def unfinished(self) -> set[str]:
        return unfinished_stages(self._directory)

    def has_stages(self) -> bool:
        return has_stages(self._directory)

    def check_writable(self, needed_bytes: int = 0) -> int:
        """Write, sync and delete a small file; return the free bytes.

        Raises:
            StoreFull: less than `needed_bytes` are free.
            StoreFailed: read-only, no permission, or a disk that fails.
        """
        with self._directory.pending("probe") as (pending, fd):
            FileSink(self._directory, fd, "a probe").write(bytes(4096))
        self._directory.delete(pending)
        self._directory.sync()
        free = self._directory.free_bytes()
        if free < needed_bytes:
            raise StoreFull(
                f"{self.path}: {needed_bytes} bytes needed, {free} free",
                hint="free some space, or prune old backups, then run it again",
            )
        return free

    def sweep_pending(self) -> dict[str, int]:
        """Delete what killed runs left unfinished; only for the holder of the lock.

        Returns the names the files would have got and their sizes. Records and receipts are
        written without the lock, so young ones are left alone. How old a file is says the
        clock that dated it, the file system's: ours may be another.
        """
        now_s = self._directory.clock_s()
        swept: dict[str, int] = {}
        for pending, status in list(self._directory.files(suffix=PENDING_SUFFIX)):
            name = finished_name(pending)
            if name is None:
                continue
            young = abs(now_s - status.st_mtime) < FORGOTTEN_S
            if young and parse_file_name(name) is None:
                continue
            if self._directory.delete(pending):
                swept[name] = swept.get(name, 0) + status.st_size
        return swept

    @contextmanager
    def exclusive(self) -> Generator[bool]:
        """As in `Store`; some network file systems have no such locks."""
        with self._directory.doing("locking the directory"):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            fd = os.open(".", flags, dir_fd=self._directory.fd)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RecordHeld(f"{self.path} is in use by another run") from None
            except OSError:
                yield False
                return
            yield True
        finally:
            os.close(fd)

    @property
    def takes_workers(self) -> bool:
        return True

    @property
    def scratch_dir(self) -> str | None:
        return str(self.path)

    def unmounted(self, *, on_demand: bool = False) -> str:
        return unmounted_above(self.path, on_demand=on_demand)

    def next_step(self) -> str:
        return next_step(self.path)

    def has(self, name: str) -> bool:
        """Whether anything is called so, a regular file or not."""
        check_file_name(name)
        return self._directory.exists(name)

    def _is_revoked(self, name: str) -> bool:
        """Whether it came with the copy of a bucket, and is no manifest."""
        with suppress(NameMissing), self._directory.opened(name) as fd:
            return FileSource(self._directory, fd, name).read(len(REVOKED)) == REVOKED
        return False

    def _put_over(self, name: str, new: bytes | None) -> None:
        if new is None:
            self.delete(name)
            return
        with self._directory.pending(name) as (pending, fd):
            FileSink(self._directory, fd, name).write(new)
        self._directory.replace(pending, name)
