"""What a directory without manifests may be instead, and what to do with it.

| what is there | what made it |
| --- | --- |
| directories that hold manifests | a job that makes a new directory for each backup |
| `meta.00`, `db.rp.00001.00` | `influxd backup` without `-portable`: the legacy format |
| `2024-01-01.tar.gz` | a job that packs a backup, or a data directory |
| `meta/meta.db`, `data/`, `wal/` | a server's own directory |

Source: influxdb cmd/influxd/backup, and services/meta and tsdb for the server's directory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from resources.errors import named_few, shown

MAX_ENTRIES = 10_000
"""A directory with more entries than this is described by the first of them."""
MAX_NAMED = 3

_LEGACY = re.compile(r"meta\.[0-9]{2,}|.+\.[0-9]{5,}\.[0-9]{2,}")
_PACKED = re.compile(r".+\.(?:tar|tar\.(?:gz|bz2|xz|zst)|tgz|zip)", re.IGNORECASE)
_OWN_ARCHIVE = re.compile(r"[0-9]{8}T[0-9]{6}Z\.s[0-9]+\.tar\.gz")


def next_step(directory: Path) -> str:
    """What to do with a directory that is no repository; empty if nothing in it tells."""
    files, directories = _entries(directory)
    if "meta.db" in files or _is_data_directory(directory, directories):
        return (
            "this is the data directory of a server, not a backup of one: start influxd with it, "
            "and back that server up"
        )
    backups = [name for name in directories if _has_manifest(directory / name)]
    if backups:
        return f"directories below hold backups ({_named(backups)}): name one of them"
    if any(_LEGACY.fullmatch(name) for name in files):
        return (
            "this is a legacy backup, of influxd backup without -portable: restore it with "
            "influxd restore -online into a server, and back that server up"
        )
    packed = [n for n in files if _PACKED.fullmatch(n) and not _OWN_ARCHIVE.fullmatch(n)]
    if packed:
        return f"unpack {_named(packed)}, and name the directory that was in it"
    return ""


def _named(names: list[str]) -> str:
    return named_few(map(shown, names), MAX_NAMED)


def _entries(directory: Path) -> tuple[list[str], list[str]]:
    """Names of files and of directories, in order; a directory that cannot be read has none."""
    files: list[str] = []
    directories: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False):
                found = directories if entry.is_dir(follow_symlinks=False) else files
                found.append(entry.name)
    except OSError:
        pass
    return sorted(files), sorted(directories)


def _has_manifest(directory: Path) -> bool:
    return any(name.endswith(".manifest") for name in _entries(directory)[0])


def _is_data_directory(directory: Path, directories: list[str]) -> bool:
    if "meta" in directories and "meta.db" in _entries(directory / "meta")[0]:
        return True
    return {"data", "wal"} <= set(directories)
