"""`restore -plan`: what a restore would do, as a table."""

from __future__ import annotations

from pipelines.ctl.render import instant, printable, table
from resources.engine.restore_plan import RestorePlan

HEAD = ("Shard", "From", "To", "Start", "End", "Size", "File")


def render_plan(plan: RestorePlan, target: str) -> str:
    """Every shard with its old and new place, what is left out, and the totals."""
    rows = [
        (
            str(shard.place.shard_id),
            printable(f"{shard.place.database}.{shard.place.policy}"),
            printable(f"{shard.new_database}.{shard.new_policy}"),
            instant(shard.place.group.start_time_ns),
            instant(shard.place.group.end_time_ns),
            str(shard.archive.entry.size_bytes),
            shard.archive.entry.file_name,
        )
        for shard in plan.shards
    ]
    lines = [table(HEAD, rows)] if rows else []
    for database in plan.databases:
        if not database.shards:
            lines.append(f"{printable(database.new_name)}: created empty")
        for query in database.continuous_queries:
            lines.append(f"{printable(database.new_name)}: {printable(query)}")
    lines += [f"note: {printable(note)}" for note in plan.notes]
    lines.append(
        f"{len(plan.databases)} databases and {len(plan.shards)} shards, {plan.size_bytes} bytes, "
        f"into {target}; new shard ids are the target's choice; nothing was changed"
    )
    return "\n".join(lines)
