"""The flags that choose points of a backup, and the exporting commands' way to a state."""

from __future__ import annotations

from datetime import datetime

import click
from msgspec import Struct

from pipelines.ctl.params import Instant, Integer, nanoseconds
from pipelines.ctl.typed_flags import Command, takes
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


class PointFlags(Struct, frozen=True, kw_only=True):
    """The flags that choose points, as they were given."""

    database: str | None
    policy: str | None
    shard: int | None
    measurement: str | None
    tags: tuple[str, ...]
    fields: tuple[str, ...]
    start: datetime | None
    end: datetime | None
    as_of: datetime | None

    def limits(self) -> Limits:
        """The database, policy and shard.

        Raises:
            UsageError: a policy without its database.
        """
        shard_id = ShardID(self.shard) if self.shard else None
        limits = Limits(self.database or "", self.policy or "", shard_id)
        check_limits(limits)
        return limits

    def filter(self) -> PointFilter:
        """The points.

        Raises:
            UsageError: a tag without `=`, or a time range without a time in it.
        """
        tags: dict[bytes, bytes] = {}
        for text in self.tags:
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise UsageError(f"-tag {text!a} is not name=value", hint="write -tag host=web-1")
            tags[_encoded(name)] = _encoded(value)
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError("-start is not before -end", hint="-end is the first time left out")
        start_ns, end_ns = nanoseconds(self.start), nanoseconds(self.end)
        return PointFilter(
            None if self.measurement is None else _encoded(self.measurement),
            tags,
            frozenset(map(_encoded, self.fields)),
            MIN_NS if start_ns is None else start_ns,
            MAX_NS if end_ns is None else end_ns,
        )


def point_flags(command: Command) -> Command:
    """Give a command the flags; it receives them as `points`, a value of `PointFlags`."""
    command = takes(points=PointFlags)(command)
    for flag in reversed(FLAGS):
        command = flag(command)
    return command


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
