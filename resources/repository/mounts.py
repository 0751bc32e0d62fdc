r"""Is a directory on a file system that should be mounted, and is not?

    /etc/fstab             device  mount point  type  options  dump  pass
    /proc/self/mountinfo   id  parent  major:minor  root  mount point  options …

White space and backslashes in names are octal: `\040`.

Source: fstab(5), proc(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

FSTAB, MOUNTINFO = Path("/etc/fstab"), Path("/proc/self/mountinfo")


def unmounted_above(directory: Path) -> str:
    """The mount point of /etc/fstab that a directory is in or is, if nothing is mounted there.

    Empty if there is none, or if the system does not tell.
    """
    try:
        fstab, mountinfo = FSTAB.read_text("utf-8", "replace"), MOUNTINFO.read_text()
        real = PurePosixPath(directory.resolve(strict=True))
    except (OSError, ValueError):
        return ""
    return _missing_mount(real, fstab, mountinfo)


def _missing_mount(directory: PurePosixPath, fstab: str, mountinfo: str) -> str:
    """The same of texts; `directory` is absolute and without links."""
    mounted = set(_fields(mountinfo, 4))
    above = {str(path) for path in (directory, *directory.parents)}
    here = max(mounted & above, key=len, default="/")
    due = [point for point in _fields(fstab, 1) if point in above and len(point) > len(here)]
    return max(due, key=len, default="")


def _fields(text: str, number: int) -> Iterator[str]:
    """One column of a table, without comments."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > number and not fields[0].startswith("#"):
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[number])
            if point.startswith("/"):
                yield point.rstrip("/") or "/"
