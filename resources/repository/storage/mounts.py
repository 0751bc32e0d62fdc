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


def unmounted_above(directory: Path, *, on_demand: bool = False) -> str:
    """The mount point of /etc/fstab that a directory is in or is, if nothing is mounted there.

    Empty if there is none, or if the system does not tell.

    Args:
        on_demand: whether to look for entries with the option `noauto`, which are not mounted when
            the system starts; else these are left out.
    """
    try:
        fstab, mountinfo = FSTAB.read_text("utf-8", "replace"), MOUNTINFO.read_text()
        real = PurePosixPath(directory.resolve(strict=True))
    except (OSError, ValueError):
        return ""
    return _missing_mount(real, fstab, mountinfo, on_demand=on_demand)


def _missing_mount(directory: PurePosixPath, fstab: str, mountinfo: str, *, on_demand: bool) -> str:
    """The same of texts; `directory` is absolute and without links."""
    mounted = {point for point, _ in _points(mountinfo, 4, 5)}
    above = {str(path) for path in (directory, *directory.parents)}
    here = max(mounted & above, key=len, default="/")
    due = [
        point
        for point, options in _points(fstab, 1, 3)
        if point in above and len(point) > len(here) and ("noauto" in options) == on_demand
    ]
    return max(due, key=len, default="")


def _points(text: str, point_column: int, options_column: int) -> Iterator[tuple[str, list[str]]]:
    """Mount points of a table, with their options."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > point_column and not fields[0].startswith("#"):
            point = re.sub(
                r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[point_column]
            )
            options = fields[options_column] if len(fields) > options_column else ""
            if point.startswith("/"):
                yield point.rstrip("/") or "/", options.split(",")
