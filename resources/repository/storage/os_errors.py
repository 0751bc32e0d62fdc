"""What a file system says no with, as an error that names the directory, the deed and a way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from resources.errors import StoreFailed, StoreFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PERMIT = "let this user read and write there (chown, chmod), or choose another directory"
_HINTS = {
    errno.EROFS: "mount it writable, or choose another directory",
    errno.EACCES: _PERMIT,
    errno.EPERM: _PERMIT,
    errno.EMFILE: "allow more open files (ulimit -n), or run fewer at once",
    errno.ENFILE: "the machine is out of file handles; run fewer at once",
    errno.EIO: "the disk failed, its kernel log (dmesg) says more; do not trust it with backups",
    errno.ESTALE: "the network file system went away; mount it again",
}


def explained(error: OSError, path: Path, doing: str, free_bytes: Callable[[], int]) -> StoreFailed:
    """The error to raise for `error`, which came while `doing` something in `path`."""
    code = error.errno or 0
    what = f"{path}: {doing}: {os.strerror(code) if code else error}"
    if code not in _FULL:
        return StoreFailed(what, hint=_HINTS.get(code, ""))
    if code == errno.EFBIG:
        return StoreFull(what, hint="a file size limit was met; raise it (ulimit -f)")
    with suppress(StoreFailed):
        what += f", {free_bytes()} bytes free"
    return StoreFull(what, hint="free some space or raise the quota, then run it again")
