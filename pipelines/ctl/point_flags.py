"""The flags that choose points of a backup, and the exporting commands' way to a state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from pipelines.ctl.params import Instant, Integer, nanoseconds
from resources.engine.export.export import ExportReport
from resources.engine.selection import check_limits
from resources.errors import BackupPartial, UsageError, counted, named_few
from resources.model import ShardID
from resources.points.filters import MAX_NS, MIN_NS, PointFilter
from resources.repository.formats.manifest import Limits

FLAGS = (
    click.option("-db", "--db", "database", metavar="<name>", help="points of this database"),
    click.option("-rp", "--rp", "policy", metavar="<name>", help="points of this policy of -db"),
    click.option("-shard", "--shard", type=Integer(min=1), metavar="<id>", help="of this shard"),
    click.option(
        "-measurement", "--measurement", metavar="<name>", help="points of this measurement"
    ),
    click.option(
        "-tag",
        "--tag",
        "tags",
        multiple=True,
        metavar="<name=value>",
        help="points with this tag; -tag name= are those without it; may be repeated",
    ),
    click.option(
        "-field", "--field", "fields", multiple=True, metavar="<name>", help="may be repeated"
    ),
    click.option(
        "-start", "--start", type=Instant(), metavar="<time>", help="points from this time on"
    ),
    click.option("-end", "--end", type=Instant(), metavar="<time>", help="points before this time"),
    click.option(
        "-as-of",
        "--as-of",
        type=Instant(),
        metavar="<time>",
        help="the state of that time: backups that began later are not read",
    ),
)


def point_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags."""
    for flag in reversed(FLAGS):
        command = flag(command)
    return command


def limits_of(flags: dict[str, Any]) -> Limits:
    """Take `-db`, `-rp` and `-shard` out of the flags."""
    shard = flags.pop("shard")
    limits = Limits(
        flags.pop("database") or "", flags.pop("policy") or "", ShardID(shard) if shard else None
    )
    check_limits(limits)
    return limits


def filter_of(flags: dict[str, Any]) -> PointFilter:
    """Take the flags that choose points out of the flags.

    Raises:
        UsageError: a tag without `=`, or a time range without a time in it.
    """
    tags: dict[bytes, bytes] = {}
    for text in flags.pop("tags"):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-tag {text!a} is not name=value", hint="write -tag host=web-1")
        tags[_encoded(name)] = _encoded(value)
    start: datetime | None = flags.pop("start")
    end: datetime | None = flags.pop("end")
    if start is not None and end is not None and start >= end:
        raise UsageError("-start is not before -end", hint="-end is the first time left out")
    start_ns, end_ns = nanoseconds(start), nanoseconds(end)
    measurement = flags.pop("measurement")
    return PointFilter(
        None if measurement is None else _encoded(measurement),
        tags,
        frozenset(map(_encoded, flags.pop("fields"))),
        MIN_NS if start_ns is None else start_ns,
        MAX_NS if end_ns is None else end_ns,
    )


def require_undamaged(report: ExportReport) -> None:
    """Check that everything wanted was read.

    Raises:
        BackupPartial: archives had damaged parts.
    """
    if report.damaged:
        raise BackupPartial(
            f"{counted(len(report.damaged), 'archive has', 'archives have')} parts that were "
            f"damaged at their source; their points are left out: {named_few(report.damaged)}",
            hint="an earlier state may have the rest: -as-of TIME",
        )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
