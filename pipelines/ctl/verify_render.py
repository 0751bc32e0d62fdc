"""The output of `verify`: problems, what can still be restored, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from msgspec import Struct

from pipelines.ctl.render import instant
from resources.engine.verify.restore_points import RestorePoint, UnrestorableShard, newest_whole
from resources.engine.verify.sampling import Sample
from resources.engine.verify.verify import VerifyReport
from resources.errors import counted, shown
from resources.protocol.times import format_time

MAX_NAMED = 5
VERSION = 1


class Asked(Struct, frozen=True):
    """The requested part of the archives; all without a sample."""

    sample: Sample | None
    text: str
    day: int


def render_verify(report: VerifyReport, asked: Asked) -> str:
    """One line for each problem, its effect on restores, and a summary."""
    lines = [f"problem: {problem}" for problem in report.problems]
    for lost in report.known:
        now = f"; it is {lost.set_aside} now" if lost.set_aside else ""
        lines.append(f"known: {lost.file_name}: {lost.why}{now}")
    lines += [f"damaged at its source: {name}: {what}" for name, what in report.damaged.items()]
    if not all(point.whole for point in report.points):
        lines += _restorable(report)
    archives = counted(report.archives, "archive")
    if asked.sample is not None:
        part = f"{asked.text} of {report.listed}, day {asked.day}"
        archives = f"{counted(report.archives, 'archive')} ({part})"
    lines.append(
        f"{counted(report.manifests, 'backup')}, {archives}, {report.size_bytes} bytes read: "
        f"{counted(len(report.problems), 'problem')}"
    )
    return "\n".join(lines)


def _restorable(report: VerifyReport) -> Iterator[str]:
    for (trouble, gaps), group in groupby(report.points, key=_like):
        points = list(group)
        names = points[0].name
        if len(points) > 1:
            names += f" to {points[-1].name} ({counted(len(points), 'backup')})"
        if trouble:
            yield f"not restorable: {names}: {trouble}"
        else:
            but = f" but {_named(points[0].gaps)}" if gaps else ""
            yield f"restorable: {names}: everything{but}"
    newest = report.points[-1]
    for shard in newest.gaps[:MAX_NAMED]:
        yield _instead(shard)
    if report.databases and newest.gaps:
        yield f"databases in {newest.name}: " + "; ".join(
            f"{shown(db.name)} without {db.unrestorable} of its {counted(db.shards, 'shard')}"
            if db.unrestorable
            else f"{shown(db.name)} is complete"
            for db in report.databases
        )


def _like(point: RestorePoint) -> tuple[str, tuple[tuple[int, str], ...]]:
    """The common properties of consecutive states."""
    return point.trouble, tuple((shard.shard_id, shard.file_name) for shard in point.gaps)


def _named(gaps: Sequence[UnrestorableShard]) -> str:
    names = [_shard(shard) for shard in gaps[:MAX_NAMED]]
    more = len(gaps) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _shard(shard: UnrestorableShard) -> str:
    where = f" of {shown(shard.database)}.{shown(shard.policy)}" if shard.database else ""
    return f"shard {shard.shard_id}{where}"


def _instead(shard: UnrestorableShard) -> str:
    span = ""
    if shard.start_ns is not None:
        span = f" ({instant(shard.start_ns)} to {instant(shard.end_ns)})"
    if not shard.instead:
        return f"{_shard(shard)}{span}: no earlier archive of it is whole"
    return (
        f"{_shard(shard)}{span}: restorable as it was in {shard.instead} (-as-of {shard.instead})"
    )


def verify_json(
    report: VerifyReport, asked: Asked, path: str, repaired: Sequence[tuple[str, str]] | None
) -> str:
    """The document that docs/verify.md describes.

    Args:
        repaired: file names and their repairs; None: no repair was requested.
    """
    return json.dumps(
        {
            "version": VERSION,
            "path": path,
            "clean": not report.problems,
            "sample": None
            if asked.sample is None
            else {
                "asked": asked.text,
                "day": asked.day,
                "days": asked.sample.parts(report.listed),
            },
            "read": {
                "backups": report.manifests,
                "receipts": report.receipts,
                "archives": report.archives,
                "archives_there": report.listed,
                "size_bytes": report.size_bytes,
            },
            "problems": [
                {"file": problem.file_name, "kind": problem.kind, "what": problem.what}
                for problem in report.problems
            ],
            "known": [
                {
                    "file": lost.file_name,
                    "manifest": lost.listed_by,
                    "what": lost.why,
                    "set_aside": lost.set_aside or None,
                }
                for lost in report.known
            ],
            "damaged_at_source": [
                {"file": name, "what": what, "newest": name in report.damaged_now}
                for name, what in report.damaged.items()
            ],
            "newest_whole": newest_whole(report.points) or None,
            "backups": [_point_json(point) for point in report.points],
            "databases": _databases_json(report),
            "repaired": None
            if repaired is None
            else [{"file": name, "what": what} for name, what in repaired],
        },
        indent=2,
    )


def _databases_json(report: VerifyReport) -> list[dict[str, object]]:
    return [
        {
            "name": db.name,
            "shards": db.shards,
            "lacking": db.unrestorable,
            "complete": not db.unrestorable,
        }
        for db in report.databases
    ]


def _point_json(point: RestorePoint) -> dict[str, object]:
    return {
        "name": point.name,
        "whole": point.whole,
        "trouble": point.trouble or None,
        "lacks": [
            {
                "database": shard.database,
                "policy": shard.policy,
                "shard": shard.shard_id,
                "start": None if shard.start_ns is None else format_time(shard.start_ns),
                "end": None if shard.end_ns is None else format_time(shard.end_ns),
                "file": shard.file_name or None,
                "instead": shard.instead or None,
            }
            for shard in point.gaps
        ],
    }
