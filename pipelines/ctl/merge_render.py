"""The output of `merge`, as pure functions."""

from __future__ import annotations

from pipelines.ctl.render import go_duration, instant, printable, restore_line, table
from resources.engine.events import Event, GroupMerged, MergeBegun, TemporaryDropped
from resources.engine.merge.merge_plan import MergePlan
from resources.engine.merge.merge_run import MergeReport
from resources.errors import counted

HEAD = ("Shard", "From", "To", "Start", "End", "Values", "Size", "File")


def merge_line(event: Event) -> str | None:
    """The lines on standard output for an event of a merge."""
    match event:
        case MergeBegun(temporary, into, resumed):
            verb = "Going on to merge" if resumed else "Merging"
            return f"{verb} from {temporary} into {into}..."
        case GroupMerged():
            return (
                f"Merging rp {event.policy} into rp {event.into_policy}, {instant(event.start_ns)} "
                f"to {instant(event.end_ns)}... Done. {counted(event.points, 'value')} in "
                f"{go_duration(event.seconds)}: {event.added} new, {event.replaced} replaced, "
                f"{event.there} there already"
            )
        case TemporaryDropped(temporary):
            return f"Dropped {temporary}"
        case _:
            return restore_line(event)


def merged(report: MergeReport) -> str:
    """The last line."""
    expired = f"; {counted(report.expired, 'older value')} left out" if report.expired else ""
    return (
        f"Merged {counted(report.points, 'value')} into {report.into} in "
        f"{go_duration(report.seconds)}, every one found there{expired}"
    )


def render_merge_plan(plan: MergePlan, target: str) -> str:
    """Every shard with the target of its points, what is left out, and the totals."""
    rows: list[tuple[str, ...]] = []
    for shard in plan.shards:
        details = shard.archive.entry.details
        points = None if details is None else details.points
        live = f"{plan.into}.{plan.policies[shard.place.policy]}"
        rows.append(
            (
                str(shard.place.shard_id),
                printable(f"{shard.place.database}.{shard.place.policy}"),
                printable(live),
                instant(shard.place.group.start_time_ns),
                instant(shard.place.group.end_time_ns),
                "-" if points is None else str(points),
                str(shard.archive.entry.size_bytes),
                shard.archive.entry.file_name,
            )
        )
    points = "" if plan.points is None else f", {counted(plan.points, 'value')}"
    return "\n".join(
        [
            table(HEAD, rows),
            *(f"note: {printable(note)}" for note in plan.notes),
            f"{counted(len(rows), 'shard')}{points}, {plan.restore.size_bytes} bytes, into "
            f"{printable(plan.into)} on {target}, by way of a temporary database; where both have "
            "a value, the backup's stays; nothing was changed",
        ]
    )
