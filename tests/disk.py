"""A disk that fails when told to, remembers what it was asked, and can lose its power.

    with RecordedDisk(directory) as disk:
        ...  # real files are written by the code under test
    for place in range(len(disk.log) + 1):
        disk.after_power_loss(place, elsewhere, rng)  # what it may hold if it ended there

Real files in a real directory; between them and `DirectoryStore` stand the system calls of
`os`, which are what a file system is asked for. Bytes count as safe when their file was synced
after they were written, a name when its directory was. What is not safe may be there after a
power loss or not, each by itself: newer names without older ones, names of files whose bytes
are lost, some of the bytes.
"""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

Kind = Literal["create", "write", "sync file", "sync directory", "link", "unlink", "rename"]
CALLS = ("open", "write", "fsync", "link", "unlink", "rename", "close")


@dataclass(frozen=True)
class Op:
    """One change; `file` is a number of its own for each, `name` and `other` are names there."""

    kind: Kind
    file: int = 0
    name: str = ""
    other: str = ""
    data: bytes = b""


class RecordedDisk:
    """Watches one directory for the length of a block.

    Args:
        directory: whose files; calls about other places pass untouched.
        fail: called before each call on the directory with its number and its name; what it
            raises is what the call raises.

    Attributes:
        log: the changes, in order.
        calls: how many calls there were.
    """

    def __init__(
        self, directory: Path, *, fail: Callable[[int, str], None] = lambda _n, _call: None
    ) -> None:
        self.log: list[Op] = []
        self.calls = 0
        self._directory = directory
        self._fail = fail
        self._mutex = threading.RLock()
        self._real: dict[str, Any] = {}
        self._files: dict[int, int] = {}
        self._start = {path.name: path.read_bytes() for path in directory.iterdir()}

    def __enter__(self) -> Self:
        self._id = self._directory.stat()
        self._real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, getattr(self, f"_{name}"))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._real.items():
            setattr(os, name, call)

    # --- the calls ------------------------------------------------------------------------

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not (flags & os.O_CREAT and self._is_directory(dir_fd)):
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)
        with self._mutex:
            self._count("open")
            fd = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            self._files[os.fstat(fd).st_ino] = len(self.log) + 1  # inodes are used again
            self.log.append(Op("create", len(self.log) + 1, os.fspath(path)))
            return fd

    def _write(self, fd: int, data: Any) -> int:
        if not self._is_inside(fd):
            return self._real["write"](fd, data)
        with self._mutex:
            self._count("write")
            n = self._real["write"](fd, data)
            self.log.append(
                Op("write", self._files[os.fstat(fd).st_ino], data=bytes(memoryview(data)[:n]))
            )
            return n

    def _fsync(self, fd: int) -> None:
        ours = self._is_directory(fd)
        if not ours and not self._is_inside(fd):
            self._real["fsync"](fd)
            return
        with self._mutex:
            self._count("fsync")
            self._real["fsync"](fd)
            kind: Kind = "sync directory" if ours else "sync file"
            self.log.append(Op(kind, self._files.get(os.fstat(fd).st_ino, 0)))

    def _close(self, fd: int) -> None:
        if not self._is_inside(fd):
            self._real["close"](fd)
            return
        with self._mutex:
            try:
                self._count("close")
            finally:
                self._real["close"](fd)

    def _link(self, src: Any, dst: Any, **where: Any) -> None:
        with self._mutex:
            if self._is_directory(where.get("dst_dir_fd")):
                self._count("link")
                self.log.append(Op("link", self._file(src), dst))
            self._real["link"](src, dst, **where)

    def _rename(self, src: Any, dst: Any, **where: Any) -> None:
        with self._mutex:
            if self._is_directory(where.get("dst_dir_fd")):
                self._count("rename")
                if not (self._directory / src).is_dir():  # nothing rests on a stage's name
                    self.log.append(Op("rename", self._file(src), src, dst))
            self._real["rename"](src, dst, **where)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self._mutex:
            self._real["unlink"](path, dir_fd=dir_fd)
            if self._is_directory(dir_fd):
                self.log.append(Op("unlink", name=path))

    def _count(self, call: str) -> None:
        self.calls += 1
        self._fail(self.calls, call)

    def _file(self, name: str) -> int:
        return self._files[(self._directory / name).lstat().st_ino]

    def _is_directory(self, fd: int | None) -> bool:
        return fd is not None and os.path.samestat(os.fstat(fd), self._id)

    def _is_inside(self, fd: int) -> bool:
        """A regular file that has a name in the directory."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != self._id.st_dev:
            return False
        with self._mutex:
            return status.st_ino in self._files

    # --- without power --------------------------------------------------------------------

    def after_power_loss(self, place: int, elsewhere: Path, rng: random.Random) -> None:
        """Write into `elsewhere` what the disk may hold if only `place` changes were asked."""
        bytes_now = {-i - 1: data for i, data in enumerate(self._start.values())}
        names = dict(zip(self._start, bytes_now, strict=True))
        safe_bytes, safe_names = dict(bytes_now), dict(names)
        for op in self.log[:place]:
            if op.kind == "write":
                bytes_now[op.file] = bytes_now.get(op.file, b"") + op.data
            elif op.kind == "sync file":
                safe_bytes[op.file] = bytes_now.get(op.file, b"")
            elif op.kind == "sync directory":
                safe_names = dict(names)
            elif op.kind == "create":
                bytes_now[op.file] = b""
                names[op.name] = op.file
            else:
                _rename_in(names, op)
        held = dict(safe_names)
        for name in names.keys() | safe_names.keys():
            if names.get(name) != safe_names.get(name) and rng.random() < 0.5:
                if name in names:
                    held[name] = names[name]
                else:
                    held.pop(name)
        for name, file in held.items():
            if "/" in name:
                continue  # in a stage, which the next run empties
            safe, now = len(safe_bytes.get(file, b"")), bytes_now.get(file, b"")
            kept = rng.choice((safe, len(now), rng.randint(safe, len(now))))
            (elsewhere / name).write_bytes(now[:kept])


def _rename_in(names: dict[str, int], op: Op) -> None:
    if op.kind == "link":
        names[op.name] = op.file
    elif op.kind == "unlink":
        names.pop(op.name, None)
    elif op.kind == "rename":
        names[op.other] = op.file
        names.pop(op.name, None)
