"""What the UI shows beside an event: numbers as numbers, so that they plot over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd

from assets.tables import frame_table, table
from resources.engine.backup import BackupReport
from resources.engine.changes import ShardState
from resources.engine.merge import MergeReport
from resources.engine.merge_plan import MergePlan
from resources.engine.plan import BackupPlan
from resources.engine.restore import RestoreReport
from resources.engine.restore_plan import RestorePlan
from resources.engine.verify import Problem, VerifyReport
from resources.model import Metastore, ShardPlace
from resources.repository.evidence import BackupEvidence, FailedShard
from resources.repository.manifest import Manifest, ShardEntry
from resources.repository.names import BackupName, parse_file_name
from resources.repository.watched import WatchedRepository

Metadata = dict[str, Any]


def instant(ns: int | None) -> str:
    """An InfluxDB time in UTC, to the second; what calendars do not reach stays a number."""
    if ns is None:
        return "-"
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"


def stamp(ns: int | None) -> str:
    """The same as backups are named, for tables: browsers break lines at spaces and hyphens."""
    return instant(ns).replace(" UTC", "Z").replace(" ", "T").replace("-", "").replace(":", "")


# --- the source ---------------------------------------------------------------------------


def place_facts(place: ShardPlace) -> Metadata:
    return {
        "database": place.database,
        "retention_policy": place.policy,
        "shard_id": int(place.shard_id),
        "group_start": instant(place.group.start_time_ns),
        "group_end": instant(place.group.end_time_ns),
    }


def state_facts(state: ShardState) -> Metadata:
    """A shard at the source, and how it compares with its archive."""
    return {
        **place_facts(state.place),
        "state": "as in its archive" if not state.stale else _WHY.get(state.reason, state.reason),
    }


_WHY = {
    "new": "never backed up",
    "changed": "changed since its archive",
    "archive missing": "its archive is missing in the repository",
    "no evidence": "cannot be compared with its archive",
    "full": "cannot be compared: the server's HTTP does not answer",
}


def look_facts(plan: BackupPlan, partitions: Sequence[str]) -> Metadata:
    """A look at a whole server."""
    facts: Metadata = {
        "server": plan.address,
        "server_version": plan.facts.version or "unknown (no HTTP)",
        "cluster_id": str(plan.metastore.cluster_id),
        "databases": len(plan.metastore.databases),
        "shards": len(plan.states),
        "shards_to_copy": len(plan.to_copy),
        "shards_unchanged": len(plan.unchanged),
        "shards_planned_ahead": len(plan.absent),
        "shards_gone": len(partitions) - len(plan.states),
        "meta_bytes": len(plan.meta),
    }
    if plan.to_copy:
        facts["to_copy"] = table([state_facts(state) for state in plan.to_copy])
    return facts


def current_facts(plan: BackupPlan) -> Metadata:
    """How many shards are in their archives as they are, and which are not."""
    facts: Metadata = {"shards": len(plan.states), "shards_to_copy": len(plan.to_copy)}
    if plan.to_copy:
        facts["to_copy"] = table([state_facts(state) for state in plan.to_copy])
    return facts


def left_facts(shards: int, left: Sequence[ShardPlace]) -> Metadata:
    """The same after a backup: what it left, as far as looks have told."""
    facts: Metadata = {"shards": shards, "shards_to_copy": len(left)}
    if left:
        facts["to_copy"] = table([place_facts(place) for place in left])
    return facts


def glance_facts(metastore: Metastore, shards: int, changed: Sequence[ShardPlace]) -> Metadata:
    """What a sensor saw, which asks less than a look does."""
    return {
        "seen": "by the sensor",
        "cluster_id": str(metastore.cluster_id),
        "databases": len(metastore.databases),
        **left_facts(shards, changed),
    }


def copies_table(states: Sequence[ShardState]) -> dg.TableMetadataValue:
    """Shards whose copies differ, and what each owner says."""
    return table(
        [
            {
                **place_facts(state.place),
                "copies": ", ".join(
                    f"{copy.node}: {copy.size_bytes} bytes" for copy in state.copies
                ),
            }
            for state in states
        ]
    )


def gone_facts(gone: Sequence[ShardState]) -> Metadata:
    """Archives that a look missed."""
    problems = [
        Problem(state.previous.entry.file_name, "missing, or not as long as it was stored")
        for state in gone
        if state.previous is not None
    ]
    return {"problems_found": len(problems), "problems": problem_table(problems)}


def problem_table(problems: Sequence[Problem]) -> dg.TableMetadataValue:
    return table([{"file": one.file_name, "problem": one.what} for one in problems])


def verify_facts(report: VerifyReport) -> Metadata:
    """What was read, and what was found."""
    found: Metadata = {
        "manifests": report.manifests,
        "archives_read": report.archives,
        "bytes_read": report.size_bytes,
        "problems_found": len(report.problems),
    }
    if report.problems:
        found["problems"] = problem_table(report.problems)
    return found


def late_table(late: Sequence[ShardPlace], watched: WatchedRepository) -> dg.TableMetadataValue:
    """Shards without a backup that is young enough, and their last one."""
    return table(
        [
            {**place_facts(p), "last_backup": str(watched.last_covered(p.shard_id) or "none")}
            for p in late
        ]
    )


# --- backups ------------------------------------------------------------------------------


def archive_facts(
    entry: ShardEntry, location: str, source: BackupEvidence | None, *, how: str
) -> Metadata:
    """One shard's archive.

    Args:
        how: how it came about, seen from the run that records it.
    """
    named = parse_file_name(entry.file_name)
    facts: Metadata = {
        "database": entry.database,
        "retention_policy": entry.policy,
        "shard_id": int(entry.shard_id),
        "path": dg.MetadataValue.path(f"{location}/{entry.file_name}"),
        "copied": how,
        **({"made_at": dg.MetadataValue.timestamp(named.backup.started_at)} if named else {}),
    }
    evidence = entry.evidence
    if evidence is None:
        return {**facts, "tar_bytes": entry.size_bytes}
    facts |= {
        "bytes": evidence.stored_bytes,
        "tar_bytes": entry.size_bytes,
        "seconds": round(evidence.seconds, 3),
        "files": len(evidence.files),
        "first_point": instant(evidence.min_time_ns),
        "last_point": instant(evidence.max_time_ns),
        "group_start": instant(evidence.group_start_ns),
        "group_end": instant(evidence.group_end_ns),
        "tombstones_pending": evidence.tombstones,
        "node": evidence.node,
        "sha256": evidence.sha256,
        "checked": _CHECKED[evidence.checked],
    }
    if source is not None and source.source.version:
        facts["server_version"] = source.source.version
    if evidence.points is not None:
        facts["points"] = evidence.points
    if evidence.series is not None:
        facts["series"] = evidence.series
    return facts


_CHECKED = {
    "full": "full: every block's checksum, every point decoded",
    "structure": "structure: headers, indexes and sizes; blocks were not read",
}


def copied_facts(report: BackupReport, partitions: Sequence[str]) -> Metadata:
    """The server as a backup leaves it: what is not failed is as in its archive."""
    evidence = report.manifest.evidence
    shards = len(report.saved) + len(report.unchanged) + len(report.failed)
    facts: Metadata = {
        "cluster_id": str(report.metastore.cluster_id),
        "databases": len(report.metastore.databases),
        "shards": shards,
        "shards_to_copy": len(report.failed),
        "shards_unchanged": shards - len(report.failed),
        "shards_gone": len(partitions) - shards,
        "meta_bytes": report.manifest.meta.size_bytes,
        "seen": "by a backup, after its copies",
    }
    if evidence is not None:
        facts |= {
            "server": evidence.source.address,
            "server_version": evidence.source.version or "unknown (no HTTP)",
        }
    return facts


def failed_table(failed: Sequence[FailedShard]) -> dg.TableMetadataValue:
    return table([{"shard_id": int(f.shard_id), "why": f.why} for f in failed])


def set_facts(manifest_file: str, manifest: Manifest, location: str, kept: int) -> Metadata:
    """A whole backup: what its manifest lists.

    Args:
        kept: how many shards the repository can restore now, of this backup and earlier ones.
    """
    rows = [_row(entry) for entry in manifest.files]
    evidence = manifest.evidence
    facts: Metadata = {
        "manifest": dg.MetadataValue.path(f"{location}/{manifest_file}"),
        "restore_point": manifest_file.removesuffix(".manifest"),
        "covers": _covers(manifest),
        "made": "by this run",
        **_made_at(manifest_file),
        "shards_copied": len(manifest.files),
        "shards_unchanged": len(evidence.unchanged) if evidence else 0,
        "shards_failed": len(evidence.failed) if evidence else 0,
        "shards_restorable": kept,
        "bytes": sum(row["bytes"] for row in rows),
        "tar_bytes": sum(entry.size_bytes for entry in manifest.files),
        "points": sum(row["points"] for row in rows),
        "copy_seconds": round(sum(row["seconds"] for row in rows), 3),
        "tombstones_pending": sum(row["tombstones"] for row in rows),
    }
    if evidence is not None:
        facts |= {
            "strategy": evidence.strategy,
            "server": evidence.source.address,
            "server_version": evidence.source.version or "unknown",
        }
    if rows:
        frame = pd.DataFrame(rows)
        per_database = (
            frame.groupby(["database", "policy"], sort=True)
            .agg(shards=("shard", "count"), bytes=("bytes", "sum"), points=("points", "sum"))
            .reset_index()
        )
        facts["by_policy"] = frame_table(per_database)
        facts["shards_of_this_run"] = frame_table(frame)
    return facts


def _made_at(manifest_file: str) -> Metadata:
    named = BackupName.parse(manifest_file.removesuffix(".manifest"))
    return {"made_at": dg.MetadataValue.timestamp(named.started_at)} if named else {}


def _row(entry: ShardEntry) -> Metadata:
    evidence = entry.evidence
    return {
        "shard": int(entry.shard_id),
        "database": entry.database,
        "policy": entry.policy,
        "bytes": evidence.stored_bytes if evidence else 0,
        "points": (evidence.points or 0) if evidence else 0,
        "first point": stamp(evidence.min_time_ns if evidence else None),
        "last point": stamp(evidence.max_time_ns if evidence else None),
        "tombstones": evidence.tombstones if evidence else 0,
        "seconds": round(evidence.seconds, 3) if evidence else 0.0,
        "file": entry.file_name,
    }


def _covers(manifest: Manifest) -> str:
    limits = manifest.limits
    if not manifest.limited:
        return "the whole server"
    if not limits:
        return "chosen shards"
    parts = {"database": limits.database, "policy": limits.policy, "shard": limits.shard_id}
    return ", ".join(f"{kind} {value}" for kind, value in parts.items() if value not in ("", None))


# --- restores -----------------------------------------------------------------------------


def restore_plan_facts(plan: RestorePlan, target: str) -> Metadata:
    """What a restore would do."""
    facts: Metadata = {
        "target": target,
        "restore_point": plan.backup.newest.file_name.removesuffix(".manifest"),
        "meta_file": plan.backup.meta.file_name,
        "databases": ", ".join(
            f"{db.source.name} as {db.new_name}" if db.renamed else db.new_name
            for db in plan.databases
        ),
        "shards": len(plan.shards),
        "tar_bytes": plan.size_bytes,
    }
    if plan.notes:
        facts["notes"] = "\n".join(plan.notes)
    if plan.shards:
        facts["plan"] = table(
            [
                {
                    "shard": int(shard.place.shard_id),
                    "from": f"{shard.place.database}.{shard.place.policy}",
                    "to": f"{shard.new_database}.{shard.new_policy}",
                    "start": stamp(shard.place.group.start_time_ns),
                    "end": stamp(shard.place.group.end_time_ns),
                    "bytes": shard.archive.entry.size_bytes,
                    "file": shard.archive.entry.file_name,
                }
                for shard in plan.shards
            ]
        )
    return facts


def restore_facts(report: RestoreReport, target: str) -> Metadata:
    """What a restore did, and the proof."""
    facts = restore_plan_facts(report.plan, target)
    facts.pop("plan", None)
    facts["seconds"] = round(report.seconds, 3)
    if report.shards:
        facts["shards_restored"] = table(
            [
                {
                    "shard": int(done.restore.place.shard_id),
                    "new shard": int(done.new_shard_id),
                    "into": f"{done.restore.new_database}.{done.restore.new_policy}",
                    "read back": done.receipt.how,
                    "seconds": round(done.seconds, 3),
                    "receipt": done.receipt.content,
                }
                for done in report.shards
            ]
        )
    return facts


def restored_shard_facts(report: RestoreReport, target: str) -> Mapping[str, Metadata]:
    """By file name of its archive, each restored shard."""
    return {
        done.restore.archive.entry.file_name: {
            "target": target,
            "database": done.restore.new_database,
            "retention_policy": done.restore.new_policy,
            "new_shard_id": int(done.new_shard_id),
            "archive": done.restore.archive.entry.file_name,
            "tar_bytes": done.restore.archive.entry.size_bytes,
            "seconds": round(done.seconds, 3),
            "read_back": done.receipt.how,
            "receipt": done.receipt.content,
        }
        for done in report.shards
    }


def merge_plan_facts(plan: MergePlan, target: str) -> Metadata:
    """What a merge would do."""
    found = restore_plan_facts(plan.restore, target)
    found.pop("databases", None)
    found |= {"into": plan.into, "dry_run": True}
    if plan.points is not None:
        found["points"] = plan.points
    if plan.notes:
        found["notes"] = "\n".join(plan.notes)
    return found


def merge_facts(report: MergeReport, target: str) -> Metadata:
    """What a merge did."""
    return {
        "target": target,
        "into": report.into,
        "restore_point": report.backup.removesuffix(".manifest"),
        "points": report.points,
        "points_added": report.added,
        "points_replaced": report.replaced,
        "points_expired": report.expired,
        "shard_groups": report.groups,
        "resumed": report.resumed,
        "seconds": round(report.seconds, 3),
    }
