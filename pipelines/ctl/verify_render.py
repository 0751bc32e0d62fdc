"""What `verify` prints: problems, what can still be restored, and the same for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipelines.ctl.render import instant
from resources.engine.stored.restore_points import Lack, RestorePoint, newest_whole
from resources.engine.stored.sampling import Sample
from resources.engine.stored.verify import VerifyReport
from resources.errors import shown
from resources.protocol.times import format_time

MOST_NAMED = 5
VERSION = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of the archives was to be read: all without a sample."""

    sample: Sample | None
    text: str
    day: int


def render_verify(report: VerifyReport, asked: Asked) -> str:
    """One line for each problem, what it means for restores, and a summary."""
    lines = [f"problem: {problem}" for problem in report.problems]
    for loss in report.known:
        now = f"; it is {loss.set_aside} now" if loss.set_aside else ""
        lines.append(f"known: {loss.file_name}: {loss.why}{now}")
    lines += [f"damaged at its source: {name}: {what}" for name, what in report.damaged.items()]
    if not all(point.whole for point in report.points):
        lines += _restorable(report)
    archives = f"{report.archives} archives"
    if asked.sample is not None:
        part = f"{asked.text} of {report.listed}, day {asked.day}"
        archives = f"{report.archives} archives ({part})"
    lines.append(
        f"{report.manifests} backups, {archives}, {report.size_bytes} bytes read: "
        f"{len(report.problems)} problems"
    )
    return "\n".join(lines)


def _restorable(report: VerifyReport) -> Iterator[str]:
    for (trouble, lacks), group in groupby(report.points, key=_like):
        points = list(group)
        names = points[0].name
        if len(points) > 1:
            names += f" to {points[-1].name} ({len(points)} backups)"
        if trouble:
            yield f"not restorable: {names}: {trouble}"
        else:
            but = f" but {_named(points[0].lacks)}" if lacks else ""
            yield f"restorable: {names}: everything{but}"
    newest = report.points[-1]
    for lack in newest.lacks[:MOST_NAMED]:
        yield _instead(lack)
    if report.databases and newest.lacks:
        yield f"databases in {newest.name}: " + "; ".join(
            f"{shown(db.name)} without {db.lacking} of its {db.shards} shards"
            if db.lacking
            else f"{shown(db.name)} is complete"
            for db in report.databases
        )


def _like(point: RestorePoint) -> tuple[str, tuple[tuple[int, str], ...]]:
    """What states that stand next to each other have in common."""
    return point.trouble, tuple((lack.shard_id, lack.file_name) for lack in point.lacks)


def _named(lacks: Sequence[Lack]) -> str:
    names = [_shard(lack) for lack in lacks[:MOST_NAMED]]
    more = len(lacks) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _shard(lack: Lack) -> str:
    where = f" of {shown(lack.database)}.{shown(lack.policy)}" if lack.database else ""
    return f"shard {lack.shard_id}{where}"


def _instead(lack: Lack) -> str:
    span = ""
    if lack.start_ns is not None:
        span = f" ({instant(lack.start_ns)} to {instant(lack.end_ns)})"
    if not lack.instead:
        return f"{_shard(lack)}{span}: no earlier archive of it is whole"
    return f"{_shard(lack)}{span}: restorable as it was in {lack.instead} (-as-of {lack.instead})"


def verify_json(
    report: VerifyReport, asked: Asked, path: str, repaired: Sequence[tuple[str, str]] | None
) -> str:
    """The document that docs/verify.md describes.

    Args:
        repaired: file names and what was done with them; None: nothing was to be repaired.
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
                    "file": loss.file_name,
                    "manifest": loss.listed_by,
                    "what": loss.why,
                    "set_aside": loss.set_aside or None,
                }
                for loss in report.known
            ],
            "damaged_at_source": [
                {"file": name, "what": what, "newest": name in report.damaged_now}
                for name, what in report.damaged.items()
            ],
            "newest_whole": newest_whole(report.points) or None,
            "backups": [_point_json(point) for point in report.points],
            "databases": [
                {
                    "name": db.name,
                    "shards": db.shards,
                    "lacking": db.lacking,
                    "complete": not db.lacking,
                }
                for db in report.databases
            ],
            "repaired": None
            if repaired is None
            else [{"file": name, "what": what} for name, what in repaired],
        },
        indent=2,
    )


def _point_json(point: RestorePoint) -> dict[str, object]:
    return {
        "name": point.name,
        "whole": point.whole,
        "trouble": point.trouble or None,
        "lacks": [
            {
                "database": lack.database,
                "policy": lack.policy,
                "shard": lack.shard_id,
                "start": None if lack.start_ns is None else format_time(lack.start_ns),
                "end": None if lack.end_ns is None else format_time(lack.end_ns),
                "file": lack.file_name or None,
                "instead": lack.instead or None,
            }
            for lack in point.lacks
        ],
    }
