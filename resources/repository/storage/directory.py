"""System calls on one open directory and on the files in it, with every OSError explained.

Names are resolved relative to the open directory and links are never followed. This is
the one place that writes, syncs and names files.

A run that waits for the disk after each of a thousand small files waits a thousand times. Several
threads sync side by side, behind the writing of the next files, and the file system writes in one
go what they ask for at once (`DeferredFsync`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import queue
import stat
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from resources.errors import (
    DraftSwept,
    NameMissing,
    NameTaken,
    RecordHeld,
    RepositoryError,
    RepositoryMissing,
    StoreFailed,
    UnsafeName,
    shown,
)
from resources.repository.formats.names import check_file_name, pending_name
from resources.repository.storage.os_errors import explained
from resources.runtime.failpoints import passing
from resources.runtime.workers import WorkerGroup

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
LOCK_PATIENCE_S = 10.0

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OLD = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
_NO_SUCH_CALL = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_RENAME_NOREPLACE = 1

PARALLEL_SYNCS = 8
MAX_OPEN = 32
"""Descriptors that wait for their turn; with more, the writer waits, too."""


class Directory:
    """An open directory; `fd` is its descriptor until `close`.

    Args:
        within: the open directory that `path` is relative to; None: as usual.
        synced: whether what is written is synced; False: a power cut may tear it.

    Raises:
        RepositoryMissing: `path` is not there, or not a directory.
        StoreFailed: it cannot be opened.
    """

    def __init__(self, path: Path, *, within: Directory | None = None, synced: bool = True) -> None:
        self.path = path if within is None else within.path / path
        self._synced = synced
        try:
            if within is None:
                self.fd = os.open(path, _DIRECTORY)
            else:
                self.fd = os.open(path, _DIRECTORY | os.O_NOFOLLOW, dir_fd=within.fd)
        except FileNotFoundError:
            raise RepositoryMissing(
                f"{path}: no such directory",
                hint="check the path and that its file system is mounted; "
                f"for a new repository: mkdir -m 700 {path}",
            ) from None
        except NotADirectoryError:
            raise RepositoryMissing(
                f"{path}: not a directory", hint="backups live in a directory of their own"
            ) from None
        except OSError as error:
            raise self.failed(error, "opening the directory") from error
        self.close = weakref.finalize(self, os.close, self.fd)

    # --- reading ------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        with self.doing(f"looking for {name}"):
            try:
                os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return True

    def files(self, prefix: str = "", suffix: str = "") -> Generator[tuple[str, os.stat_result]]:
        """Name and status of every regular file right in here, in no order.

        Only of files whose names begin and end so: there may be ten thousand others.
        """
        with self.doing("listing"), os.scandir(self.fd) as entries:
            for entry in entries:
                name = entry.name
                if not (name.startswith(prefix) and name.endswith(suffix)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted while we look
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield name, status

    @contextmanager
    def opened(self, name: str, *, writable: bool = False) -> Generator[int]:
        """A descriptor of a regular file.

        Raises:
            NameMissing: nothing has that name.
            UnsafeName: something has it that is not a regular file, such as a link.
        """
        with self.doing(f"opening {name}"):
            try:
                mode = os.O_RDWR if writable else os.O_RDONLY
                fd = os.open(name, _OLD | mode, dir_fd=self.fd)
            except FileNotFoundError:
                raise NameMissing(
                    f"{self.path}: {name} is missing", hint="was it moved or deleted by hand?"
                ) from None
            except OSError as error:
                if error.errno in _NOT_A_FILE:
                    raise self._not_a_file(name) from None
                raise
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self._not_a_file(name)
            yield fd
        finally:
            with self.doing(f"closing {name}"):
                os.close(fd)

    def holds(self, name: str, fd: int) -> bool:
        """Whether `name` still means the file that is open as `fd`."""
        with self.doing(f"looking at {name}"):
            try:
                there = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
            return os.path.samestat(there, os.fstat(fd))

    def free_bytes(self) -> int:
        """What this user may still write, by the file system's account."""
        with self.doing("asking for free space"):
            usage = os.statvfs(self.fd)
        return usage.f_bavail * usage.f_frsize

    def clock_s(self) -> float:
        """The time now by the clock that dates files here; on a network it is the server's."""
        name = pending_name("clock")
        with self.doing("looking at the clock"):
            fd = os.open(name, _NEW, FILE_MODE, dir_fd=self.fd)
            try:
                return os.fstat(fd).st_mtime
            finally:
                os.close(fd)
                self.discard(name)

    # --- writing ------------------------------------------------------------------------

    @contextmanager
    def pending(
        self, name: str, *, synced: bool = True, within: str = ""
    ) -> Generator[tuple[str, int]]:
        """A new file to become `name`, as its name so far and a descriptor.

        When the block succeeds it is synced and closed, and its caller's to name or delete;
        otherwise it is gone. Without `synced` the block sees to that.

        Args:
            within: a directory inside this one that the file is in until it gets its name.
        """
        pending = f"{within}/{pending_name(name)}" if within else pending_name(name)
        with self.doing(f"creating {name}"):
            fd = os.open(pending, _NEW, FILE_MODE, dir_fd=self.fd)
        try:
            try:
                passing("store.created")
                yield pending, fd
                if synced:
                    self.sync_file(fd, name)
            finally:
                with self.doing(f"closing {name}"):
                    os.close(fd)
        except BaseException:
            self.discard(pending)
            raise

    def give_name(
        self,
        pending: str,
        name: str,
        *,
        synced: bool = True,
        undo: Callable[[str], None] | None = None,
    ) -> None:
        """Make a finished file visible under a name that is free.

        Args:
            synced: otherwise the name is durable only after `sync`.
            undo: how to take the name away again if one step fails; None: by deleting it.

        Raises:
            NameTaken: it is not free; the file system decides, not an earlier check.
        """
        passing("store.before-rename")
        try:
            with self.doing(f"naming {name}"):
                try:
                    self._link(pending, name)
                except FileExistsError:
                    raise self.taken(name) from None
                except FileNotFoundError as error:
                    raise self._swept(name) from error
        except RepositoryError:
            if self._is_same_file(pending, name):  # an error, and yet it has the name
                (undo or self.discard)(name)
            self.discard(pending)
            raise
        try:
            passing("store.after-rename")
            if synced:
                self.sync()
        except StoreFailed:
            (undo or self.discard)(name)
            raise

    def rename(self, name: str, new: str) -> None:
        """Give a file a name that is free; durable only after `sync`.

        Raises:
            NameTaken: it is not free; the file keeps its name.
        """
        with self.doing(f"renaming {name}"):
            try:
                self._link(name, new)
            except FileExistsError:
                raise self.taken(new) from None

    def replace(self, pending: str, name: str) -> None:
        """Make a finished file visible in place of the one that has the name."""
        try:
            passing("store.before-replace")
            with self.doing(f"replacing {name}"):
                try:
                    os.rename(pending, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
                except FileNotFoundError as error:
                    raise self._swept(name) from error
        except StoreFailed:
            self.discard(pending)
            raise
        passing("store.after-replace")
        self.sync()

    def delete(self, name: str) -> bool:
        """Delete a file; whether there was one. Durable only after `sync`."""
        with self.doing(f"deleting {name}"):
            try:
                os.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                return False
        return True

    def move(self, name: str, new: str) -> None:
        """Rename whatever has a name, over what has the new one; durable only after `sync`."""
        with self.doing(f"renaming {name}"):
            os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def discard(self, name: str) -> None:
        """Delete on the way out of a failure that matters more than one in here."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.fd)

    def sync_file(self, fd: int, name: str) -> None:
        """Make the bytes of an open file survive a power loss.

        An fsync that failed once may claim success the next time although the pages are lost:
        so there is no second try, the file goes.
        """
        passing("store.before-fsync")
        with self.doing(f"syncing {name}"):
            if self._synced:
                os.fsync(fd)
        passing("store.after-fsync")

    def sync(self) -> None:
        """Make names given, changed and deleted so far survive a power loss."""
        with self.doing("syncing the directory"):
            try:
                if self._synced:
                    os.fsync(self.fd)
            except OSError as error:
                if error.errno not in _NO_SUCH_CALL:  # some network file systems need none
                    raise

    def lock(self, fd: int, name: str) -> None:
        """Lock an open file against others who do the same, until it is closed.

        Raises:
            RecordHeld: another process has it and does not let go.
        """
        deadline = time.monotonic() + LOCK_PATIENCE_S
        with self.doing(f"locking {name}"):
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RecordHeld(
                            f"{self.path}: {name} stayed locked for {LOCK_PATIENCE_S:.0f} s",
                            hint="a process that uses this directory hangs; find it with lsof",
                        ) from None
                    time.sleep(0.005)
                else:
                    return

    # --- explaining ---------------------------------------------------------------------

    def doing(self, doing: str) -> _Doing:
        """No OSError gets past; what becomes of it names the directory and the deed."""
        return _Doing(self, doing)

    def failed(self, error: OSError, doing: str) -> StoreFailed:
        return explained(error, self.path, doing, self.free_bytes)

    def taken(self, name: str) -> NameTaken:
        return NameTaken(
            f"{self.path}: {name} exists already", hint="nothing was overwritten; run it again"
        )

    def _swept(self, name: str) -> StoreFailed:
        """The error of a writer whose unfinished file was deleted while it stood still."""
        if os.fstat(self.fd).st_nlink == 0:
            return StoreFailed(
                f"{self.path}: the directory was deleted while {name} was written",
                hint="make it again, then run the command again",
            )
        return DraftSwept(
            f"{self.path}: {name} was deleted before it was finished: this run stood still, and "
            "another one swept up after it",
            hint="run it again; if machines sleep or disks hang often, find out why",
        )

    def _is_same_file(self, pending: str, name: str) -> bool:
        with suppress(OSError):
            return os.path.samestat(
                os.stat(pending, dir_fd=self.fd, follow_symlinks=False),
                os.stat(name, dir_fd=self.fd, follow_symlinks=False),
            )
        return False

    def _not_a_file(self, name: str) -> UnsafeName:
        return UnsafeName(
            f"{self.path}: {shown(name)} is not a regular file",
            hint="links, pipes and directories are not followed; find out who put it there",
        )

    def _link(self, pending: str, name: str) -> None:
        try:
            os.link(pending, name, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename_to_free_name(pending, name)
        else:
            with suppress(FileNotFoundError):  # who took our place has deleted it already
                os.unlink(pending, dir_fd=self.fd)

    def _rename_to_free_name(self, pending: str, name: str) -> None:
        """For file systems without hard links, such as exFAT and some network shares."""
        libc = ctypes.CDLL(None, use_errno=True)
        code = errno.ENOSYS
        if hasattr(libc, "renameat2"):
            paths = (self.fd, os.fsencode(pending), self.fd, os.fsencode(name))
            if libc.renameat2(*paths, _RENAME_NOREPLACE) == 0:
                return
            code = ctypes.get_errno()
        if code not in _NO_SUCH_CALL:
            raise OSError(code, os.strerror(code))
        raise StoreFailed(
            f"{self.path}: {name} cannot be named without the risk of overwriting another file",
            hint="this file system has neither hard links nor an exclusive rename; "
            "choose a directory on another one",
        )


class _Doing:
    """As a class and not as a generator: a small file is told of a dozen times."""

    __slots__ = ("_directory", "_doing")

    def __init__(self, directory: Directory, doing: str) -> None:
        self._directory = directory
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise self._directory.failed(error, self._doing) from error


class DeferredFsync:
    """Syncs files of one directory in threads; safe to share between threads.

    Each file is synced through a descriptor that was open while it was written: one that is
    opened later need not hear of an error in between.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(MAX_OPEN):
            self._slots.put(None)
        self._workers = WorkerGroup("sync", self._keep_syncing)
        self._failed: BaseException | None = None

    def take(self, fd: int, name: str) -> None:
        """Sync `fd` soon; it is copied and may be closed.

        Raises:
            StoreFailed: an earlier file could not be synced.
        """
        self._slots.get()
        try:
            if self._workers.over:
                raise RuntimeError("everything is synced; nothing more is taken")
            if self._failed is not None:
                raise self._failed
            with self._directory.doing(f"syncing {name}"):
                mine = os.dup(fd)
        except BaseException:
            self._slots.put(None)
            raise
        self._waiting.put((mine, name))
        self._workers.begin(PARALLEL_SYNCS)

    def finish(self) -> None:
        """Wait until every file and its name are durable; nothing can be taken after that.

        Raises:
            StoreFailed: one of them could not be synced.
        """
        self.abandon()
        if self._failed is not None:
            raise self._failed
        self._directory.sync()

    def abandon(self) -> None:
        """Wait for what is under way."""
        self._waiting.put(None)
        self._workers.end()
        self._keep_syncing()  # what no thread has begun with

    def _keep_syncing(self) -> None:
        while (one := self._waiting.get()) is not None:
            self._sync(*one)
        self._waiting.put(None)  # for the others

    def _sync(self, fd: int, name: str) -> None:
        try:
            try:
                if self._failed is None:
                    self._directory.sync_file(fd, name)
            finally:
                with self._directory.doing(f"closing {name}"):
                    os.close(fd)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the file is not durable
            self._failed = error
        finally:
            self._slots.put(None)


BytesLike: TypeAlias = bytes | bytearray | memoryview


class FileSink:
    """A Sink over a file's descriptor."""

    def __init__(self, directory: Directory, fd: int, name: str) -> None:
        self._directory = directory
        self._fd = fd
        self._name = name
        self.size_bytes = 0

    def write(self, data: BytesLike, /) -> None:
        try:
            written = os.write(self._fd, data)
            self.size_bytes += written
            while written < len(data):
                # The disk is nearly full or a signal came; the next write says which.
                more = os.write(self._fd, memoryview(data)[written:])
                written += more
                self.size_bytes += more
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StoreFailed:
        return self._directory.failed(error, f"writing {self._name} after {self.size_bytes} bytes")


class FileSource:
    """A Source over a file's descriptor."""

    def __init__(self, directory: Directory, fd: int, name: str) -> None:
        self._directory = directory
        self._fd = fd
        self._name = name
        self.size_bytes = os.fstat(fd).st_size

    def read(self, n: int, /) -> bytes:
        with self._directory.doing(f"reading {self._name}"):
            data = os.read(self._fd, n)
            while 0 < len(data) < n:
                more = os.read(self._fd, n - len(data))
                if not more:
                    break
                data += more
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        view = memoryview(buffer)
        filled = 0
        with self._directory.doing(f"reading {self._name}"):
            while filled < len(view):
                count = os.readv(self._fd, [view[filled:]])
                if count == 0:
                    break
                filled += count
        return filled


class DirectoryBatch:
    """A Batch in a directory: files have their names at once, and are synced behind."""

    def __init__(
        self,
        directory: Directory,
        within: Callable[[], str] = str,
        undo: Callable[[str], None] | None = None,
    ) -> None:
        self._directory = directory
        self._within = within
        self._undo = undo
        self._syncs = DeferredFsync(directory)

    @contextmanager
    def create(self, name: str) -> Generator[FileSink]:
        check_file_name(name)
        if self._directory.exists(name):
            raise self._directory.taken(name)
        inside = self._within()
        with self._directory.pending(name, synced=False, within=inside) as (pending, fd):
            yield FileSink(self._directory, fd, name)
            self._syncs.take(fd, name)
        self._directory.give_name(pending, name, synced=False, undo=self._undo)

    def finish(self) -> None:
        self._syncs.finish()

    def abandon(self) -> None:
        self._syncs.abandon()
