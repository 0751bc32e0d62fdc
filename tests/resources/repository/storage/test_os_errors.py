"""What a file system says no with names the directory, the deed and a way out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from resources.errors import ExitCode, StoreFailed, StoreFull
from resources.repository.storage.os_errors import explained

WHERE = Path("/backups")


def error_of(code: int | None, free: int = 17) -> StoreFailed:
    error = OSError("gone") if code is None else OSError(code, os.strerror(code))
    return explained(error, WHERE, "writing T.meta", lambda: free)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_tells_how_much_is_free_and_has_its_own_status(code: int) -> None:
    error = error_of(code)
    assert isinstance(error, StoreFull)
    assert error.exit_code == ExitCode.NO_SPACE
    assert error.what == f"/backups: writing T.meta: {os.strerror(code)}, 17 bytes free"
    assert "free some space" in error.hint


def test_a_file_size_limit_is_not_for_want_of_space() -> None:
    error = error_of(errno.EFBIG)
    assert isinstance(error, StoreFull)
    assert "bytes free" not in error.what
    assert "ulimit -f" in error.hint


def test_a_disk_that_cannot_even_tell_its_free_space_is_still_full() -> None:
    def silent() -> int:
        raise StoreFailed("statvfs failed")

    error = explained(OSError(errno.ENOSPC, "No space"), WHERE, "writing", silent)
    assert isinstance(error, StoreFull)
    assert "bytes free" not in error.what


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EROFS, "mount it writable"),
        (errno.EACCES, "chown"),
        (errno.EPERM, "chown"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "file handles"),
        (errno.EIO, "dmesg"),
        (errno.ESTALE, "mount it again"),
    ],
)
def test_each_reason_has_its_next_step(code: int, hint: str) -> None:
    error = error_of(code)
    assert not isinstance(error, StoreFull)
    assert hint in error.hint
    assert os.strerror(code) in error.what


def test_an_error_without_a_number_keeps_its_text() -> None:
    assert error_of(None).what == "/backups: writing T.meta: gone"
    assert error_of(errno.ELOOP).hint == ""
