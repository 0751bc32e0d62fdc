"""`restore -plan`: what a restore would do, as a table or as JSON (docs/restore-plan.md)."""

from __future__ import annotations

import json

from pipelines.ctl.render import instant, printable, table
from resources.engine.restore.check import describe_deletes
from resources.engine.restore.preview import RestorePreview, ShardPreview
from resources.errors import counted
from resources.protocol.times import format_time

JSON_VERSION = 1
HEAD = (
    "Shard",
    "To",
    "From",
    "Into",
    "Start",
    "End",
    "Expires",
    "Values",
    "Size",
    "Owners",
    "File",
)


def render_plan(preview: RestorePreview) -> str:
    """Every shard with its old and new place, what is in the way or left out, and the totals."""
    lines = [table(HEAD, [_row(shard) for shard in preview.shards])] if preview.shards else []
    for database in preview.databases:
        if not database.shards:
            lines.append(f"{printable(database.name)}: created empty")
        for query in database.continuous_queries:
            lines.append(f"{printable(database.name)}: {printable(query)}")
    lines += [f"note: {printable(note)}" for note in preview.plan.notes]
    if preview.plan.deleted_ranges:
        keep = preview.plan.keep_tombstoned
        lines.append(f"note: {describe_deletes(preview.plan.deleted_ranges, keep=keep)}")
    for conflict in preview.conflicts:
        hint = f" ({conflict.hint})" if conflict.hint else ""
        lines.append(f"conflict: {printable(str(conflict) + hint)}")
    ids = (
        "the target chooses new shard numbers; these are the ones it would choose now"
        if preview.target_kind == "server"
        else "new shard numbers hold if no client creates shards before the restore"
    )
    lines.append(
        f"{counted(len(preview.databases), 'database')} and "
        f"{counted(len(preview.shards), 'shard')}, {preview.plan.size_bytes} bytes, "
        f"{preview.copied_bytes} with all copies, into {preview.target}; {ids}; nothing was changed"
    )
    return "\n".join(lines)


def _row(shard: ShardPreview) -> tuple[str, ...]:
    restore = shard.restore
    group, entry = restore.place.group, restore.archive.entry
    points = None if entry.details is None else entry.details.points
    return (
        str(restore.place.shard_id),
        "-" if shard.new_shard_id is None else str(shard.new_shard_id),
        printable(f"{restore.place.database}.{restore.place.policy}"),
        printable(f"{restore.database}.{restore.policy}"),
        instant(group.start_time_ns),
        instant(group.end_time_ns),
        "at once" if shard.expired else instant(shard.expires_at_ns),
        "-" if points is None else str(points),
        str(entry.size_bytes),
        ",".join(printable(owner.tcp_addr) for owner in shard.owners) or "-",
        entry.file_name,
    )


def plan_json(preview: RestorePreview) -> str:
    """The same for machines; the schema is docs/restore-plan.md."""
    backup = preview.plan.backup
    return json.dumps(
        {
            "version": JSON_VERSION,
            "possible": not preview.conflicts,
            "target": {"kind": preview.target_kind, "address": preview.target},
            "backup": {"manifest": backup.newest.file_name, "meta": backup.meta.file_name},
            "conflicts": [
                {"what": str(error), "hint": error.hint, "status": int(error.exit_code)}
                for error in preview.conflicts
            ],
            "databases": [
                {
                    "name": database.source.name,
                    "new_name": database.name,
                    "shards": len(database.shards),
                    "policies": [
                        {
                            "name": rp.name,
                            "new_name": database.new_policy or rp.name,
                            "duration_ns": database.durations.get(rp.name, rp.duration_ns),
                            "shard_group_duration_ns": rp.shard_group_duration_ns,
                        }
                        for rp in database.policies
                    ],
                    "continuous_queries": list(database.continuous_queries),
                }
                for database in preview.databases
            ],
            "shards": [_shard_json(shard) for shard in preview.shards],
            "left_out": list(preview.plan.notes),
            "totals": {
                "databases": len(preview.databases),
                "shards": len(preview.shards),
                "size_bytes": preview.plan.size_bytes,
                "copied_bytes": preview.copied_bytes,
            },
        },
        indent=2,
    )


def _shard_json(shard: ShardPreview) -> dict[str, object]:
    restore = shard.restore
    group, entry = restore.place.group, restore.archive.entry
    details = entry.details
    return {
        "shard": restore.place.shard_id,
        "new_shard": shard.new_shard_id,
        "database": restore.place.database,
        "policy": restore.place.policy,
        "new_database": restore.database,
        "new_policy": restore.policy,
        "start": format_time(group.start_time_ns),
        "end": format_time(group.end_time_ns),
        "expires": None if shard.expires_at_ns is None else format_time(shard.expires_at_ns),
        "expired": shard.expired,
        "points": None if details is None else details.points,
        "pending_deletes": None if details is None else details.tombstones,
        "size_bytes": entry.size_bytes,
        "owners": [{"node": owner.id, "tcp_addr": owner.tcp_addr} for owner in shard.owners],
        "file": entry.file_name,
        "manifest": restore.archive.manifest_file,
    }
