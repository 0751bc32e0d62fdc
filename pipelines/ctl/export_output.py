"""Where an export goes: standard output, or a new file or folder, which exists once complete."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from resources.errors import StoreFailed, UsageError


@contextmanager
def output(
    out: str | None, *, when_closed: str = "-out FILE writes into a file"
) -> Generator[IO[bytes]]:
    """Standard output, or a new file that gets its name at the end.

    Raises:
        UsageError: the file exists.
        StoreFailed: it cannot be written.
    """
    if out is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # Python would fail once more when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StoreFailed(
                "standard output was closed before everything was written",
                hint=when_closed,
            ) from None
        return
    path, draft = _free(out)
    try:
        with open(draft, "xb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise UsageError(f"{out} exists by now", hint="nothing was overwritten") from None
    except OSError as error:
        raise _failed(out, error) from None
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def output_folder(out: str) -> Generator[Path]:
    """A new folder that gets its name at the end.

    Raises:
        UsageError: something of that name exists.
        StoreFailed: it cannot be written.
    """
    path, draft = _free(out)
    try:
        draft.mkdir(mode=0o700)
        yield draft
        if path.exists() or path.is_symlink():  # a rename would take an empty folder's place
            raise UsageError(f"{out} exists by now", hint="nothing was overwritten")
        draft.rename(path)
    except OSError as error:
        raise _failed(out, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _free(out: str) -> tuple[Path, Path]:
    """A path that is free, and the path of its draft."""
    path = Path(out)
    if path.exists() or path.is_symlink():
        raise UsageError(f"{out} exists already", hint="nothing is overwritten; name another file")
    return path, path.with_name(f".{path.name}.{os.getpid()}.pending")


def _failed(out: str, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"{out}: {error.strerror or error}", hint="make room, or name another file with -out"
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
