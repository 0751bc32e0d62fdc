"""`backup -estimate`: what a backup would copy, as a table."""

from __future__ import annotations

from pipelines.ctl.render import go_duration, printable, table
from resources.engine.backup.batch_plan import expected_bytes
from resources.engine.backup.plan import BackupPlan
from resources.errors import counted

HEAD = ("Shard", "Database", "Policy", "Node", "Why", "Size")


def render_estimate(plan: BackupPlan, seconds_per_byte: float | None) -> str:
    """One line for each shard to copy, then the totals; sizes in bytes, "-" if unknown."""
    sizes = [expected_bytes(plan, state) for state in plan.to_copy]
    rows = [
        (
            str(state.place.shard_id),
            printable(state.place.database),
            printable(state.place.policy),
            state.copies[0].node if state.copies else "-",
            state.trouble or state.reason,
            "-" if size is None else str(size),
        )
        for state, size in zip(plan.to_copy, sizes, strict=True)
    ]
    total = sum(size for size in sizes if size is not None)
    lines = [table(HEAD, rows)] if rows else []
    lines.append(
        f"{counted(len(rows), 'shard')} to copy, {total} bytes on disk; {len(plan.unchanged)} "
        "unchanged; nothing was copied"
    )
    if seconds_per_byte is not None and rows:
        lines.append(
            f"about {go_duration(round(total * seconds_per_byte, 1))} at the speed of the "
            "existing archives, one after the other"
        )
    return "\n".join(lines)
