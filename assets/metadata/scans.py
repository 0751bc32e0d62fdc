"""Metadata of scans: a cluster's shards, and their problems."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from assets.metadata.common import Metadata, place_facts, stamp
from assets.metadata.tables import table
from assets.partitions import ShardKey
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.damaged import NEXT_STEP, describe_damage, lost_bytes
from resources.engine.backup.plan import BackupPlan
from resources.engine.verify.inventory import Problem
from resources.engine.verify.newest_points import Newest
from resources.engine.verify.restore_points import newest_whole
from resources.engine.verify.rpo import last_backup
from resources.engine.verify.verify import VerifyReport
from resources.errors import counted
from resources.model import Metastore, ShardID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.manifest_cache import ManifestCache


def state_facts(state: ShardState) -> Metadata:
    """A shard at the source, compared with its archive."""
    return {"state": _state(state), **place_facts(state.place)}


def _state(state: ShardState) -> str:
    return "as in its archive" if not state.stale else _WHY.get(state.reason, state.reason)


def _to_copy(states: Iterable[ShardState]) -> dg.TableMetadataValue:
    """Why each shard is to be copied: its archive, and the source now."""
    return table(
        [
            {
                "partition": str(ShardKey.of(state.place)),
                "state": _state(state) if not state.trouble else state.trouble,
                "group start": stamp(state.place.group.start_time_ns),
                "group end": stamp(state.place.group.end_time_ns),
                "archived": state.previous.manifest_file.removesuffix(".manifest")
                if state.previous
                else "never",
                "archived bytes": _archived(state),
                "bytes at source": state.copies[0].size_bytes if state.copies else None,
                "modified": stamp(state.modified_ns) if state.modified_ns else "-",
                "node": state.copies[0].node if state.copies else "-",
            }
            for state in states
        ]
    )


def _archived(state: ShardState) -> int | None:
    details = state.details
    return details.stored_bytes if details else None


_WHY = {
    "new": "never backed up",
    "changed": "changed since its archive",
    "archive missing": "its archive is missing in the repository",
    "no evidence": "cannot be compared with its archive",
    "full": "cannot be compared: the server's HTTP does not answer",
}


def scan_facts(plan: BackupPlan, gone: Mapping[str, Archive | None]) -> Metadata:
    """The metadata of a scan of a whole server.

    Args:
        gone: by partition, shards that it no longer has, and their archive.
    """
    facts: Metadata = {
        "server": plan.address,
        "server_version": plan.facts.version or "unknown (no HTTP)",
        "cluster_id": str(plan.metastore.cluster_id),
        "databases": len(plan.metastore.databases),
        "shards": len(plan.states),
        "shards_to_copy": len(plan.to_copy),
        "shards_unchanged": len(plan.unchanged),
        "shards_planned_ahead": len(plan.absent),
        "shards_gone": len(gone),
        "meta_bytes": len(plan.meta),
    }
    if plan.to_copy:
        facts["to_copy"] = _to_copy(plan.to_copy)
    if gone:
        facts["gone"] = table(
            [
                {"partition": key, "newest archive": one.entry.file_name if one else "deleted"}
                for key, one in gone.items()
            ]
        )
    return facts


def current_facts(plan: BackupPlan) -> Metadata:
    """How many shards have an up-to-date archive, and which have not."""
    facts: Metadata = {"shards": len(plan.states), "shards_to_copy": len(plan.to_copy)}
    if plan.to_copy:
        facts["to_copy"] = _to_copy(plan.to_copy)
    return facts


def left_facts(shards: int, left: Sequence[ShardPlace]) -> Metadata:
    """The same after a backup: the shards that are left, as far as scans have recorded."""
    facts: Metadata = {"shards": shards, "shards_to_copy": len(left)}
    if left:
        facts["to_copy"] = table(
            [
                {
                    "partition": str(ShardKey.of(place)),
                    "group start": stamp(place.group.start_time_ns),
                    "group end": stamp(place.group.end_time_ns),
                }
                for place in left
            ]
        )
    return facts


def fingerprint_facts(metastore: Metastore, shards: int, changed: Sequence[ShardPlace]) -> Metadata:
    """The result of a sensor's poll, which reads less than a scan."""
    return {
        "seen": "by the sensor",
        "cluster_id": str(metastore.cluster_id),
        "databases": len(metastore.databases),
        **left_facts(shards, changed),
    }


def copies_facts(plan: BackupPlan) -> Metadata:
    """The shards that differ between their owners, and how many could be compared."""
    found = plan.copies
    facts: Metadata = {
        "shards": len(plan.states),
        "shards_compared": found.compared,
        "shards_differing": len(found.differing),
    }
    if found.differing:
        places = {state.place.shard_id: state.place for state in plan.states}
        facts["differing"] = table(
            [
                {
                    **place_facts(places[shard_id]),
                    "copies": ", ".join(f"{c.node}: {c.size_bytes or 0} bytes" for c in copies),
                }
                for shard_id, copies in found.differing.items()
            ]
        )
    return facts


def gone_facts(plan: BackupPlan, known: dg.AssetCheckEvaluation | None) -> Metadata:
    """Archives that a scan found missing.

    Args:
        known: the last evaluation; its problems were not read again, so they remain.
    """
    problems = [
        Problem(state.previous.entry.file_name, "missing, or not as long as it was stored")
        for state in plan.to_copy
        if state.reason == "archive missing" and state.previous is not None
    ]
    files = {problem.file_name for problem in problems}
    earlier = [row for row in problem_rows(known) if row["file"] not in files]
    rows = [*_problem_rows(problems), *earlier]
    return {"problems_found": len(rows), "problems": table(rows)}


def problem_rows(known: dg.AssetCheckEvaluation | None) -> list[dict[str, Any]]:
    """The problems in the table of an evaluation."""
    found = known.metadata.get("problems") if known and not known.passed else None
    return (
        [dict(row.data) for row in found.records]
        if isinstance(found, dg.TableMetadataValue)
        else []
    )


def _problem_rows(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [{"file": one.file_name, "problem": one.what} for one in problems]


def problem_table(problems: Sequence[Problem]) -> dg.TableMetadataValue:
    return table(_problem_rows(problems))


def verify_facts(report: VerifyReport, known: dg.AssetCheckEvaluation | None) -> Metadata:
    """The result of a verification.

    Args:
        known: the evaluation before it.
    """
    whole = report.archives == report.listed and report.points
    found: Metadata = {
        "manifests": report.manifests,
        "archives": report.listed,
        "archives_read": report.archives,
        "bytes_read": report.size_bytes,
        "problems_found": len(report.problems),
        READ_BACK: report.points[-1].name if whole else _read_back(known),
    }
    if report.problems:
        found["problems"] = problem_table(report.problems)
        found["newest_whole_restore_point"] = newest_whole(report.points) or "none"
    return found


READ_BACK = "read_back_up_to"
"""The newest backup when all archives were last read; `never` if they were not."""


def _read_back(known: dg.AssetCheckEvaluation | None) -> str:
    found = known.metadata.get(READ_BACK) if known else None
    return str(found.value) if found else "never"


def unread_archives(
    archives: Iterable[Archive], known: dg.AssetCheckEvaluation | None
) -> list[Archive]:
    """The archives that were made since all were last read."""
    until = _read_back(known)
    if until == "never":
        return list(archives)
    return [a for a in archives if a.manifest_file > f"{until}.manifest"]


def unread_facts(archives: int, unread: int, known: dg.AssetCheckEvaluation | None) -> Metadata:
    """The state of our own archives that were not read since they were made."""
    return {
        "archives": archives,
        "archives_not_read_back": unread,
        READ_BACK: _read_back(known),
        "how": f"of {counted(archives, 'archive')}, {unread} were checked while a backup made them "
        "and not read from the directory since; the verify job reads them",
    }


def damage_facts(archives: Iterable[Archive]) -> Metadata:
    """The archives with parts that were damaged at their source, and the next step."""
    known = list(archives)
    damaged = [a for a in known if a.entry.details is not None and a.entry.details.damaged]
    found: Metadata = {
        "archives": len(known),
        "archives_damaged": len(damaged),
        "archives_without_details": sum(a.entry.details is None for a in known),
    }
    if damaged:
        found["damaged"] = table([_damaged_row(archive) for archive in damaged])
        found["next_step"] = NEXT_STEP
    return found


def _damaged_row(archive: Archive) -> dict[str, Any]:
    entry = archive.entry
    files = entry.details.damaged if entry.details is not None else ()
    whole = max((file.damage.whole_in for file in files if file.damage is not None), default="")
    return {
        "database": entry.database,
        "retention_policy": entry.policy,
        "shard_id": str(entry.shard_id),
        "node": entry.details.node if entry.details is not None else "",
        "lost_bytes": lost_bytes(files),
        "what": describe_damage(files),
        "whole_in": whole.removesuffix(".manifest") or "none",
        "file": entry.file_name,
    }


def late_table(late: Sequence[ShardPlace], cached: ManifestCache) -> dg.TableMetadataValue:
    """Shards without a recent enough backup, and their last one."""
    return table(
        [
            {**place_facts(p), "last_backup": str(cached.last_covered(p.shard_id) or "none")}
            for p in late
        ]
    )


def loss_window_facts(
    newest: Sequence[Newest],
    cached: ManifestCache,
    changed: Sequence[ShardPlace],
    gone: Collection[ShardID],
    *,
    now: datetime,
) -> Metadata:
    """What would be lost with the source.

    Args:
        newest: the newest points, by policy.
        changed: shards that differ from their archives.
        gone: those of them whose archive is missing.
    """
    facts: Metadata = {"shards_changed": len(changed), "archives_missing": len(gone)}
    backups = [last_backup(cached, place) for place in changed]
    covered = [name.started_at for name in backups if name is not None]
    if len(covered) == len(changed) and not gone:
        facts["lost_seconds"] = max(((now - at).total_seconds() for at in covered), default=0.0)
    else:
        facts["lost"] = f"everything in {counted(len(changed) - len(covered) + len(gone), 'shard')}"
    behind = [one.behind_s for one in newest if one.behind_s is not None]
    if behind:
        facts["newest_point_behind_seconds"] = max(behind)
    if newest:
        facts["newest_points"] = table(
            [
                {
                    "database": one.database,
                    "policy": one.policy,
                    "shards changed": one.changed,
                    "newest saved": stamp(one.saved_ns),
                    "newest at source": one.why or stamp(one.source_ns),
                    "behind seconds": one.behind_s,
                }
                for one in newest
            ]
        )
    return facts
